"""The writing connection: every transaction, checkpoint and close goes through here, under the side lock.

When a transaction of many pieces meets an error it is rolled back and run again piece by piece in savepoints,
so that one bad piece fails only its own caller.

*Durability.* With ``durability=power`` a transaction that holds any HARD work commits with synchronous=FULL.
One with only SOFT work (claims, renewals, give-backs, heartbeats) commits with NORMAL: no sync. This is sound
because the log is one sequence of frames with chained checksums: recovery keeps a prefix of it, so what a power cut
can take is the youngest commits only, and syncing a HARD commit makes every commit before it durable too. Losing
a SOFT suffix leaves the state as it was before it: a claimed row is ready again, its fence and count one lower.
Nobody can hold the lost fence, for every holder lived on the host whose power was cut; and nothing that was
acknowledged as durable came after it. A checkpoint syncs the log before it writes the database, in either
mode. A dead process loses neither kind.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from tranship.backends.sqlite._database import concerns_storage, create, explain, namespace, open_writer
from tranship.backends.sqlite._file import Gate, Location, SideLock
from tranship.backends.sqlite._options import SqliteOptions
from tranship.backends.sqlite._peers import Waker
from tranship.backends.sqlite._transaction import Job, Kind, Mode, Transaction, refuse
from tranship.backends.sqlite._upkeep import UPKEEP, Checkpointer
from tranship.errors import StorageFull, TranshipError

__all__ = ["Store"]

log = logging.getLogger("tranship.sqlite")

_NORMAL: Final = 1
_FULL: Final = 2


class Store:
    """Used by one thread at a time; the writer sees to that."""

    def __init__(self, location: Location, options: SqliteOptions) -> None:
        self.location = location
        self.checkpointer = Checkpointer(location)
        self.gate = Gate(self._orphan)
        self.connection: sqlite3.Connection | None = None
        self.waker: Waker | None = None
        self.ns = 0
        self.lease = options.lease
        self._options = options
        self._sidelock = SideLock(location.lock_path, patience=options.busy_timeout)
        self._synchronous = 0
        self._changes = 0
        self._behind = False
        """Whether the last checkpoint failed."""

    @property
    def path(self) -> str:
        """The file's, for messages."""
        return str(self.location.path)

    def open(self) -> None:
        """Open the file and make its tables. Raises what goes wrong, as it comes."""
        self.location.create()
        self._sidelock.open(self.location.path)
        with self._alone(), self.gate.lock:
            self.connection = open_writer(self.location.path, busy_timeout=self._options.busy_timeout)
            self.location.settle()
            self.checkpointer.room.look()
            self._synchronize(self.connection, Mode.HARD)
            self.connection.execute("BEGIN IMMEDIATE")
            create(self.connection, self.path)
            self.ns = namespace(self.connection, self._options.namespace)
            self.connection.execute("COMMIT")

    def run(self, jobs: Sequence[Job]) -> None:
        """Do ``jobs`` in one transaction, each getting its value or its error, and wake who is to hear of it."""
        if self.checkpointer.room.little:
            jobs = self._with_room(jobs)
        writes = any(job.kind.mode for job in jobs)
        wakes = self._attempt(jobs, self._alone if writes else nullcontext)
        self._wake(wakes)

    def _with_room(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Refuse what would take the room that the rest needs; return the rest."""
        growing = [job for job in jobs if job.kind.grows]
        if not growing or self.connection is None:
            return jobs
        try:
            with self.gate.lock:
                self.checkpointer.check_room(self.connection)
        except (StorageFull, sqlite3.Error) as error:
            refuse(growing, explain(error, self.path))
            return [job for job in jobs if not job.kind.grows]
        return jobs

    def run_at_once(self, jobs: Sequence[Job]) -> bool:
        """The same, unless another process is writing: then nothing is done, and False is returned."""
        if self.connection is None or not self._sidelock.try_acquire():
            return False
        try:
            wakes = self._attempt(jobs, nullcontext)
        finally:
            self._sidelock.release()
        self._wake(wakes)
        return True

    def _attempt(
        self, jobs: Sequence[Job], guard: Callable[[], AbstractContextManager[None]]
    ) -> list[tuple[str, bytes]]:
        try:
            self.location.verify()
            with guard():
                return self._guarded(jobs)
        except Exception as error:  # noqa: BLE001 - every caller hears it
            refuse(jobs, explain(error, self.path))
            return []

    def _wake(self, wakes: list[tuple[str, bytes]]) -> None:
        if wakes and self.waker:
            try:
                self.waker.wake(wakes)
            except Exception:
                # It is committed, and whoever was not woken looks soon.
                log.exception("waking the other users of %s failed", self.path)

    def checkpoint(self, *, truncate: bool) -> None:
        """Move the log into the database."""
        connection = self.connection
        assert connection is not None
        try:
            with self._alone(), self.gate.lock:
                self.checkpointer.checkpoint(connection, truncate=truncate)
        except (sqlite3.Error, OSError, TranshipError) as error:
            # Once: on a full disk every turn tries.
            log.log(
                logging.DEBUG if self._behind else logging.WARNING,
                "checkpoint of %s failed, the next one will do it: %s",
                self.path,
                error,
            )
            self._behind = True
        else:
            self._behind = False

    def upkeep(self) -> None:
        """Do a bite of housekeeping."""
        job = Job(UPKEEP, None, 100)
        self.run([job])
        self.checkpointer.upkept(more=bool(job.value))
        if job.error is not None:
            log.warning("upkeep of %s failed: %s", self.path, job.error)

    def close(self) -> None:
        """Close everything: the last connection merges the log and deletes it, so this too is done alone."""
        if self.waker:
            self.waker.close()
        connection, self.connection = self.connection, None
        try:
            if connection is not None:
                self._close(connection)
        finally:
            self._sidelock.close()

    def _close(self, connection: sqlite3.Connection) -> None:
        try:
            self._sidelock.acquire()
        except (OSError, TranshipError) as error:
            log.warning("closing %s beside a process that holds its lock: %s", self.path, error)
        # Closing the lock file, which comes next, lets go of it.
        with self.gate.lock:
            connection.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._sidelock.acquire()
        try:
            yield
        finally:
            self._sidelock.release()

    def _guarded(self, jobs: Sequence[Job]) -> list[tuple[str, bytes]]:
        connection = self.connection
        assert connection is not None
        with self.gate.lock:
            try:
                return self._together(connection, jobs)
            except Exception as error:
                _rollback(connection)
                if concerns_storage(error):
                    raise
            return self._piecemeal(connection, jobs)

    def _together(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[tuple[str, bytes]]:
        groups: dict[Kind[Any, Any], list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.kind, []).append(job)
        tx = self._begin(connection, max(kind.mode for kind in groups))
        for kind, group in groups.items():
            answers = kind.run(tx, [job.argument for job in group])
            for job, value in zip(group, answers, strict=True):
                job.value = value
        return self._commit(tx, jobs)

    def _piecemeal(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[tuple[str, bytes]]:
        tx = self._begin(connection, Mode.HARD)
        try:
            for job in jobs:
                self._piece(tx, job)
            return self._commit(tx, jobs)
        except BaseException:
            _rollback(connection)
            raise

    def _piece(self, tx: Transaction, job: Job) -> None:
        tx.run("SAVEPOINT piece")
        try:
            (job.value,) = job.kind.run(tx, [job.argument])
        except Exception as error:
            if concerns_storage(error):
                raise
            job.error = explain(error, self.path)
            tx.run("ROLLBACK TO piece")
        tx.run("RELEASE piece")

    def _begin(self, connection: sqlite3.Connection, mode: Mode) -> Transaction:
        self._synchronize(connection, mode)
        # Never a transaction that reads first and writes later: it would fail as soon as somebody else commits.
        connection.execute("BEGIN" if mode is Mode.READ else "BEGIN IMMEDIATE")
        return Transaction(connection, self.ns)

    def _commit(self, tx: Transaction, jobs: Sequence[Job]) -> list[tuple[str, bytes]]:
        wakes = self.waker.choose(tx) if self.waker and tx.wakes.any() else []
        tx.connection.execute("COMMIT")
        changes, self._changes = tx.connection.total_changes - self._changes, tx.connection.total_changes
        if changes:
            self.checkpointer.wrote(sum(job.weight for job in jobs))
        return wakes

    def _synchronize(self, connection: sqlite3.Connection, mode: Mode) -> None:
        wanted = _FULL if mode is Mode.HARD and self._options.durability == "power" else _NORMAL
        if mode is not Mode.READ and wanted != self._synchronous:
            connection.execute("PRAGMA synchronous=FULL" if wanted == _FULL else "PRAGMA synchronous=NORMAL")
            self._synchronous = wanted

    def _orphan(self) -> Any:
        self._sidelock.close()
        if self.waker:
            self.waker.close()
        connection, self.connection = self.connection, None
        return connection


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
