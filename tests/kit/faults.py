"""Memory backends with one fault each, and the case that has to notice it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tranship.backends.memory import MemoryBackend
from tranship.backends.memory._ports import (
    Gate,
    MemoryConsumer,
    MemoryControl,
    MemoryResultStore,
    MemorySubmitter,
)
from tranship.envelope import Priority, Receipt
from tranship.ports import Received, Settled, Settlement, StoredResult
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.harness import Harness


@dataclass(frozen=True)
class Fault:
    """One way to be wrong."""

    name: str
    caught_by: str
    backend: Callable[[BackendConfig], MemoryBackend]
    also: tuple[str, ...] = ()
    """Other cases that have to notice it, too."""


class FaultyHarness(Harness):
    def __init__(self, factory: Callable[[BackendConfig], MemoryBackend]) -> None:
        super().__init__("memory://faulty")
        if factory is not MemoryBackend:
            self.patience = 1.5  # what a fault swallows never comes
        self._factory = factory

    def make_backend(self, url: str) -> MemoryBackend:
        return self._factory(BackendConfig(BrokerURL.parse(url), self.shared))


def with_consumer(kind: type[MemoryConsumer]) -> type[MemoryBackend]:
    class Faulty(MemoryBackend):
        def consumer(self, queues):
            consumer = kind(self._use().gate, queues)
            self._consumers.append(consumer)
            return consumer

    return Faulty


def with_port(name: str, kind: Callable[[Gate], Any]) -> type[MemoryBackend]:
    class Faulty(MemoryBackend):
        async def open(self):
            await super().open()
            setattr(self._opened, name, kind(self._opened.gate))

    return Faulty


class DropOnCrash(MemoryConsumer):
    """Acknowledges what it hands out, as a plain BRPOP does."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        with self._gate.enter() as space:
            for delivery in received.deliveries:
                space.stock.remove(delivery.token.entry)
                self._held.discard(delivery)
        return received

    async def settle(self, settlements):
        return [Settled.CONFIRMED for _ in settlements]


class AckBeforeStore(MemoryConsumer):
    """Acknowledges, and has not stored the result when it says so."""

    async def settle(self, settlements):
        return await super().settle([Settlement(one.delivery, one.verdict) for one in settlements])


class NoLease(MemoryConsumer):
    """Promises a lease and never ends it."""

    def __init__(self, gate, queues):
        super().__init__(gate, queues)
        self._gate = _EndlessGate(gate)


class _EndlessGate(Gate):
    def __init__(self, gate):
        super().__init__(gate._space, replace(gate.defaults, lease=1e9), gate.limit)


class WrongLevelOrder(MemoryConsumer):
    """Serves the least urgent level first."""

    @contextmanager
    def _enter(self):
        with super()._enter() as space:
            for queue in space.stock._queues.values():
                queue._ready = {level: queue._ready[level] for level in reversed(Priority)}
            yield space


class DoubleDelivery(MemoryConsumer):
    """Hands one message to two: every seventh stays ready although it was taken."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        with self._gate.enter() as space:
            for delivery in received.deliveries:
                entry = delivery.token.entry
                if entry.place % 7 == 0 and entry.count == 1:
                    space.stock.restore(entry)
        return received

    async def settle(self, settlements):
        answers = await super().settle(settlements)
        return [Settled.CONFIRMED for _ in answers]


class LostDedupWindow(MemorySubmitter):
    """Forgets dedup keys as soon as the batch is over."""

    async def submit(self, messages):
        answers = await super().submit(messages)
        with self._gate.enter() as space:
            space._keys._values.clear()
            space._keys._ends._keys.clear()
        return answers


class LeakedWaiter(MemoryResultStore):
    """Pushes no more what is unexpected, but remembers it for ever."""

    def unexpect(self, ids):
        expected = set(self._expected)
        super().unexpect(ids)
        self._expected = expected


class LateWrite(MemoryResultStore):
    """Lets the last writer win."""

    async def put(self, results):
        with self._gate.enter() as space:
            for result in results:
                space.results.forget(result.id)
        return await super().put(results)


class UnfencedSettle(MemoryConsumer):
    """Settles for whoever asks, owner or not."""

    async def settle(self, settlements):
        with self._gate.enter() as space:
            for one in settlements:
                entry = one.delivery.token.entry
                one.delivery.token = replace(one.delivery.token, number=entry.token)
                space.owned(one.delivery)
        return await super().settle(settlements)


class ForgottenTombstone(MemoryControl):
    """Tells who listens now, and nobody later."""

    async def cancel(self, tombstones):
        report = await super().cancel(tombstones)
        with self._gate.enter() as space:
            for one in tombstones:
                space.signals._tombstones.drop((one.kind, one.value))
        return report


class CountedRelease(MemoryConsumer):
    """Counts what was given back untouched as a failed delivery, twice over."""

    async def release(self, deliveries):
        for delivery in deliveries:
            delivery.token.entry.count += 1
        await super().release(deliveries)


class EarlyDelay(MemorySubmitter):
    """Ignores not-before times."""

    async def submit(self, messages):
        for message in messages:
            message.envelope = replace(message.envelope, not_before=None)
        return await super().submit(messages)


class UncleanCancel(MemoryConsumer):
    """Takes, then waits a moment, then returns: what a cancel finds in between is gone for a lease."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        await asyncio.sleep(0)
        return received


class PoisonInTheCrowd(MemoryConsumer):
    """Counts deliveries, but batches a message that was delivered often with others."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        more = await super().receive(limit, 0.0, skip=skip) if limit > 1 else Received(())
        return Received([*received.deliveries, *more.deliveries][:limit])


class LossyReceipts(MemorySubmitter):
    """Gives a receipt for every message and loses every fiftieth."""

    lost = 0

    async def submit(self, messages):
        kept = [message for number, message in enumerate(messages) if number % 50 != 49]
        answers = {answer.id: answer for answer in await super().submit(kept)}
        return [answers.get(message.envelope.id, Receipt(message.envelope.id)) for message in messages]


class StuckReceive(MemoryConsumer):
    """Goes on waiting when its backend is closed."""

    async def aclose(self):
        pass


class SilentSettle(MemoryConsumer):
    """Stores the result with the settlement, but tells nobody."""

    async def settle(self, settlements):
        with self._gate.enter() as space:
            expected, space.results._expected = space.results._expected, {}
        answers = await super().settle(settlements)
        with self._gate.enter() as space:
            space.results._expected = expected
        return answers


class LeakyDocument(MemoryResultStore):
    """Answers PENDING for ids it never heard of."""

    async def get_many(self, ids):
        from tranship.envelope import TaskState

        return [
            StoredResult(id=one.id, state=TaskState.PENDING) if one.state is TaskState.UNKNOWN else one
            for one in await super().get_many(ids)
        ]


def one_namespace(config: BackendConfig) -> MemoryBackend:
    """Ignores the namespace."""
    return MemoryBackend(BackendConfig(config.url.with_options(namespace="everybody"), config.shared))


def shouting_url(config: BackendConfig) -> MemoryBackend:
    """Shows the password."""
    backend = MemoryBackend(config)
    backend._url = config.url.reveal()
    return backend


TEN = (
    Fault("drop on crash", "crash_before_ack_redelivers", with_consumer(DropOnCrash), also=("nack_redelivers_now",)),
    Fault("ack before store", "settle_fused_is_atomic", with_consumer(AckBeforeStore)),
    Fault("no lease", "lease_expiry_without_heartbeat", with_consumer(NoLease), also=("ack_after_lease_lost",)),
    Fault("wrong level order", "priority_four_levels_order", with_consumer(WrongLevelOrder)),
    Fault("double delivery", "receive_competing", with_consumer(DoubleDelivery)),
    Fault("lost dedup window", "submit_dedup_window", with_port("submitter", LostDedupWindow)),
    Fault("leaked waiter", "result_unexpect_forgets", with_port("results", LeakedWaiter)),
    Fault("late write accepted", "result_first_write_wins", with_port("results", LateWrite)),
    Fault("tombstone forgotten", "cancel_survives_worker_restart", with_port("control", ForgottenTombstone)),
    Fault("release counts as failure", "shutdown_returns_prefetched", with_consumer(CountedRelease)),
)

MORE = (
    Fault("unfenced settle", "ack_after_lease_lost", with_consumer(UnfencedSettle)),
    Fault("delay ignored", "delay_not_early", with_port("submitter", EarlyDelay)),
    Fault("unclean cancel", "consumer_cancelled_cleanly", with_consumer(UncleanCancel)),
    Fault("poison in the crowd", "poison_takes_no_innocents", with_consumer(PoisonInTheCrowd)),
    Fault("receipts for lost messages", "submit_confirmed", with_port("submitter", LossyReceipts)),
    Fault("receive outlives close", "consumer_close_while_blocked", with_consumer(StuckReceive)),
    Fault("settled results not pushed", "result_pushed_by_settle", with_consumer(SilentSettle)),
    Fault("unknown reported as pending", "result_unknown_id_not_pending", with_port("results", LeakyDocument)),
    Fault("namespace ignored", "namespace_isolation", one_namespace),
    Fault("password shown", "url_roundtrip_and_redaction", shouting_url),
)
