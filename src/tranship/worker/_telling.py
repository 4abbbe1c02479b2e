"""What running tasks tell, their progress and their parts, on its way to the result store: a few writes a second each.

A handler tells from any thread. Everything else is on the I/O loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tranship._running import is_in_loop
from tranship.envelope import Envelope
from tranship.errors import LeaseLost, MessageTooLarge, TranshipError
from tranship.outcomes import Progress
from tranship.parts import encode_parts, encode_progress, part_key, progress_key, run_key, run_name
from tranship.pauses import Pauses
from tranship.ports import Record, Records

__all__ = ["Teller", "Tellers"]

log = logging.getLogger("tranship.worker")

PAUSE: Final = 0.25
"""Seconds between two writes."""
CHUNK: Final = 64 * 1024
"""Bytes of parts in one record, unless one part has more."""
AT_ONCE: Final = 32
"""Records of parts in one write."""
HELD: Final = 1024 * 1024
"""Bytes of one task that are not sent yet, above which its handler waits, if it can."""
LOOK: Final = 0.5
"""Seconds between two looks of a thread that waits, whether it is to stop."""
MOST: Final = 64 * 1024 * 1024
"""Bytes of it above which nothing more is taken."""
PATIENCE: Final = 60.0
"""Seconds for which the end of a task waits for what it has told."""


class Teller:
    """What one run of a task tells; see :class:`tranship.task.Telling`.

    Args:
        envelope: the task.
        ttl: seconds to keep it.
        limit: bytes of one part.
        dirty: called, from any thread, when there is something to send.
    """

    def __init__(self, envelope: Envelope, *, ttl: float, limit: int, dirty: Callable[[Teller], None]) -> None:
        self.id, self.limit, self.ttl = envelope.id, limit, ttl
        self._dirty = dirty
        self.run = run_name(envelope.attempt, time.time())
        self.begun = False
        """Whether it is written that the parts of this run count."""
        self._lock = threading.Lock()
        self._parts: deque[bytes] = deque()
        self._progress: Progress | None = None
        self._number = 0
        self._held = 0
        self._waiting: list[Callable[[], None]] = []
        self._problem: TranshipError | None = None
        self._records: list[Record] = []
        self.turn = asyncio.Lock()
        """Held while it is written."""

    # The handler's side.

    def progress(self, progress: Progress) -> None:
        """Tell how far it is; only the latest is sent, and nothing once the store has refused it."""
        with self._lock:
            if self._problem is not None:
                return
            self._progress = progress
        self._dirty(self)

    def emit(self, part: bytes) -> None:
        """Tell one part."""
        with self._lock:
            if self._problem is not None:
                raise self._problem
            if self._held > MOST:
                raise MessageTooLarge(
                    f"task {self.id} has emitted {self._held:,} bytes that could not be sent yet; await what emit() "
                    "returns, so that it waits for the store",
                    size=self._held,
                    limit=MOST,
                    task_id=self.id,
                )
            self._parts.append(part)
            self._held += len(part) + 1
        self._dirty(self)

    @property
    def full(self) -> bool:
        """Whether a handler that tells more should wait."""
        return self._held > HELD and self._problem is None

    async def room(self) -> None:
        """Wait until it is not full, on any loop."""
        loop = asyncio.get_running_loop()
        # A handler that emits without a pause lets others run, too.
        await asyncio.sleep(0)
        while self.full:
            future = loop.create_future()
            self._tell_me(lambda future=future: _resolve_on(loop, future))  # type: ignore[misc]
            await future

    def block(self, check: Callable[[], None]) -> None:
        """Block this thread until it is not full."""
        while self.full and not is_in_loop():
            event = threading.Event()
            self._tell_me(event.set)
            event.wait(LOOK)
            check()

    def _tell_me(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self.full:
                self._waiting.append(call)
                return
        call()

    # The I/O loop's side.

    @property
    def pending(self) -> bool:
        """Whether there is something to send."""
        return bool(self._records or self._parts or self._progress is not None)

    def records(self) -> list[Record]:
        """Return what is to be written now; the same until :meth:`written`."""
        if not self._records:
            with self._lock:
                self._records = self._made()
        return self._records

    def _made(self) -> list[Record]:
        made: list[Record] = []
        while self._parts and len(made) < AT_ONCE:
            number, chunk = self._number, [self._parts.popleft()]
            size = len(chunk[0])
            while self._parts and size + len(self._parts[0]) < CHUNK:
                chunk.append(self._parts.popleft())
                size += len(chunk[-1])
            self._number += len(chunk)
            made.append(Record(part_key(self.id, self.run, number), encode_parts(chunk), ttl=self.ttl))
        if self._progress is not None:
            made.append(Record(progress_key(self.id), encode_progress(self._progress), ttl=self.ttl))
            self._progress = None
        return made

    def written(self) -> None:
        """What :meth:`records` gave is written; there may be more."""
        self._end_writing()

    def failed(self, problem: TranshipError) -> None:
        """It is refused, and so is whatever is emitted from now on."""
        with self._lock:
            self._problem, self._progress = problem, None
            self._parts.clear()
        self._end_writing()

    def _end_writing(self) -> None:
        with self._lock:
            self._records = []
            self._held = sum(len(one) + 1 for one in self._parts)
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class Tellers:
    """Writes what tasks tell; made on the I/O loop.

    Args:
        records: of the result store.
        limit: bytes of one part.
        ttl: seconds to keep what belongs to a task that does not say how long its result is kept.
    """

    def __init__(self, records: Records, *, limit: int, ttl: float) -> None:
        self._records, self._limit, self._ttl = records, limit, ttl
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._dirty: dict[Teller, None] = {}
        self._writer: asyncio.Task[None] | None = None

    def teller(self, envelope: Envelope) -> Teller | None:
        """Return what takes what a run of this task tells; None: its result is not wanted. Any thread."""
        if not envelope.keeps_result:
            return None
        ttl = self._ttl if envelope.result_ttl is None else envelope.result_ttl
        return Teller(envelope, ttl=ttl, limit=self._limit, dirty=self._has_told)

    async def finish(self, teller: Teller) -> None:
        """Write what a run that has ended has told; its result comes after."""
        pauses, until = Pauses(), self._loop.time() + PATIENCE
        while teller.pending:
            if await self._write(teller):
                continue
            if self._loop.time() > until:
                log.warning("task %s: the last of what it told could not be stored, and is lost", teller.id)
                return
            await asyncio.sleep(pauses.next())

    def close(self) -> None:
        """Write no more."""
        if self._writer is not None:
            self._writer.cancel()

    def _has_told(self, teller: Teller) -> None:
        with self._lock:
            first = not self._dirty
            self._dirty[teller] = None
        if first:
            # A loop that is closed has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write_all())

    async def _write_all(self) -> None:
        pauses = Pauses()
        while True:
            with self._lock:
                tellers, self._dirty = list(self._dirty), {}
            if not tellers:
                return
            done = await asyncio.gather(*map(self._write, tellers))
            for teller in tellers:
                if teller.pending:
                    self._has_told(teller)
            if all(done):
                pauses.reset()
            await asyncio.sleep(PAUSE if all(done) else max(PAUSE, pauses.next()))

    async def _write(self, teller: Teller) -> bool:
        """Write what one has told; False: it is to be tried again."""
        async with teller.turn:
            records = teller.records()
            if not records:
                return True
            try:
                if not teller.begun:
                    await self._begin_run(teller)
                await self._records.put(records)
                await self._records.tell([run_key(teller.id)])
            except TranshipError as error:
                if error.retryable:
                    log.debug("task %s: storing what it tells: %s; trying again", teller.id, error)
                    return False
                log.warning("task %s: what it tells cannot be stored: %s", teller.id, error)
                teller.failed(error)
            else:
                teller.written()
        return True

    async def _begin_run(self, teller: Teller) -> None:
        """Have the parts of this run count, unless those of a later one do: then somebody else has the task."""
        key = run_key(teller.id)
        (found,) = await self._records.read([key])
        if found is not None and found.value.decode() > teller.run:
            raise LeaseLost(f"task {teller.id} runs again elsewhere; what this run tells is void", task_id=teller.id)
        await self._records.put([Record(key, teller.run.encode(), ttl=teller.ttl)])
        teller.begun = True


def _resolve_on(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))
