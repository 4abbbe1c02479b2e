"""What a backend uses of the broker in this process: queue, table and topic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tranship.backends.memory._broker import Hearer, MemoryBroker, Space
from tranship.backends.memory._loops import Wake, call_on
from tranship.backends.memory._queue import Entry
from tranship.driver import (
    Answer,
    End,
    Ending,
    Heard,
    LocalConnection,
    Outgoing,
    QueueTraits,
    Row,
    Slot,
    Stored,
    Taken,
    TakenBatch,
    Undo,
)
from tranship.ports import CountKind, QueueInfo, Settled

__all__ = ["MemoryConnection", "MemoryQueue"]

Claim = tuple[Entry, int]
"""A token: the entry, and the number of the claim that was made on it."""


UntilClosed = Callable[[Undo], Undo]
MakeQueue = Callable[[Space, UntilClosed], "MemoryQueue"]


class MemoryConnection(LocalConnection):
    """Queue, table and topic of one namespace, for one backend.

    Args:
        broker: whose they are.
        space: of the namespace.
        make_queue: makes its queue of the space and of what keeps something until the connection is closed.
    """

    def __init__(self, broker: MemoryBroker, space: Space, make_queue: MakeQueue) -> None:
        self._space = space
        self._undos: dict[object, Undo] = {}
        queue = make_queue(space, self._until_closed)
        self._topic = MemoryTopic(space)
        super().__init__(queue, MemoryTable(space), self._topic, native=broker, immediate=True)

    async def aclose(self) -> None:
        """Tell nobody any more."""
        self._topic.close()
        for undo in tuple(self._undos.values()):
            undo()

    def _until_closed(self, undo: Undo) -> Undo:
        """Return ``undo`` as something that is done when we are closed, at the latest, and once."""
        mark = object()

        def once() -> None:
            if self._undos.pop(mark, None) is not None and not self._space.guard.foreign:
                with self._space.guard:
                    undo()

        self._undos[mark] = once
        return once


class MemoryQueue:
    """All queues of a namespace; everything is one step, under the broker's lock."""

    def __init__(self, space: Space, until_closed: UntilClosed, *, lease: float, aging: float) -> None:
        self._space, self._until_closed = space, until_closed
        self._lease, self._aging = lease, aging
        self.traits = QueueTraits(
            lease=lease,
            counts=CountKind.EXACT,
            order="keeps-place",
            levels=True,
            delays=True,
            unique=True,
            fuses=True,
            tells=True,
        )

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Add messages, each unless it is a duplicate."""
        with self._space.guard:
            return [self._send(message) for message in batch]

    def _send(self, message: Outgoing) -> str | None:
        space = self._space
        if message.unless is not None and (space.row(message.unless) is not None or space.stock.knows(message.id)):
            return message.id
        if message.first is not None:
            first = space.create(message.first)
            if first is not None and first != message.first.value:
                return first.decode()
        space.stock.add(message)
        if space.submitted is not None:
            space.submitted(message)
        return None

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:  # noqa: ARG002 - looks once
        """Claim what is ready; say when something will be."""
        queues = list(dict.fromkeys([queue for queue, _ in slots]))
        with self._space.guard:
            entries = self._space.stock.take(queues, limit, lease=self._lease, aging=self._aging)
            due = None if entries else self._space.stock.next_due(queues)
            return TakenBatch([_taken(entry) for entry in entries], next_due=due)

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled]:
        """End what is ours, with everything that belongs to it."""
        with self._space.guard:
            return [self._end(one) for one in endings]

    def _end(self, ending: Ending) -> Settled:
        entry: Entry = ending.token[0]
        if not self._is_ours(ending.token):
            return Settled.LOST
        for row in ending.rows:
            self._space.create(row)
        if ending.end is End.REMOVE:
            self._space.stock.remove(entry)
        else:
            entry.count -= ending.end is End.RELEASE
            self._space.stock.restore(entry)
        for message in ending.then:
            self._space.stock.add(message)
        return Settled.CONFIRMED

    def _is_ours(self, token: Claim) -> bool:
        return self._space.stock.holds(*token)

    async def renew(self, tokens: Sequence[Claim]) -> Sequence[bool]:
        """Let claims last for one lease from now."""
        with self._space.guard:
            ours = [self._is_ours(token) for token in tokens]
            for (entry, _), is_ours in zip(tokens, ours, strict=True):
                if is_ours:
                    self._space.stock.renew(entry, self._lease)
            return ours

    def watch(self, slots: Sequence[Slot], heard: Callable[[], None]) -> Undo:
        """Wake ``heard`` on its loop."""
        wake = Wake(heard).ring
        with self._space.guard:
            self._space.stock.join(wake, {queue for queue, _ in slots})
        return self._until_closed(lambda: self._space.stock.part(wake))

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> Sequence[Stored]:
        """Look up messages."""
        with self._space.guard:
            return [self._stored(entry) for entry in self._space.stock.find(ids, set(cancel_keys))]

    async def scan(self, queue: str, state: str, limit: int) -> Sequence[Stored]:
        """Look through one queue."""
        with self._space.guard:
            return [self._stored(entry) for entry in self._space.stock.scan(queue, state)[:limit]]

    async def pick(self, refs: Sequence[Entry]) -> Sequence[Taken]:
        """Claim exactly these."""
        with self._space.guard:
            stock = self._space.stock
            return [_taken(entry) for entry in refs if stock.claim(entry, self._lease)]

    async def queues(self) -> Sequence[QueueInfo]:
        """Count messages."""
        with self._space.guard:
            return self._space.stock.infos()

    def _stored(self, entry: Entry) -> Stored:
        return Stored(entry, entry.message.facts, self._space.stock.state(entry))


def _taken(entry: Entry) -> Taken:
    facts = entry.message.facts
    return Taken((entry, entry.token), facts.queue, facts.level, entry.message, entry.count)


class MemoryTable:
    """Rows of a namespace."""

    def __init__(self, space: Space) -> None:
        self._space = space

    async def create(self, rows: Sequence[Row]) -> Sequence[bytes | None]:
        """Write those that are not there."""
        with self._space.guard:
            return [self._space.create(row) for row in rows]

    async def put(self, rows: Sequence[Row], if_version: Sequence[int] | None = None) -> Sequence[int | None]:
        """Write those that are there in the right version."""
        with self._space.guard:
            fits = self._space.fits([row.key for row in rows], if_version)
            return [self._space.write(row) if fit else None for row, fit in zip(rows, fits, strict=True)]

    async def get(self, keys: Sequence[str]) -> Sequence[Row | None]:
        """Read rows."""
        with self._space.guard:
            return [self._space.row(key) for key in keys]

    async def delete(self, keys: Sequence[str], if_version: Sequence[int] | None = None) -> Sequence[bool]:
        """Delete those that are there in the right version."""
        with self._space.guard:
            fits = self._space.fits(keys, if_version)
            return [fit and self._space.delete(key) for key, fit in zip(keys, fits, strict=True)]

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[Row]:
        """Read a page."""
        with self._space.guard:
            return self._space.rows(prefix, after, limit)


class MemoryTopic:
    """Signals of a namespace, from any thread to the loop of who hears them.

    Mutable state: who hears what, and what has not been told yet; changed only under the broker's lock.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hearers: dict[Heard, Hearer] = {}
        self._untold: list[tuple[Hearer, str, bytes]] = []

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Tell everybody who has subscribed."""
        with self._space.guard:
            for name, value in items:
                self._space.tell(name, value)

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Tell ``heard`` on its loop."""
        self._loop = asyncio.get_running_loop()
        hearer = self._hearers.get(heard)
        if hearer is None:
            hearer = self._hearers[heard] = Hearer(heard, self._tell)
        with self._space.guard:
            self._space.hear(hearer, names)

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Tell it no more."""
        hearer = self._hearers.get(heard)
        if hearer is not None and not self._space.guard.foreign:
            with self._space.guard:
                self._space.hear_no_more(hearer, names)

    async def active(self) -> None:
        """It is at once."""

    def close(self) -> None:
        """Tell nobody any more."""
        for hearer in self._hearers.values():
            self.unsubscribe(list(hearer.names), hearer.heard)

    def _tell(self, hearer: Hearer, name: str, value: bytes) -> None:
        """Tell one soon, with whatever is told until then; from any thread, under the lock."""
        self._untold.append((hearer, name, value))
        if len(self._untold) == 1 and self._loop is not None and not call_on(self._loop, self._tell_all):
            self._untold.clear()

    def _tell_all(self) -> None:
        with self._space.guard:
            untold, self._untold = self._untold, []
        for hearer, name, value in untold:
            if name in hearer.names:
                hearer.heard(name, value)
