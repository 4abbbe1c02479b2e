"""What the ports of one backend share: the writer, the reader, the bell, and who is to hear it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tranship.backends.sqlite._bell import Bell, Heard, dead_pipes, probe
from tranship.backends.sqlite._connection import open_reader
from tranship.backends.sqlite._faults import again, explain, is_busy
from tranship.backends.sqlite._forks import ForkGate, Gate
from tranship.backends.sqlite._location import Location
from tranship.backends.sqlite._options import SqliteOptions
from tranship.backends.sqlite._peers import BURY, ENROLL, LEAVE, RESULTS, SIGNALS, TASKS, Enrolment, Ringer, Wants
from tranship.backends.sqlite._store import Store
from tranship.backends.sqlite._writer import Writer
from tranship.errors import ClosedError, TranshipError

__all__ = ["Hub"]


class Hub:
    """Opened and closed by the backend, on its loop."""

    def __init__(self, location: Location, options: SqliteOptions, forks: ForkGate) -> None:
        self.location = location
        self.options = options
        self.store = Store(location, options)
        self.writer = Writer(self.store)
        self.failure: TranshipError | None = None
        self.hears: dict[bytes, list[Callable[[], None]]] = {TASKS: [], RESULTS: [], SIGNALS: []}
        """Who is called for which kind of ring."""
        self._forks = forks
        self._bell: Bell | None = None
        self._reader: sqlite3.Connection | None = None
        self._gate = Gate(self._orphan)
        self._wants = Wants.NOTHING
        self.consumed: dict[int, Sequence[str]] = {}
        """The queues of each consumer."""

    @property
    def address(self) -> str | None:
        """The bell's name."""
        return self._bell.address if self._bell else None

    @property
    def ns(self) -> int:
        """The namespace's number."""
        return self.store.ns

    def check(self) -> None:
        """Raise what has ended this backend, if anything has."""
        if self.failure is not None:
            raise again(self.failure)

    async def open(self) -> None:
        """Open the database, then the bell, then the reader."""
        for gate in (self.store.gate, self._gate):
            self._forks.add(gate)
        await self.writer.start()
        assert self.location.identity is not None
        bell = self._bell = Bell(self.location.identity)
        bell.open()
        self.store.ringer = Ringer(bell.places, self._lost)
        bell.listen(asyncio.get_running_loop(), self._rung)
        for address in dead_pipes(bell.places):
            self._lost(address, Heard.DEAD)
        try:
            self._reader = open_reader(self.location.path)
        except sqlite3.Error as error:
            raise explain(error, str(self.location.path)) from error

    async def aclose(self) -> None:
        """Close everything that is open. Idempotent."""
        if self.failure is None and self._wants and self.address is not None:
            self.writer.post(LEAVE, self.address)
        self.fail(ClosedError(f"the backend of {self.location.path} has been closed; open a new one"))
        # Before the writer's connection: the last one to close merges the log, and does it under the side lock.
        reader, self._reader = self._reader, None
        if reader is not None:
            with self._gate.lock:
                reader.close()
        await self.writer.stop()
        if self._bell:
            self._bell.close()
        for gate in (self.store.gate, self._gate):
            self._forks.remove(gate)

    def fail(self, error: TranshipError) -> None:
        """Refuse everything from now on, and wake everybody who waits."""
        if self.failure is None:
            self.failure = error
            self.ring((TASKS, RESULTS, SIGNALS))

    def read(self, sql: str, parameters: Iterable[Any]) -> list[Any] | None:
        """Do a point read here and now; None: the database is busy, ask the writer.

        Raises:
            TranshipError: it cannot be read.
        """
        self.check()
        assert self._reader is not None
        try:
            with self._gate.lock:
                return self._reader.execute(sql, tuple(parameters)).fetchall()
        except sqlite3.Error as error:
            if is_busy(error):
                return None
            raise explain(error, str(self.location.path)) from error

    def ring(self, reasons: Iterable[bytes]) -> None:
        """Call everybody who hears one of ``reasons``."""
        for reason in reasons:
            for hear in list(self.hears[reason]):
                hear()

    def probe_peers(self) -> None:
        """Have the leases of processes that died returned at once."""
        bell = self._bell
        if bell is None or bell.address is None:
            return
        for (address,) in self.read("SELECT address FROM peer WHERE address<>?", (bell.address,)) or ():
            if probe(address, bell.places) is Heard.DEAD:
                self._lost(address, Heard.DEAD)

    async def enroll(self, wants: Wants) -> None:
        """Be rung for this too; returns when it is so."""
        self._wants |= wants
        if self.address is not None:
            await self.writer.call(ENROLL, self._enrolment())

    def dismiss(self, wants: Wants) -> None:
        """Be rung for this no more."""
        self._wants &= ~wants
        if self.address is not None:
            self.writer.post(ENROLL, self._enrolment())

    def renew(self) -> None:
        """Say again that this peer is there, with its pipe where it should be."""
        if self._bell is None or self.address is None:
            return
        if self._bell.missing:
            self._reopen(self._bell)
        if self._wants:
            self.writer.post(ENROLL, self._enrolment())

    def _reopen(self, bell: Bell) -> None:
        bell.close()
        bell.open()
        bell.listen(asyncio.get_running_loop(), self._rung)

    def _enrolment(self) -> Enrolment:
        assert self.address is not None
        return Enrolment(self.address, self._wants, {queue for queues in self.consumed.values() for queue in queues})

    def _rung(self) -> None:
        assert self._bell is not None
        heard = self._bell.drain()
        self.ring(reason for reason in (TASKS, RESULTS, SIGNALS) if reason in heard)

    def _lost(self, address: str, heard: Heard) -> None:
        if heard is Heard.DEAD:
            self.writer.post(BURY, address)

    def _orphan(self) -> Any:
        self.failure = ClosedError(
            f"the backend of {self.location.path} was opened before a fork; open a new one in the child"
        )
        self.writer.orphan(self.failure)
        if self._bell is not None:
            self._bell.abandon()
        reader, self._reader = self._reader, None
        return reader
