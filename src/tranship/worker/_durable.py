"""What one run of a task keeps, so that the next one goes on from there: the values of steps, and of what is done once.

A handler calls from any thread or loop. Records are read and written on the I/O loop; they are created and never
changed, and whoever comes second goes by what is there.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from tranship._running import is_in_loop
from tranship.checks import invalid, key_text, name_text
from tranship.errors import MessageTooLarge, TranshipError, UnsupportedError
from tranship.outcomes import Suspended
from tranship.pauses import patiently
from tranship.ports import NameHolder, Record, Records
from tranship.steps import (
    KEPT,
    ONCE_KEPT,
    decode_value,
    encode_value,
    event_key,
    kept_until,
    once_key,
    over_key,
    sleep_key,
    step_key,
    wait_key,
)
from tranship.task import TaskContext

__all__ = ["Steps"]

log = logging.getLogger("tranship.worker")

LOOK: Final = 0.5
"""Seconds between two looks of a thread that waits, whether it is to stop."""
PATIENCE: Final = 60.0
"""Seconds for which a store that is away is tried again."""
LOCKED: Final = 30.0
"""Seconds after which what is done once is free again, when the worker that does it has died."""
AGAIN: Final = 0.2
"""Seconds between two looks whether somebody else has done it."""
FIRST_LOOK: Final = 0.5
LAST_LOOK: Final = 15.0
"""Seconds until an event is looked for again, at least and at most."""
LONGEST_KEY: Final = 900
"""Bytes of a key of the user's: there is something before it."""

T = TypeVar("T")


class _Heard(NamedTuple):
    """What a look for an event has found."""

    value: bytes | None
    """None: it is not there."""
    again: float
    """Then: seconds until it is looked for again; 0: its time is over."""


class Steps:
    """What one run keeps; see :class:`tranship.task.Durable`.

    Args:
        context: of the run.
        records: where it is kept.
        io: the loop on which records are read and written.
        limit: bytes of one value.

    Attributes:
        awaited: the key of the event that the run was suspended for, last; None: for none.
    """

    def __init__(self, context: TaskContext, records: Records, *, io: asyncio.AbstractEventLoop, limit: int) -> None:
        self._context, self._records, self._io, self._limit = context, records, io, limit
        ttl = context.envelope.result_ttl
        self.awaited: str | None = None
        self._ttl = KEPT if ttl is None else max(KEPT, ttl)
        self._names: set[tuple[str, str]] = set()
        """What has been named in this run, by its kind."""
        self._sleeps = 0
        """How many had no name."""
        self._seen: dict[str, bytes] = {}
        """What it has come to, by key."""
        self._waits: Counter[str] = Counter()
        """How often each event has been waited for in this run."""

    # The handler's side.

    def step(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the value of a step; on a loop, what is awaited for it."""
        self._take_name("step", name)
        what, key = f"step {name!r}", step_key(self._context.id, name)
        if not is_in_loop():
            return self._step_blocking(name, what, key, call)
        return self._step(name, what, key, call)

    def once(self, key: str, call: Callable[[], Any]) -> Any:
        """Return the value of what is done once in all; likewise."""
        what = f"what is done once as {key_text('key', key, LONGEST_KEY)!r}"
        holder = NameHolder(name=once_key(key), instance=secrets.token_hex(8))
        if not is_in_loop():
            return self._once_blocking(what, holder, call)
        return self._once(what, holder, call)

    def sleep(self, name: str | None, due: float) -> Any:
        """Suspend the run until ``due``, unless that is over; likewise."""
        if name is None:
            name = str(self._sleeps)
            self._sleeps += 1
        self._take_name("sleep", name)
        left = self._time_left(sleep_key(self._context.id, name), due)
        if not is_in_loop():
            return _suspend(self._blocked(left, self._context.raise_if_cancelled))
        return self._sleep(left)

    def wait_event(self, name: str, timeout: float | None) -> Any:
        """Suspend the run until the event has been sent; likewise."""
        number = self._waits[name_text("name of an event", name)]
        self._waits[name] += 1
        heard = self._heard(name, number, timeout)
        if not is_in_loop():
            return self._event(name, timeout, self._blocked(heard, self._context.raise_if_cancelled))
        return self._wait_event(name, timeout, heard)

    def _take_name(self, kind: str, name: str) -> None:
        option = f"name of a {kind}"
        if (kind, name_text(option, name)) in self._names:
            raise invalid(option, name, f"a name that no {kind} before it has in this task; number those of a loop")
        self._names.add((kind, name))

    async def _sleep(self, left: Coroutine[Any, Any, float]) -> None:
        _suspend(await self._on_io(left))

    async def _step(self, name: str, what: str, key: str, call: Callable[[], Any]) -> Any:
        try:
            kept = await self._on_io(self._read(key))
            if kept is None:
                self._context.raise_if_cancelled()
                value = call()
                if inspect.isawaitable(value):
                    value = await value
                kept = await self._to_the_end(self._keep(self._record(key, value, what)))
        except BaseException:
            # It may be tried again in the same run.
            self._names.discard(("step", name))
            raise
        return decode_value(kept)

    def _step_blocking(self, name: str, what: str, key: str, call: Callable[[], Any]) -> Any:
        try:
            kept = self._blocked(self._read(key), self._context.raise_if_cancelled)
            if kept is None:
                self._context.raise_if_cancelled()
                kept = self._blocked(self._keep(self._record(key, _plain(call(), what), what)))
        except BaseException:
            self._names.discard(("step", name))
            raise
        return decode_value(kept)

    async def _once(self, what: str, holder: NameHolder, call: Callable[[], Any]) -> Any:
        kept = await self._on_io(self._begin(holder))
        if isinstance(kept, bytes):
            return decode_value(kept)
        record: Record | None = None
        try:
            value = call()
            if inspect.isawaitable(value):
                value = await value
            record = self._record(holder.name, value, what, ONCE_KEPT)
        finally:
            done = await self._to_the_end(self._finish(holder, kept, record))
        return decode_value(done)

    def _once_blocking(self, what: str, holder: NameHolder, call: Callable[[], Any]) -> Any:
        kept = self._blocked(self._begin(holder), self._context.raise_if_cancelled)
        if isinstance(kept, bytes):
            return decode_value(kept)
        record: Record | None = None
        try:
            record = self._record(holder.name, _plain(call(), what), what, ONCE_KEPT)
        finally:
            done = self._blocked(self._finish(holder, kept, record))
        return decode_value(done)

    async def _wait_event(self, name: str, timeout: float | None, heard: Coroutine[Any, Any, _Heard]) -> Any:
        return self._event(name, timeout, await self._on_io(heard))

    def _event(self, name: str, timeout: float | None, heard: _Heard) -> Any:
        if heard.value is not None:
            return decode_value(heard.value)
        self.awaited = event_key(self._context.id, name)
        _suspend(heard.again)
        raise TimeoutError(f"task {self._context.id} was not sent the event {name!r} within {timeout or 0.0:g} s")

    def _record(self, key: str, value: Any, what: str, ttl: float | None = None) -> Record:
        """Return the record of a value, which is kept for so long; None: as usual."""
        ttl = self._ttl if ttl is None else ttl
        data = encode_value(value, time.time() + ttl, f"the value of {what}")
        if len(data) > self._limit:
            raise MessageTooLarge(
                f"the value of {what} has {len(data):,} bytes, and may have {self._limit:,} (max_message_size); it was "
                "done, and is not remembered: return a reference (a path, a URL)",
                size=len(data),
                limit=self._limit,
                task_id=self._context.id,
            )
        return Record(key, data, ttl=ttl)

    async def _on_io(self, work: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self._io:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._io))

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """The same of what goes on when the handler is cancelled: what was done is kept."""
        return await asyncio.shield(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._io)))

    def _blocked(self, work: Coroutine[Any, Any, T], check: Callable[[], None] = lambda: None) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._io)
        while True:
            try:
                return future.result(LOOK)
            except TimeoutError:
                if future.done():
                    raise
            try:
                check()
            except BaseException:
                future.cancel()
                raise

    # The I/O loop's side.

    async def renew(self, delay: float) -> None:
        """Keep what this run has come to for as long as ever from ``delay`` seconds from now, when the task runs again.

        What is kept for half of that anyway is left alone: a task that waits looks again and again.
        """
        enough = time.time() + delay + self._ttl / 2
        short = [(key, data) for key, data in self._seen.items() if kept_until(data) < enough]
        if short:
            longer = [self._record(key, decode_value(data), "the task", self._ttl + delay) for key, data in short]
            await self._patiently(lambda: self._records.put(longer))

    async def _read(self, key: str) -> bytes | None:
        (found,) = await self._read_all(key)
        return found

    async def _read_all(self, *keys: str) -> list[bytes | None]:
        found = await self._patiently(lambda: self._records.read(keys))
        self._seen.update((one.key, one.value) for one in found if one is not None)
        return [None if one is None else one.value for one in found]

    async def _time_left(self, key: str, due: float) -> float:
        """Return the seconds until what was kept the first time, which ``due`` is then."""
        kept = await self._read(key)
        if kept is None:
            ttl = self._ttl + max(due - self._now(), 0.0)
            kept = await self._keep(self._record(key, due, "a sleep", ttl))
        return float(decode_value(kept)) - self._now()

    async def _heard(self, name: str, number: int, timeout: float | None) -> _Heard:
        """Look whether the event has been sent; in time, where there is a limit. What was found once stays."""
        of = self._context.id
        began, over, event = await self._read_all(
            wait_key(of, name, number), over_key(of, name, number), event_key(of, name)
        )
        if began is None:
            began = await self._keep(self._record(wait_key(of, name, number), self._now(), "a wait"))
        waited = max(self._now() - float(decode_value(began)), 0.0)
        if timeout is None:
            return _Heard(event, _next_look(waited))
        if over is None and (event is not None or waited >= timeout):
            # Written down: of two runs at once both find the same.
            over = await self._keep(self._record(over_key(of, name, number), event is not None, "a wait"))
        if over is None:
            return _Heard(None, min(_next_look(waited), timeout - waited))
        return _Heard(event if decode_value(over) else None, 0.0)

    def _now(self) -> float:
        """The broker's time: the next run may be on another host."""
        return time.time() + self._context.ahead

    async def _keep(self, record: Record) -> bytes:
        """Write a record, unless there is one; return the value that is there then."""

        async def once() -> bytes | None:
            if await self._records.write(record):
                return record.value
            (found,) = await self._records.read([record.key])
            return None if found is None else found.value

        while (value := await self._patiently(once)) is None:
            # Its time was over just then.
            pass
        self._seen[record.key] = value
        return value

    async def _begin(self, holder: NameHolder) -> bytes | asyncio.Task[None]:
        """Return the value of what is done once; else, once nobody else does it, what keeps the lock on it."""
        while True:
            if (kept := await self._read(holder.name)) is not None:
                return kept
            if await self._patiently(lambda: self._records.take_lock(holder, LOCKED)) is not None:
                await asyncio.sleep(AGAIN)
                continue
            # Somebody may have done it between the two.
            if (kept := await self._read(holder.name)) is None:
                return self._io.create_task(self._keep_locked(holder))
            await self._free(holder)
            return kept

    async def _keep_locked(self, holder: NameHolder) -> None:
        while True:
            await asyncio.sleep(LOCKED / 3)
            try:
                await self._records.take_lock(holder, LOCKED)
            except TranshipError as error:
                log.debug("keeping the lock %r: %s; trying again", holder.name, error)

    async def _finish(self, holder: NameHolder, lock: asyncio.Task[None], record: Record | None) -> bytes:
        """Keep what was done, if it was, and let others have their turn."""
        try:
            return b"" if record is None else await self._keep(record)
        finally:
            lock.cancel()
            await self._free(holder)

    async def _free(self, holder: NameHolder) -> None:
        try:
            await self._records.free_lock(holder)
        except TranshipError as error:
            log.debug("the lock %r is not given up, and expires: %s", holder.name, error)

    async def _patiently(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call again what the store could not answer; each call may be repeated without harm."""
        return await patiently(call, PATIENCE, f"keeping the steps of task {self._context.id}")


def _next_look(waited: float) -> float:
    """Return the seconds until an event is looked for again that has been waited for so long."""
    return min(max(waited / 4, FIRST_LOOK), LAST_LOOK)


def _suspend(left: float) -> None:
    if left > 0:
        raise Suspended(left)


def _plain(value: Any, what: str) -> Any:
    """Return what a function returned in a thread, which awaits nothing."""
    if not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        value.close()
    raise UnsupportedError(
        f"{what} is a coroutine function, and a def handler cannot await it: make the handler async def, or give a "
        "plain function"
    )
