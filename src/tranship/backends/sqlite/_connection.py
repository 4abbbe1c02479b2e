"""One connection: the writer, a reader on the loop's thread, the wake-up pipe, and who is told of what comes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from tranship.backends.sqlite._database import again, explain, is_busy, open_reader
from tranship.backends.sqlite._file import ForkGate, Gate, Location
from tranship.backends.sqlite._options import SqliteOptions
from tranship.backends.sqlite._peers import (
    ENROLL,
    FORGET_DEAD,
    LEAVE,
    ROWS,
    SIGNALS,
    TASKS,
    Enrolment,
    Heard,
    WakePipe,
    Waker,
    dead_pipes,
    probe,
)
from tranship.backends.sqlite._queue import SqliteQueue
from tranship.backends.sqlite._store import Store
from tranship.backends.sqlite._table import SqliteTable
from tranship.backends.sqlite._topic import SqliteTopic
from tranship.backends.sqlite._transaction import Kind, Transaction, each
from tranship.backends.sqlite._writer import Writer
from tranship.driver import Undo
from tranship.errors import ClosedError, TranshipError

__all__ = ["SqliteConnection"]

LOOK: Final = 0.5
"""Seconds between two looks while anybody waits. What a look costs is mostly waking up: about 0.15 ms."""
UNHEARD: Final = 1.0
"""Seconds after which a pipe that nobody listens to is one that nobody is going to listen to."""
RENEW: Final = 30.0
"""Seconds between two signs of life of a peer."""
EVERYTHING: Final = TASKS | ROWS | SIGNALS


def _ping(tx: Transaction, _: None) -> None:
    tx.run("INSERT OR REPLACE INTO meta(key, value) VALUES('ping', ?)", tx.now)


PING: Final = Kind("ping", each(_ping))


class SqliteConnection:
    """Queue, table and topic of one namespace in one file; see :class:`tranship.driver.Connection`.

    Under the pipe lies a safety net: while anybody waits, a look twice a second. It costs microseconds: is the file
    still ours, has anybody committed, does everybody live?
    """

    taskless = True

    def __init__(self, location: Location, options: SqliteOptions, forks: ForkGate) -> None:
        self.location, self.options = location, options
        self.store = Store(location, options)
        self.writer = Writer(self.store)
        self.failure: TranshipError | None = None
        self.queue = SqliteQueue(self)
        self.table = SqliteTable(self)
        self.topic = SqliteTopic(self)
        self.lost: asyncio.Future[BaseException | None] | None = None
        self.native = {
            "path": str(location.path),
            "sqlite_version": sqlite3.sqlite_version,
            "durability": options.durability,
        }
        self._forks = forks
        self._gate = Gate(self._orphan)
        self._pipe: WakePipe | None = None
        self._reader: sqlite3.Connection | None = None
        self._watchers: dict[object, tuple[Collection[str], Callable[[], None]]] = {}
        self._enrolment: Enrolment | None = None
        self._enrolling: asyncio.Future[None] | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._version: int | None = None
        self._renew_at = 0.0

    # Opening and closing.

    async def open(self) -> None:
        """Open the database, then the pipe, then the reader."""
        self.lost = asyncio.get_running_loop().create_future()
        for gate in (self.store.gate, self._gate):
            self._forks.add(gate)
        await self.writer.start()
        assert self.location.identity is not None
        pipe = self._pipe = WakePipe(self.location.identity)
        pipe.open()
        self.store.waker = Waker(pipe.places, self._died)
        pipe.listen(asyncio.get_running_loop(), self._woken)
        for address in dead_pipes(pipe.places):
            self._died(address)
        try:
            self._reader = open_reader(self.location.path)
        except sqlite3.Error as error:
            raise explain(error, str(self.location.path)) from error

    async def aclose(self) -> None:
        """Close everything that is open. Idempotent."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        if self.failure is None and self._pipe is not None and self.location.is_same():
            self.writer.post(LEAVE, self.address)
        self._fail(ClosedError(f"the backend of {self.location.path} has been closed; open a new one"))
        # Before the writer's connection: the last one to close merges the log, and does it under the side lock.
        reader, self._reader = self._reader, None
        if reader is not None:
            with self._gate.lock:
                reader.close()
        await self.writer.stop()
        if self._pipe is not None:
            self._pipe.close()
        for gate in (self.store.gate, self._gate):
            self._forks.remove(gate)

    async def ping(self) -> None:
        """Commit something small."""
        await self.writer.call(PING, None)

    def abort(self) -> None:
        """There is nothing to give up: what is under way ends by itself."""

    def _fail(self, error: TranshipError) -> None:
        if self.failure is None:
            self.failure = error
            if self.lost is not None:
                self.lost.set_result(error)

    def _orphan(self) -> Any:
        self.failure = ClosedError(
            f"the backend of {self.location.path} was opened before a fork; open a new one in the child"
        )
        self.writer.orphan(self.failure)
        if self.lost is not None:
            # Another one: nobody of the parent's loop runs here.
            self.lost = asyncio.Future(loop=self.lost.get_loop())
            self.lost.set_result(self.failure)
        if self._pipe is not None:
            self._pipe.abandon()
        reader, self._reader = self._reader, None
        return reader

    # Reading.

    @property
    def address(self) -> str:
        """The name of the pipe, and of who holds what is claimed here."""
        assert self._pipe is not None
        return self._pipe.address

    @property
    def ns(self) -> int:
        """The namespace's number."""
        return self.store.ns

    def read(self, sql: str, parameters: Iterable[Any]) -> list[Any] | None:
        """Do a point read here and now; None: the database is busy, ask the writer.

        Raises:
            TranshipError: it cannot be read.
        """
        if self.failure is not None:
            raise again(self.failure)
        assert self._reader is not None
        try:
            with self._gate.lock:
                return self._reader.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            if is_busy(error):
                return None
            raise explain(error, str(self.location.path)) from error

    # Being woken.

    def watch(self, queues: Collection[str], heard: Callable[[], None]) -> Undo:
        """Call ``heard`` when something may have become ready in ``queues``."""
        mark = object()
        self._watchers[mark] = queues, heard
        self.enroll(TASKS)

        def undo() -> None:
            self._watchers.pop(mark, None)

        return undo

    def enroll(self, wants: int) -> None:
        """Be woken for what somebody waits for by now, and look for what came before that was committed.

        Args:
            wants: what it is for; TASKS: always enroll, for other queues than before perhaps.
        """
        known = self._enrolment.wants if self._enrolment is not None and self._look_timer is not None else 0
        if self.failure is not None or wants & ~(known & ~TASKS) == 0:
            return
        if self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(LOOK, self._look)
        wanted = self._wanted()
        if not wanted.is_covered_by(self._enrolment):
            self._enroll(wanted)

    async def enrolled(self) -> None:
        """Return once we are woken for everything that somebody waits for."""
        if self._enrolling is not None and not self._enrolling.done():
            await asyncio.shield(self._enrolling)

    def _wanted(self) -> Enrolment:
        queues = frozenset(queue for names, _ in self._watchers.values() for queue in names)
        return Enrolment(self.address, (TASKS if self._watchers else 0) | self.topic.wants, queues)

    def _enroll(self, wanted: Enrolment) -> None:
        self._enrolment = wanted
        self._renew_at = asyncio.get_running_loop().time() + RENEW
        self._enrolling = self.writer.begin(ENROLL, wanted)
        self._enrolling.add_done_callback(self._enrolled)

    def _enrolled(self, enrolling: asyncio.Future[None]) -> None:
        if enrolling.cancelled() or enrolling.exception() is not None:
            self._enrolment = None  # the next look tries again
        else:
            self._tell(EVERYTHING)

    def _woken(self) -> None:
        assert self._pipe is not None
        why = 0
        for reason in self._pipe.drain():
            why |= reason
        self._tell(why)

    def _tell(self, why: int) -> None:
        if self.failure is not None:
            return
        if why & TASKS:
            self.queue.likely = True
            for _, heard in tuple(self._watchers.values()):
                heard()
        with contextlib.suppress(TranshipError):  # the next look meets it again, and whoever calls a verb is told
            self.topic.look(why)

    def _died(self, address: str) -> None:
        self.writer.post(FORGET_DEAD, address)

    # Looking.

    def _look(self) -> None:
        self._look_timer = None
        if self.failure is not None or not (self._watchers or self.topic.wants):
            return
        try:
            self.location.verify()
            self._probe_peers()
            self._compare()
        except TranshipError as error:
            if not error.retryable:
                self._fail(error)
                self.writer.fail(error)
                return
        loop = asyncio.get_running_loop()
        if self._enrolment is None or loop.time() >= self._renew_at:
            self._renew()
        self._look_timer = loop.call_later(LOOK, self._look)

    def _probe_peers(self) -> None:
        """Have the leases of processes that died returned at once."""
        assert self._pipe is not None
        peers = {address for (address,) in self.read("SELECT address FROM peer", ()) or ()} | {self.address}
        dead = [peer for peer in peers - {self.address} if probe(peer, self._pipe.places) is Heard.DEAD]
        # One may have claimed, and died, before anybody knew of it.
        for address in dead + dead_pipes(self._pipe.places, known=peers, age=UNHEARD):
            self._died(address)

    def _compare(self) -> None:
        found = self.read("PRAGMA data_version", ())
        version = found[0][0] if found else None
        changed, self._version = version != self._version, version
        if changed:
            self._tell(EVERYTHING)

    def _renew(self) -> None:
        """Say again that this peer is there, with its pipe where it should be, and no more than it waits for."""
        assert self._pipe is not None
        if self._pipe.missing:
            self._pipe.close()
            self._pipe.open()
            self._pipe.listen(asyncio.get_running_loop(), self._woken)
        self._enroll(self._wanted())
