"""The one thread that writes: group commit of everything that callers asked for meanwhile.

Callers put work on a queue; the thread takes what is there, has it done in one transaction, and answers all callers
with one call into each loop, before it moves the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from tranship.backends.sqlite._database import again, explain
from tranship.backends.sqlite._store import Store
from tranship.backends.sqlite._transaction import Job, Kind, Mode, refuse
from tranship.errors import ClosedError, TranshipError
from tranship.guards import ServiceThread

__all__ = ["Writer"]

A = TypeVar("A")
R = TypeVar("R")

log = logging.getLogger("tranship.sqlite")

STALL: Final = 0.1
"""Part of a lease: a turn that took longer (a slow disk, a hung neighbour) may have kept renewals waiting."""

BATCH: Final = 1500
"""Rows per transaction, about."""

_LIFE: Final[Kind[None, None]] = Kind("run the writer", lambda _, arguments: arguments, Mode.READ)
"""The kind of the jobs that stand for the thread's start and end."""


class Writer:
    """Runs the store in a thread of its own. :meth:`post` and :meth:`call` may be used on any thread and loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: ServiceThread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._failure: TranshipError | None = None
        self._stopping = False
        self._taken: list[Job] = []
        """Not answered yet."""
        self._stalled = False
        self._turning = threading.Lock()
        """Held by whoever uses the store: the thread, or a caller whose work is done at once."""

    async def start(self) -> None:
        """Open the database in the thread. Raises what that raises, as one of ours."""
        loop = asyncio.get_running_loop()
        opened, self._ended = loop.create_future(), loop.create_future()
        # Somebody else's business once the caller has been cancelled.
        opened.add_done_callback(lambda found: found.cancelled() or found.exception())
        self._thread = ServiceThread(target=self._main, args=(opened, self._ended), name="tranship-sqlite-writer")
        self._thread.start()
        await asyncio.shield(opened)

    async def call(self, kind: Kind[A, R], argument: A, *, weight: int = 1) -> R:
        """Have ``kind`` done and return its answer.

        Args:
            kind: what to do.
            argument: with what.
            weight: about how many rows it writes.
        """
        if self._failure is None and kind.first and (job := self._at_once(kind, argument)):
            if job.error is not None:
                raise job.error
            value: R = job.value
            return value
        return await self.begin(kind, argument, weight=weight)

    def begin(self, kind: Kind[A, R], argument: A, *, weight: int = 1) -> asyncio.Future[R]:
        """Ask for ``kind`` to be done; the answer is that of :meth:`call`."""
        if self._failure is not None:
            raise again(self._failure)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(kind, argument, weight, future))
        return future

    def _at_once(self, kind: Kind[A, R], argument: A) -> Job | None:
        """Do it on the caller's thread, if nobody is or waits to be at the store: it need not wait for the disk, and
        two hand-offs between threads cost more than the work. None: it is for the thread to do.
        """
        if self._stalled or not self._queue.empty() or not self._turning.acquire(blocking=False):
            return None
        try:
            job = Job(kind, argument)
            return job if self.store.run_at_once([job]) else None
        finally:
            self._turning.release()

    def post(self, kind: Kind[A, Any], argument: A) -> None:
        """Have ``kind`` done without waiting for it."""
        if self._failure is None:
            self._queue.put(Job(kind, argument))

    def fail(self, error: TranshipError) -> None:
        """From now on refuse everything with ``error``."""
        self._failure = self._failure or error

    def orphan(self, error: TranshipError) -> None:
        """In a forked child: there is no thread here."""
        self._failure = error
        self._thread = None

    async def stop(self) -> None:
        """Finish what was asked for, checkpoint, close, and end the thread. Idempotent."""
        self.fail(ClosedError(f"the backend of {self.store.path} has been closed; open a new one"))
        if self._thread is None or self._ended is None:
            return
        self._queue.put(None)
        await asyncio.shield(self._ended)
        if self._thread is not None:
            # It has nothing left to do but to return.
            self._thread.join()
            self._thread = None

    # --- the thread ---

    def _main(self, opened: asyncio.Future[None], ended: asyncio.Future[None]) -> None:
        start, end = Job(_LIFE, None, future=opened), Job(_LIFE, None, future=ended)
        try:
            self.store.open()
            _answer([start])
            while not self._stopping:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whatever it is, who opens or waits must hear it
            start.error = explain(error, self.store.path)
            self.fail(start.error)
            _answer([start])
        finally:
            try:
                with self._turning:
                    self.store.close()
            except Exception:
                log.exception("closing %s failed", self.store.path)
            self._refuse_rest()
            _answer([end])

    def _turn(self) -> None:
        jobs = self._gather()
        with self._turning:
            self._work(jobs)

    def _work(self, jobs: list[Job]) -> None:
        store, began = self.store, time.monotonic()
        if jobs:
            hurried = [job for job in jobs if job.kind.first]
            rest = [job for job in jobs if not job.kind.first]
            # After a stall renewals and settlements go first: a claim would end the leases they are about.
            parts = (rest, hurried) if self._stalled else (hurried, rest)
            for part in parts:
                if part:
                    self._taken = part if part is parts[1] else [*part, *parts[1]]
                    store.run(part)
                    _answer(part)
            self._taken = []
            if store.checkpointer.checkpoint_due(busy=not self._queue.empty()):
                store.checkpoint(truncate=False)
        if store.checkpointer.upkeep_due() and not self._stopping:
            store.upkeep()
            if store.checkpointer.is_long() and self._queue.empty():
                store.checkpoint(truncate=True)
        if not jobs and store.checkpointer.idle_checkpoint_due():
            store.checkpoint(truncate=True)
        self._stalled = time.monotonic() - began > STALL * store.lease

    def _gather(self) -> list[Job]:
        jobs: list[Job] = []
        weight = 0
        try:
            job = self._queue.get(timeout=self.store.checkpointer.patience())
            while job is not None:
                jobs.append(job)
                weight += job.weight
                if weight >= BATCH:
                    return jobs
                job = self._queue.get_nowait()
            self._stopping = True
        except queue.Empty:
            pass
        return jobs

    def _refuse_rest(self) -> None:
        jobs, self._taken = self._taken, []
        while not self._queue.empty():
            job = self._queue.get()
            if job is not None and job.future is not None:
                jobs.append(job)
        if self._failure is not None:
            refuse(jobs, self._failure)
        _answer(jobs)


def _answer(jobs: Iterable[Job]) -> None:
    """Hand answers to their callers; from the writer's thread."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            loops.setdefault(job.future.get_loop(), []).append(job)
        elif job.error is not None:
            log.warning("the write %s failed, and nobody waits for it: %s", job.kind.name, job.error)
    for loop, answered in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, answered)


def _resolve(jobs: Iterable[Job]) -> None:
    for job in jobs:
        assert job.future is not None
        if job.future.done():
            continue  # cancelled meanwhile
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)
