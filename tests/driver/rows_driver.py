"""A driver whose broker is rows in this process: whatever a test wants to be true of a broker can be said of it.

``Broker`` outlives backends, as a server does. Its clock can be moved, and any verb can be made to fail, before or after
it is done, or to be the last that a backend ever calls.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tranship.driver import (
    DriverBackend,
    End,
    Ending,
    LocalConnection,
    OwnPorts,
    QueueTraits,
    Row,
    Stored,
    Subscriptions,
    Taken,
    TakenBatch,
)
from tranship.envelope import Priority
from tranship.errors import BrokerUnreachable, StorageFull
from tranship.ports import CountKind, QueueInfo, Settled
from tranship.settings import BackendConfig, BrokerURL, CommonOptions
from tranship.testing.harness import Harness


@dataclass(eq=False)
class Entry:
    number: int
    message: Any
    count: int = 0
    claim: int = 0
    until: float = 0.0
    at: float = 0.0
    peeked: bool = False


@dataclass(eq=False)
class Broker:
    """The state: entries in order, rows by key, and who hears what."""

    fuses: bool = False
    unique: bool = True
    """Whether a queue that fuses knows the ids that are in it."""
    leases: bool = True
    table: bool = True
    topic: bool = True
    log: bool = False
    peeks: bool = False
    recalls: bool = False
    """Whether it tells, later, what became of a send that was not answered."""
    reads: bool = False
    """Whether each consumer has a reader of its own."""
    answers: bool = False
    """Whether there are reply queues."""
    waits: bool = False
    posts: bool = False
    tells: bool = False
    immediate: bool = False
    tells_time: bool = False
    own: Callable[[Broker], OwnPorts] = field(default_factory=lambda: lambda _broker: OwnPorts())
    entries: list[Entry] = field(default_factory=list)
    rows: dict[str, tuple[bytes, float, int]] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    ahead: float = 0.0
    heard: Subscriptions = field(default_factory=Subscriptions)
    watchers: list[Callable[[], None]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    """Ids that are not taken: each has an error as its answer."""
    queues: Callable[[Broker, float | None], Any] = field(default_factory=lambda: Queue)
    tables: Callable[[Broker], Any] = field(default_factory=lambda: Table)
    topics: Callable[[Broker], Any] = field(default_factory=lambda: Topic)
    logs: Callable[[Broker], Any] = field(default_factory=lambda: Log)
    written: list[tuple[str, float, bytes]] = field(default_factory=list)
    """The entries of all logs: name, time, entry."""
    answered: dict[str, list[Any]] = field(default_factory=dict)
    """Results that nobody has heard yet, by address."""
    submitters: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    """Who hears results, by address."""

    def now(self) -> float:
        return time.time() + self.ahead

    def wake(self) -> None:
        for heard in tuple(self.watchers):
            heard()

    def live(self) -> dict[str, bytes]:
        """The rows whose time is not over."""
        return {key: value for key, (value, until, _) in self.rows.items() if until > self.now()}

    def ids(self) -> list[str]:
        """The ids of what is queued or held."""
        return [one.message.id for one in self.entries]

    def backend(self, wrap: Callable[[LocalConnection], Any] = lambda connection: connection, **options: Any):
        """Return a new backend, not opened, on this broker; ``wrap`` may change its connection."""

        url = BrokerURL.parse("rows://here").with_options(**options)
        config = BackendConfig(url, lambda _key, make: make())
        chosen = config.options_as(CommonOptions)
        lease = chosen.lease if self.leases else None

        address = f"replies-{next(self.numbers)}"

        async def connect() -> Any:
            table = self.tables(self) if self.table else None
            topic = self.topics(self) if self.topic else None
            queue = self.queues(self, lease)
            log = self.logs(self) if self.log else None
            replies = Replies(self, address) if self.answers else None
            made = TimedConnection if self.tells_time else LocalConnection
            return wrap(made(queue, table, topic, native=self, log=log, replies=replies, immediate=self.immediate))

        return DriverBackend("rows", config, options=chosen, connect=connect, own=self.own(self))


class TimedConnection(LocalConnection):
    async def now(self):
        return self.native.now()


class Queue:
    def __init__(self, broker: Broker, lease: float | None) -> None:
        self._broker = broker
        self._lease = lease
        self.traits = QueueTraits(
            lease=lease,
            counts=CountKind.EXACT,
            order="keeps-place",
            levels=True,
            waits=broker.waits,
            delays=broker.fuses,
            unique=broker.fuses and broker.unique,
            fuses=broker.fuses,
            tells=broker.tells,
        )
        if broker.posts:
            self.post = self._post
        if broker.recalls:
            self.recall = self._recall
        if broker.peeks:
            self.peek = self._peek
        if broker.reads:
            self.reader = lambda: Reader(self)

    def _post(self, batch, done):
        answers = [self._send(one) for one in batch]
        self._broker.wake()
        asyncio.get_running_loop().call_soon(done, answers)

    async def _recall(self, batches):
        stored = self._broker.ids()
        return [[None if one.id in stored else BrokerUnreachable("not stored") for one in batch] for batch in batches]

    async def send(self, batch):
        answers = [self._send(one) for one in batch]
        self._broker.wake()
        return answers

    def _send(self, message):
        broker = self._broker
        if message.id in broker.refused:
            return StorageFull("no room for this one")
        if message.first is not None:
            value = broker.live().get(message.first.key, message.first.value)
            if value != message.first.value:
                return value.decode()
            write(broker, message.first)
        known = broker.unique and message.id in broker.ids()
        if broker.fuses and (known or message.unless in broker.live()):
            return message.id
        broker.entries.append(Entry(next(broker.numbers), message, at=broker.now()))
        return None

    async def take(self, slots, limit, wait):
        taken = self._take(slots, limit)
        if not taken.items and self._broker.waits and wait > 0:
            news = asyncio.Event()
            wake = on_this_loop(news.set)
            self._broker.watchers.append(wake)
            try:
                async with asyncio.timeout(min(wait, taken.next_due or wait)):
                    await news.wait()
            except TimeoutError:
                pass
            finally:
                self._broker.watchers.remove(wake)
            taken = self._take(slots, limit)
        return taken

    async def _peek(self, queue, limit):
        taken = self._take([(queue, Priority.NORMAL)], limit).items
        for one in taken:
            one.token[0].count -= 1
            one.token[0].peeked = True
        return taken

    def _take(self, slots, limit):
        broker, now = self._broker, self._broker.now()
        free = {slot: [one for one in broker.entries if one.message.slot == slot] for slot in slots}
        ready = [one for slot in slots for one in free[slot] if self._free(one) and one.message.ready <= now]
        items = [self._claim(one) for one in ready[:limit]]
        times = [max(one.message.ready, one.until) - now for some in free.values() for one in some]
        return TakenBatch(items, next_due=None if items else min((one for one in times if one > 0), default=None))

    def _free(self, entry):
        return not entry.claim or (self._lease is not None and entry.until <= self._broker.now())

    def _claim(self, entry):
        broker = self._broker
        entry.count += 1
        entry.claim, entry.until = next(broker.numbers), broker.now() + (self._lease or 0.0)
        token = (entry, entry.claim)
        return Taken(token, entry.message.queue, entry.message.level, entry.message.data, entry.count)

    def _ours(self, token):
        entry, claim = token
        return entry in self._broker.entries and entry.claim == claim and not self._free(entry)

    async def end(self, endings):
        answers = [self._end(one) for one in endings]
        self._broker.wake()
        return answers

    def _end(self, ending):
        broker, entry = self._broker, ending.token[0]
        if not self._ours(ending.token):
            return Settled.LOST
        for row in ending.rows:
            if row.key not in broker.live():
                create(broker, row)
        if ending.end is End.REMOVE:
            broker.entries.remove(entry)
        else:
            entry.claim = 0
            entry.count -= ending.end is End.RELEASE and not entry.peeked
            entry.peeked = False
        for message in ending.then:
            self._send(message)
        return Settled.CONFIRMED

    async def renew(self, tokens):
        ours = [self._ours(token) for token in tokens]
        for (entry, _), is_ours in zip(tokens, ours, strict=True):
            if is_ours:
                entry.until = self._broker.now() + (self._lease or 0.0)
        return ours

    def watch(self, _slots, heard):
        wake = on_this_loop(heard)
        self._broker.watchers.append(wake)
        return lambda: wake in self._broker.watchers and self._broker.watchers.remove(wake)

    async def find(self, ids, cancel_keys):
        return [
            self._stored(one)
            for one in self._broker.entries
            if one.message.id in ids or one.message.facts.cancel_key in cancel_keys
        ]

    def _stored(self, entry):
        ready = "delayed" if entry.message.ready > self._broker.now() else "ready"
        state = ready if self._free(entry) else "held"
        return Stored(entry, entry.message.facts, state)

    async def scan(self, queue, state, limit):
        found = [self._stored(one) for one in self._broker.entries if one.message.queue == queue]
        found.sort(key=lambda one: one.ref.message.ready if state == "delayed" else one.facts.level)
        return [one for one in found if one.state == state][:limit]

    async def pick(self, refs):
        return [self._claim(one) for one in refs if one in self._broker.entries and self._free(one)]

    async def queues(self):
        infos = []
        for name in sorted({one.message.queue for one in self._broker.entries}):
            seen = [self._stored(one) for one in self._broker.entries if one.message.queue == name]
            states = Counter(one.state for one in seen)
            ready = Counter(one.facts.level for one in seen if one.state == "ready")
            ages = [self._broker.now() - one.ref.at for one in seen if one.state == "ready"]
            infos.append(
                QueueInfo(
                    name=name,
                    ready={level: ready[level] for level in Priority},
                    delayed=states["delayed"] if self.traits.delays else None,
                    in_flight=states["held"],
                    oldest_age=max(ages, default=0.0),
                )
            )
        return infos


class Reader:
    """Takes one more than it is asked for, and keeps that for the next time."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._taken: list[Taken] = []
        self._kept: list[Taken] = []

    async def take(self, slots, limit, wait):
        if not self._kept:
            batch = await self._queue.take(slots, limit + 1, wait)
            self._taken += batch.items
            self._kept = list(batch.items)
        else:
            batch = TakenBatch()
        items, self._kept = self._kept[:limit], self._kept[limit:]
        return TakenBatch(items, next_due=None if items else batch.next_due)

    async def aclose(self):
        await self._queue.end([Ending(one.token, End.RELEASE) for one in self._taken])


class Table:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(self, rows):
        there = [self._broker.live().get(row.key) for row in rows]
        for row, old in zip(rows, there, strict=True):
            if old is None:
                create(self._broker, row)
        return there

    async def put(self, rows, if_version=None):
        fits = self._fits([row.key for row in rows], if_version)
        return [write(self._broker, row) if fit else None for row, fit in zip(rows, fits, strict=True)]

    async def get(self, keys):
        live = self._broker.live()
        return [self._row(key) if key in live else None for key in keys]

    async def delete(self, keys, if_version=None):
        live, fits = self._broker.live(), self._fits(keys, if_version)
        return [fit and key in live and bool(self._broker.rows.pop(key)) for key, fit in zip(keys, fits, strict=True)]

    async def page(self, prefix, after, limit):
        keys = sorted(key for key in self._broker.live() if key.startswith(prefix) and key > after)
        return [self._row(key) for key in keys[:limit]]

    def _row(self, key):
        value, _, version = self._broker.rows[key]
        return Row(key, value, version=version)

    def _fits(self, keys, if_version):
        if if_version is None:
            return [True] * len(keys)
        live = self._broker.live()
        return [key in live and self._broker.rows[key][2] == one for key, one in zip(keys, if_version, strict=True)]


def write(broker: Broker, row: Row) -> int:
    version = next(broker.numbers)
    until = float("inf") if row.ttl is None else broker.now() + row.ttl
    broker.rows[row.key] = row.value, until, version
    return version


def create(broker: Broker, row: Row) -> None:
    write(broker, row)
    if broker.tells and row.tell is not None:
        broker.heard.tell(row.key, row.tell)


class Topic:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._calls: dict[Any, Any] = {}

    async def publish(self, items):
        for name, value in items:
            self._broker.heard.tell(name, value)

    def subscribe(self, names, heard):
        self._broker.heard.add(names, self._calls.setdefault(heard, on_this_loop(heard)))

    def unsubscribe(self, names, heard):
        if heard in self._calls:
            self._broker.heard.remove(names, self._calls[heard])

    async def active(self):
        """Subscriptions are at once."""


class Log:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def append(self, name, entries):
        self._broker.written += [(name, self._broker.now(), entry) for entry in entries]

    async def read(self, name, since=0.0):
        return [entry for own, at, entry in self._broker.written if own == name and at >= since]


class Replies:
    def __init__(self, broker: Broker, address: str) -> None:
        self._broker, self.address = broker, address

    def hear(self, heard):
        self._broker.submitters[self.address] = on_this_loop(heard)
        self._tell(self.address)

    async def push(self, results):
        for one in results:
            self._broker.answered.setdefault(one.reply_to, []).append(one)
            self._tell(one.reply_to)

    def _tell(self, address):
        if address in self._broker.submitters and self._broker.answered.get(address):
            self._broker.submitters[address](self._broker.answered.pop(address))


def on_this_loop(heard: Callable[..., None]) -> Callable[..., None]:
    """Return ``heard`` to be called from any thread."""
    loop = asyncio.get_running_loop()

    def call(*arguments: Any) -> None:
        with suppress(RuntimeError):  # its loop is closed
            loop.call_soon_threadsafe(heard, *arguments)

    return call


class RowsHarness(Harness):
    """One broker for each namespace."""

    def __init__(self, **broker: Any) -> None:
        super().__init__("rows://here")
        self._make = lambda: Broker(**broker)
        self._brokers: dict[str, Broker] = {}

    def make_backend(self, url: str) -> DriverBackend:
        options = dict(BrokerURL.parse(url).options)
        broker = self._brokers.setdefault(options.pop("namespace", ""), self._make())
        return broker.backend(**options)
