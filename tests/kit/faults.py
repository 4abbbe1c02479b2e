"""Memory backends with one fault each, and the case that has to notice it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tranship.backends.memory import make_backend
from tranship.backends.memory._broker import Space
from tranship.backends.memory._connection import MemoryQueue
from tranship.backends.memory._queue import Entry
from tranship.driver import DriverBackend, Row
from tranship.driver._consumer import DriverConsumer
from tranship.driver._control import DriverControl
from tranship.driver._inspector import DriverInspector
from tranship.driver._known_ids import KnownIds
from tranship.driver._records import DriverRecords
from tranship.driver._results import DriverResults
from tranship.driver._signal_store import BEATS
from tranship.driver._signals import heartbeat_bytes
from tranship.driver._submitter import DriverSubmitter
from tranship.envelope import Priority, Receipt, TaskState
from tranship.errors import BrokerRefused
from tranship.ports import Delivery, Received, Settled, Settlement, StoredResult
from tranship.protocol import RawMessage, decode
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.harness import Harness

WORKER_MEMORY = 0.6
"""Instead of a minute; the tests have the driver kit forget as soon."""

Factory = Callable[[BackendConfig], DriverBackend]


@dataclass(frozen=True)
class Fault:
    """One way to be wrong."""

    name: str
    caught_by: str
    backend: Factory
    also: tuple[str, ...] = ()
    """Other cases that have to notice it, too."""
    sound: Factory = make_backend
    """The same without the fault."""


class FaultyHarness(Harness):
    def __init__(self, factory: Factory) -> None:
        super().__init__("memory://faulty")
        if factory is not make_backend:
            self.patience = 1.5  # what a fault swallows never comes
        self._factory = factory
        self.worker_memory = WORKER_MEMORY
        if factory is not make_backend:
            self.refused_url = "memory://somebody:open-sesame@faulty"

    def make_backend(self, url: str) -> DriverBackend:
        return self._factory(BackendConfig(BrokerURL.parse(url), self.shared))


def with_queue(kind: type[MemoryQueue]) -> Factory:
    """The queue of the driver is wrong."""

    def factory(config: BackendConfig) -> DriverBackend:
        backend = make_backend(config)
        connect = backend._supervisor._dialler._connect

        async def connected():
            connection = await connect()
            connection.queue.__class__ = kind
            return connection

        backend._supervisor._dialler._connect = connected
        return backend

    return factory


def with_consumer(kind: type[DriverConsumer]) -> Factory:
    """Consumers are wrong."""

    def factory(config: BackendConfig) -> DriverBackend:
        backend = make_backend(config)
        sound = backend.consumer

        def consumer(queues):
            made = sound(queues)
            made.__class__ = kind
            return made

        backend.consumer = consumer
        return backend

    return factory


def with_port(name: str, kind: type) -> Factory:
    """Another port is wrong."""

    def factory(config: BackendConfig) -> DriverBackend:
        backend = make_backend(config)
        getattr(backend, f"_{name}").__class__ = kind
        return backend

    return factory


def space_of(port: Any) -> Space:
    """What the broker has in the namespace of a port."""
    return port._supervisor.current.queue._space


def entry_of(delivery: Delivery) -> Entry:
    """What the broker has of a delivery."""
    return delivery.token[0]


class SwallowsCancels(DriverConsumer):
    """Takes a cancel for the end of its wait."""

    async def receive(self, limit, wait, *, skip=()):
        try:
            return await super().receive(limit, wait, skip=skip)
        except asyncio.CancelledError:
            return Received(())


class DropOnCrash(DriverConsumer):
    """Acknowledges what it hands out, as a plain BRPOP does."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        space = space_of(self)
        with space.guard:
            for delivery in received.deliveries:
                space.stock.remove(entry_of(delivery))
        self._in_flight.clear()
        return received

    async def settle(self, settlements):
        return [Settled.CONFIRMED for _ in settlements]


class AckBeforeStore(DriverConsumer):
    """Acknowledges, and has not stored the result when it says so."""

    async def settle(self, settlements):
        return await super().settle([Settlement(one.delivery, one.verdict) for one in settlements])


class NoLease(MemoryQueue):
    """Promises a lease and never ends it."""

    _lease = property(lambda _self: 1e9, lambda _self, _value: None)


class WrongLevelOrder(MemoryQueue):
    """Serves the least urgent level first."""

    async def take(self, slots, limit, wait):
        for queue in self._space.stock._queues.values():
            queue._ready = {level: queue._ready[level] for level in reversed(Priority)}
        return await super().take(slots, limit, wait)


class DoubleDelivery(MemoryQueue):
    """Hands one message to two: every seventh stays ready although it was taken."""

    async def take(self, slots, limit, wait):
        taken = await super().take(slots, limit, wait)
        with self._space.guard:
            for entry in (one.token[0] for one in taken.items):
                if entry.place % 7 == 0 and entry.count == 1:
                    self._space.stock.restore(entry)
        return taken

    async def end(self, endings):
        await super().end(endings)
        return [Settled.CONFIRMED for _ in endings]


class LostDedupWindow(DriverSubmitter):
    """Forgets dedup keys as soon as the batch is over."""

    async def submit(self, messages):
        answers = await super().submit(messages)
        space_of(self)._rows.pop("k", None)
        return answers


class LeakedWaiter(DriverResults):
    """Pushes no more what is unexpected, but remembers it for ever."""

    def unexpect(self, ids):
        expected = dict.fromkeys(self._expected)
        super().unexpect(ids)
        self._expected = {**expected, **self._expected}


class LateWrite(DriverResults):
    """Lets the last writer win."""

    async def put(self, results):
        await self.forget_many([result.id for result in results])
        return await super().put(results)


class UnfencedSettle(MemoryQueue):
    """Settles for whoever asks, owner or not."""

    def _is_ours(self, token):
        super()._is_ours(token)
        return token[0].lane is not None


class ForgottenTombstone(DriverControl):
    """Tells who listens now, and nobody later."""

    async def cancel(self, tombstones):
        report = await super().cancel(tombstones)
        space_of(self)._rows.pop("z", None)
        return report


class CountedRelease(DriverConsumer):
    """Counts what was given back untouched as a failed delivery, twice over."""

    async def release(self, deliveries):
        for delivery in deliveries:
            entry_of(delivery).count += 2
        await super().release(deliveries)


class EarlyDelay(DriverSubmitter):
    """Ignores not-before times."""

    async def submit(self, messages):
        for message in messages:
            message.envelope = replace(message.envelope, not_before=None)
        return await super().submit(messages)


class UncleanCancel(DriverConsumer):
    """Takes, then waits a moment, then returns: what a cancel finds in between is gone for a lease."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        for _ in range(4):
            await asyncio.sleep(0)
        return received


class PoisonInTheCrowd(DriverConsumer):
    """Counts deliveries, but batches a message that was delivered often with others."""

    async def receive(self, limit, wait, *, skip=()):
        received = await super().receive(limit, wait, skip=skip)
        more = await super().receive(limit, 0.0, skip=skip) if limit > 1 else Received(())
        return Received([*received.deliveries, *more.deliveries][:limit])


class LossyReceipts(DriverSubmitter):
    """Gives a receipt for every message and loses every fiftieth."""

    lost = 0

    async def submit(self, messages):
        kept = [message for number, message in enumerate(messages) if number % 50 != 49]
        answers = {answer.id: answer for answer in await super().submit(kept)}
        return [answers.get(message.envelope.id, Receipt(message.envelope.id)) for message in messages]


class StuckReceive(DriverConsumer):
    """Goes on waiting when its backend is closed."""

    async def aclose(self):
        pass


class SilentSettle(MemoryQueue):
    """Stores the result with the settlement, but tells nobody."""

    def _end(self, ending):
        for row in ending.rows:
            row.tell = None
        return super()._end(ending)


class LeakyDocument(DriverResults):
    """Answers PENDING for ids it never heard of."""

    async def get_many(self, ids):
        return [
            StoredResult(id=one.id, state=TaskState.PENDING) if one.state is TaskState.UNKNOWN else one
            for one in await super().get_many(ids)
        ]


class SendersWindow(DriverSubmitter):
    """Takes a dedup key for as long as the URL says, whatever the message says."""

    async def submit(self, messages):
        for message in messages:
            message.envelope = replace(message.envelope, dedup_window=None)
        return await super().submit(messages)


class LetterInASecondStep(MemoryQueue):
    """Ends first, and writes what belongs to it afterwards."""

    async def end(self, endings):
        rows = [row for one in endings for row in one.rows]
        answers = await super().end([replace(one, rows=[]) for one in endings])
        await asyncio.sleep(0.005)
        with self._space.guard:
            for row in rows:
                self._space.create(row)
        return answers


class Polling(DriverConsumer):
    """Looks fifty times a second."""

    async def receive(self, limit, wait, *, skip=()):
        end = asyncio.get_running_loop().time() + wait
        while True:
            received = await super().receive(limit, 0.0, skip=skip)
            if received.deliveries or asyncio.get_running_loop().time() >= end:
                return received
            await asyncio.sleep(0.02)


class Immortal(DriverControl):
    """Keeps heartbeats for ever."""

    async def beat(self, heartbeat):
        row = Row(BEATS + heartbeat.worker, heartbeat_bytes(heartbeat), None)
        await self._supervisor.together(self._names._rows.put([row]))


class IdsForEver(KnownIds):
    """Takes no id back."""

    async def drop_ids(self, ids):
        pass


class EveryIdIsFresh(KnownIds):
    """Says of each id that it was not known before."""

    async def keep_ids(self, tasks):
        await super().keep_ids(tasks)
        return [True] * len(tasks)


class EveryIdIsReady(KnownIds):
    """Forgets when a task may be taken."""

    async def keep_ids(self, tasks):
        return await super().keep_ids([replace(one, ready=0.0) for one in tasks])


def with_known_ids(kind: type[KnownIds]) -> Factory:
    """What is told of ids is wrong."""

    def factory(config: BackendConfig) -> DriverBackend:
        backend = make_backend(config)
        if backend._known_ids is not None:
            backend._known_ids.__class__ = kind
        return backend

    return factory


class NameForAll(DriverControl):
    """Gives a name to everybody who wants it."""

    async def take_name(self, holder, seconds):
        await super().take_name(holder, seconds)


class NameForEver(DriverControl):
    """Keeps a name until it is given up."""

    async def take_name(self, holder, seconds):
        return await super().take_name(holder, 1000 * seconds)


class LastOneWrites(DriverRecords):
    """Writes whatever the version is."""

    async def write(self, record):
        await self._supervisor.together(self._rows.put([Row("y/" + record.key, record.value, record.ttl)]))
        return True


class KeepsTheFirst(DriverRecords):
    """Puts only what is not there yet."""

    async def put(self, records):
        for one in records:
            await self.write(replace(one, version=0))


class TellsNobody(DriverRecords):
    """Takes the word, and passes it on to nobody."""

    async def tell(self, names):
        self._supervisor.gate.check()


class OnePage(DriverRecords):
    """Begins anew with each page."""

    async def page(self, prefix, after="", limit=500):
        return await super().page(prefix, "", limit)


class KeepsForEver(DriverRecords):
    """Forgets that a record has a time."""

    async def write(self, record):
        return await super().write(replace(record, ttl=None))


class LockForAll(DriverRecords):
    """Gives a lock to everybody who wants it."""

    async def take_lock(self, holder, seconds):
        await super().take_lock(holder, seconds)


class LockForEver(DriverRecords):
    """Keeps a lock until it is given up."""

    async def take_lock(self, holder, seconds):
        return await super().take_lock(holder, 1000 * seconds)


class StrangersGoodbye(DriverControl):
    """Gives up a name that is somebody else's."""

    async def free_name(self, holder):
        await self._supervisor.together(self._names._rows.delete([f"n/{holder.name}"]))


class FrightenedInspector(DriverInspector):
    """Reads the task of every letter."""

    async def dead(self, queue=None, *, limit=100, after=""):
        letters = await super().dead(queue, limit=limit, after=after)
        for letter in letters:
            decode(RawMessage(letter.headers, letter.body, letter.content_type, "utf-8"))
        return letters


def refused_by(library: BaseException | None, text: str) -> Factory:
    """Refuses, as a broker that was shown a wrong password does."""

    def factory(config: BackendConfig) -> DriverBackend:
        backend = make_backend(config)

        async def open_() -> None:
            raise BrokerRefused(text.format(url=config.url.reveal(), shown=config.url)) from library

        backend.open = open_
        return backend

    return factory


REFUSING = refused_by(OSError("no"), "{shown} refused us")


def one_namespace(config: BackendConfig) -> DriverBackend:
    """Ignores the namespace."""
    return make_backend(BackendConfig(config.url.with_options(namespace="everybody"), config.shared))


def shouting_url(config: BackendConfig) -> DriverBackend:
    """Shows the password."""
    backend = make_backend(config)
    backend.url = config.url.reveal()
    return backend


TEN = (
    Fault("drop on crash", "crash_before_ack_redelivers", with_consumer(DropOnCrash), also=("nack_redelivers_now",)),
    Fault("ack before store", "settle_fused_is_atomic", with_consumer(AckBeforeStore)),
    Fault("no lease", "lease_expiry_without_heartbeat", with_queue(NoLease), also=("ack_after_lease_lost",)),
    Fault("wrong level order", "priority_four_levels_order", with_queue(WrongLevelOrder)),
    Fault("double delivery", "receive_competing", with_queue(DoubleDelivery)),
    Fault("lost dedup window", "submit_dedup_window", with_port("submitter", LostDedupWindow)),
    Fault("leaked waiter", "result_unexpect_forgets", with_port("results", LeakedWaiter)),
    Fault("late write accepted", "result_first_write_wins", with_port("results", LateWrite)),
    Fault("tombstone forgotten", "cancel_survives_worker_restart", with_port("control", ForgottenTombstone)),
    Fault("release counts as failure", "shutdown_returns_prefetched", with_consumer(CountedRelease)),
)

MORE = (
    Fault("unfenced settle", "ack_after_lease_lost", with_queue(UnfencedSettle)),
    Fault("delay ignored", "delay_not_early", with_port("submitter", EarlyDelay)),
    Fault("swallows cancels", "receive_cancel_is_raised", with_consumer(SwallowsCancels)),
    Fault("unclean cancel", "consumer_cancelled_cleanly", with_consumer(UncleanCancel)),
    Fault("poison in the crowd", "poison_takes_no_innocents", with_consumer(PoisonInTheCrowd)),
    Fault("receipts for lost messages", "submit_confirmed", with_port("submitter", LossyReceipts)),
    Fault("receive outlives close", "consumer_close_while_blocked", with_consumer(StuckReceive)),
    Fault("settled results not pushed", "result_pushed_by_settle", with_queue(SilentSettle)),
    Fault("unknown reported as pending", "result_unknown_id_not_pending", with_port("results", LeakyDocument)),
    Fault("namespace ignored", "namespace_isolation", one_namespace),
    Fault("password shown", "url_roundtrip_and_redaction", shouting_url),
    Fault("window of the URL", "submit_dedup_after_window", with_port("submitter", SendersWindow)),
    Fault("letter in a second step", "dead_copy_before_original_goes", with_queue(LetterInASecondStep)),
    Fault("polling", "receive_idle_rests", with_consumer(Polling)),
    Fault("immortal workers", "worker_heartbeat_expires", with_port("control", Immortal)),
    Fault("ids for ever", "result_told_ids_are_known", with_known_ids(IdsForEver)),
    Fault("every id is fresh", "result_told_ids_are_known", with_known_ids(EveryIdIsFresh)),
    Fault("every id is ready", "result_told_ids_are_known", with_known_ids(EveryIdIsReady)),
    Fault("a name for all", "worker_name_has_one_holder", with_port("control", NameForAll)),
    Fault("a name for ever", "worker_name_expires", with_port("control", NameForEver)),
    Fault("a stranger's goodbye", "worker_name_has_one_holder", with_port("control", StrangersGoodbye)),
    Fault("keeps the first", "record_put_writes_over", with_port("records", KeepsTheFirst)),
    Fault("tells nobody", "record_told_to_listeners", with_port("records", TellsNobody)),
    Fault("last one writes", "record_write_checks_version", with_port("records", LastOneWrites)),
    Fault("one page", "record_page_in_order", with_port("records", OnePage)),
    Fault("records for ever", "record_ttl", with_port("records", KeepsForEver)),
    Fault("a lock for all", "lock_has_one_holder", with_port("records", LockForAll)),
    Fault("a lock for ever", "lock_expires", with_port("records", LockForEver)),
    Fault("unreadable letter raises", "dead_unreadable_hides_no_others", with_port("inspector", FrightenedInspector)),
    Fault(
        "password in an error",
        "auth_failure_is_permanent",
        refused_by(OSError("no"), "{url} refused us"),
        sound=REFUSING,
    ),
    Fault("nothing native", "auth_failure_is_permanent", refused_by(None, "{shown} refused us"), sound=REFUSING),
)
