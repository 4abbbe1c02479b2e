"""The ports of the memory backend: thin shells around one namespace's state.

None of their methods really waits, but for ``MemoryConsumer.receive``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from tranship.backends.memory._loops import Bell, Outbox
from tranship.backends.memory._queue import Entry
from tranship.backends.memory._space import Claim, Defaults, Space
from tranship.envelope import Receipt
from tranship.errors import ClosedError, InvalidOptionError, MessageTooLarge, TranshipError
from tranship.guards import OneReceiver, one_listener
from tranship.ports import (
    CancelReport,
    Command,
    Delivery,
    Heartbeat,
    Received,
    ResultSink,
    Settled,
    Settlement,
    Signal,
    SignalSink,
    StoredResult,
    Tombstone,
    Verdict,
)
from tranship.protocol import Message

_SHORTEST_TIMER = 0.001


class Gate:
    """The state of a namespace as long as the backend is open."""

    def __init__(self, space: Space, defaults: Defaults, limit: int) -> None:
        self.defaults = defaults
        self.limit = limit
        self._space = space
        self._open = True

    @property
    def foreign(self) -> bool:
        """Whether this process is a fork of the one that the state belongs to."""
        return self._space.guard.foreign

    def close(self) -> None:
        """Let nobody in any more."""
        self._open = False

    @contextmanager
    def enter(self) -> Iterator[Space]:
        """Lend the state, locked.

        Raises:
            ClosedError: the backend is closed, or this process is a fork of its own.
        """
        with self._space.guard:
            if not self._open:
                raise ClosedError("the memory backend is closed; open a new one")
            yield self._space

    @contextmanager
    def leave(self) -> Iterator[Space]:
        """Lend the state, locked, to undo what was done while it was open."""
        with self._space.guard:
            yield self._space


class MemorySubmitter:
    """Appends messages to queues."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def max_message_size(self) -> int:
        """The limit on body plus encoded headers in bytes."""
        return self._gate.limit

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Store every message and say of each, in order, what became of it."""
        with self._gate.enter() as space:
            return [self._submit(space, message) for message in messages]

    def _submit(self, space: Space, message: Message) -> Receipt | TranshipError:
        if message.size > self._gate.limit:
            return too_large(message.envelope.id, message.size, self._gate.limit)
        return space.submit(message, self._gate.defaults.dedup_window)


def too_large(task_id: str, size: int, limit: int) -> MessageTooLarge:
    """The error for a message or a result document of ``size`` bytes."""
    return MessageTooLarge(
        f"{size} bytes are more than the {limit} this backend takes; raise max_message_size, "
        "or pass a reference instead of the data",
        size=size,
        limit=limit,
        task_id=task_id,
    )


class MemoryConsumer:
    """Takes messages; woken by submits, due times and ended leases."""

    hard_limit: float | None = None

    def __init__(self, gate: Gate, queues: Sequence[str]) -> None:
        self._gate = gate
        self._rotation = list(dict.fromkeys(queues))
        self._held: set[Delivery] = set()
        self._bell = Bell()
        self._alone = OneReceiver()
        self._closed = False
        with gate.enter() as space:
            space.stock.join(self._bell, self._rotation)

    @property
    def lease(self) -> float | None:
        """How long a delivery is ours without :meth:`extend`, in seconds."""
        return self._gate.defaults.lease

    async def receive(self, limit: int, wait: float, *, skip: Collection[str] = ()) -> Received:
        """Return up to ``limit`` deliveries, as soon as there is at least one."""
        with self._alone:
            return await self._receive(limit, wait, skip)

    async def _receive(self, limit: int, wait: float, skip: Collection[str]) -> Received:
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while True:
            deliveries, due = self._take(limit, skip)
            left = end - loop.time()
            if deliveries or left <= 0:
                # Nothing is awaited between taking and returning: a cancelled call has taken nothing.
                return Received(deliveries)
            await self._bell.wait(left if due is None else min(left, max(due, _SHORTEST_TIMER)))

    def _take(self, limit: int, skip: Collection[str]) -> tuple[list[Delivery], float | None]:
        with self._enter() as space:
            self._bell.arm()
            entries = space.take(self._rotation, skip, limit, self._gate.defaults)
            deliveries = [_delivery(entry) for entry in entries]
            self._held.update(deliveries)
            return deliveries, space.stock.next_due(name for name in self._rotation if name not in skip)

    async def receive_early(self, limit: int) -> Received:
        """Return up to ``limit`` messages that are not due yet."""
        with self._enter() as space:
            entries = space.stock.take_early(self._rotation, limit, lease=self._gate.defaults.lease)
            deliveries = [_delivery(entry) for entry in entries]
            self._held.update(deliveries)
            return Received(deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give untouched deliveries back, at the front, at once, not counted."""
        with self._enter() as space:
            for delivery in deliveries:
                self._held.discard(delivery)
                space.release(delivery)

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Renew leases by one full lease from now; say of each whether it is still ours."""
        with self._enter() as space:
            ours = [space.extend(delivery, self._gate.defaults.lease) for delivery in deliveries]
        self._held.difference_update(delivery for delivery, held in zip(deliveries, ours, strict=True) if not held)
        return ours

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        """Carry out verdicts, each in one step with its result."""
        for settlement in settlements:
            if (settlement.verdict is Verdict.REPLACE) is (settlement.replacement is None):
                raise InvalidOptionError(f"{settlement.verdict} and replacement belong together; give both or neither")
        with self._enter() as space:
            self._held.difference_update(settlement.delivery for settlement in settlements)
            return [space.settle(settlement, self._gate.defaults.result_ttl) for settlement in settlements]

    async def aclose(self) -> None:
        """Stop receiving and release what is held."""
        if self._closed or self._gate.foreign:
            return
        self._closed = True
        with self._gate.leave() as space:
            space.stock.part(self._bell)
            self._bell.ring()
            for delivery in self._held:
                space.release(delivery)
            self._held.clear()

    @contextmanager
    def _enter(self) -> Iterator[Space]:
        with self._gate.enter() as space:
            if self._closed:
                raise ClosedError("the consumer is closed; make a new one")
            yield space


def _delivery(entry: Entry) -> Delivery:
    message = entry.message
    return Delivery(
        message.raw(), message.envelope.queue, message.envelope.priority, Claim(entry, entry.token), entry.count
    )


class MemoryResultStore:
    """Keeps terminal results and pushes them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._sink: ResultSink | None = None
        self._outbox: Outbox[StoredResult] = Outbox(self._deliver)
        self._expected: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many ids this store expects; for statistics and tests."""
        return len(self._expected)

    def attach(self, sink: ResultSink) -> None:
        """Say where pushed results go."""
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """From now on push the terminal results of ``ids``."""
        with self._gate.enter() as space:
            self._expected.update(ids)
            space.results.expect(ids, self._outbox)

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids`` any more."""
        with self._gate.enter() as space:
            self._expected.difference_update(ids)
            space.results.unexpect(ids, self._outbox)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store terminal results; True: won, False: another one was there first and stays."""
        for result in results:
            if len(result.document) > self._gate.limit:
                raise too_large(result.id, len(result.document), self._gate.limit)
        with self._gate.enter() as space:
            return [space.results.put(result, ttl=self._gate.defaults.result_ttl) for result in results]

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of each id, in order."""
        with self._gate.enter() as space:
            return [space.read(task_id) for task_id in ids]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results; ids without one are ignored."""
        with self._gate.enter() as space:
            for task_id in ids:
                space.results.forget(task_id)

    def close(self) -> None:
        """Expect nothing any more."""
        self._outbox.close()
        with self._gate.leave() as space:
            space.results.unexpect(tuple(self._expected), self._outbox)
            self._expected.clear()

    def _deliver(self, results: Sequence[StoredResult]) -> None:
        self._expected.difference_update(result.id for result in results)
        if self._sink is not None:
            self._sink(results)


class MemoryControl:
    """Tombstones, commands and heartbeats."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._outbox: Outbox[Signal] | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Hand every live tombstone to ``sink``, then what comes."""
        one_listener(self._outbox)
        with self._gate.enter() as space:
            self._outbox = Outbox(sink)
            replay = space.signals.listen(self._outbox, worker)
        if replay:
            # Later signals come through the loop, hence behind these.
            sink(replay)

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Keep tombstones, remove what is still queued, and tell listeners."""
        with self._gate.enter() as space:
            return CancelReport(removed=space.cancel(tombstones, self._gate.defaults.result_ttl))

    async def send(self, command: Command) -> None:
        """Tell listening workers."""
        with self._gate.enter() as space:
            space.signals.send(command)

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make the worker known for a minute."""
        with self._gate.enter() as space:
            space.signals.beat(heartbeat)

    def close(self) -> None:
        """End the feed."""
        if self._outbox is not None:
            self._outbox.close()
            with self._gate.leave() as space:
                space.signals.leave(self._outbox)
