"""The hub of everybody who waits for results: one subscription, one reader, any number of waiters.

A waiter is a *sink*, a function that gets a task's id and its result, once. Expect first, then read: a result that
was stored before is found by the read, one that is stored later is pushed. After a lost connection everything
that is still waited for is read again. A transient error of the store is retried for as long as somebody waits
(conformance: ``result_transient_error_retried``).

Where a store can expect results with the submit itself (RESULT_PUSH, ``with_submit``), those of single submits are
anticipated: who waits for one then needs no read, and finds it here if it was faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from tranship.envelope import TaskResult, TaskState
from tranship.errors import ClosedError, TranshipError
from tranship.ports import ResultStore, StoredResult
from tranship.protocol import decode_result

__all__ = ["Found", "Sink", "Waiting"]

log: logging.Logger = logging.getLogger("tranship.waiting")

Found = TaskResult | TranshipError
Sink = Callable[[str, Found], None]

READ_BATCH: Final = 500
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
FIRST_POLL: Final = 0.01
LONGEST_POLL: Final = 0.5
ANTICIPATED: Final = 1_000
"""How many results that nobody has asked for are expected, or kept, at once. Who fires and forgets soon has as many
as that, and pays no more for expecting."""
SMALL: Final = 16_384
"""Bytes: larger results are not kept until somebody asks for them."""


class Anticipation:
    """Results that may be waited for soon: which are expected, and which have come already. Both are bounded.

    Args:
        store: the driver's.
    """

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._expected: dict[str, None] = {}
        self._come: dict[str, StoredResult] = {}

    def expect(self, ids: Sequence[str]) -> None:
        """Expect ``ids``, which have not been submitted yet, unless there are too many already."""
        if len(self._expected) + len(self._come) < ANTICIPATED:
            self._store.expect(ids)
            self._expected.update(dict.fromkeys(ids))

    def take(self, task_id: str) -> StoredResult | bool:
        """Somebody waits: return the result if it has come; else whether the id is expected already."""
        come = self._come.pop(task_id, None)
        if come is not None or self._expected.pop(task_id, self) is None:
            return come or True
        # Somebody does wait for results: what is not asked for makes room for what may be.
        if self._come:
            del self._come[next(iter(self._come))]
        elif self._expected:
            self._drop([next(iter(self._expected))])
        return False

    def came(self, result: StoredResult) -> None:
        """Keep a pushed result that nobody waits for yet."""
        if self._expected.pop(result.id, self) is None:
            self._store.unexpect([result.id])
            # What is no success may be replayed, by anybody anywhere: it is read when somebody asks.
            if result.state is TaskState.SUCCESS and len(result.document) <= SMALL:
                self._come[result.id] = result

    def forget(self, ids: Iterable[str]) -> None:
        """The stored results of ``ids`` are gone."""
        for task_id in ids:
            self._come.pop(task_id, None)

    def clear(self) -> None:
        """Expect nothing any more: what was pushed while the connection was lost is not known."""
        self._drop(list(self._expected))

    def _drop(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            del self._expected[task_id]
        if ids:
            self._store.unexpect(ids)


class Waiting:
    """All waiters of one link, on its loop.

    Args:
        store: the driver's.
        loop: the loop it lives on.
        push: whether the store pushes (RESULT_PUSH); without it the hub polls, for all waiters at once.
        knows_ids: whether an id that the store does not know is to be reported as UNKNOWN.
        held: returns which of such ids are of tasks that wait for their turn; None: nothing does.
    """

    def __init__(
        self,
        store: ResultStore,
        *,
        loop: asyncio.AbstractEventLoop,
        push: bool,
        knows_ids: bool,
        held: Callable[[Sequence[str]], Awaitable[Collection[str]]] | None = None,
    ) -> None:
        self._store = store
        self._held = held
        self._loop = loop
        self._push = push
        self.knows_ids = knows_ids
        self._sinks: dict[str, list[Sink]] = {}
        self._unread: dict[str, None] = {}
        self._later: set[str] = set()
        """What is submitted later: that the store does not know it is no news."""
        self._reader: asyncio.Task[None] | None = None
        self._closed = False
        self._early = Anticipation(store)
        if push:
            store.attach(self._pushed)

    def __len__(self) -> int:
        """How many ids are waited for."""
        return len(self._sinks)

    def anticipate(self, ids: Sequence[str]) -> None:
        """Expect ``ids``, which are submitted right after this call: only where the store can (``with_submit``)."""
        if not self._closed:
            self._early.expect(ids)

    def forget(self, ids: Iterable[str]) -> None:
        """The stored results of ``ids`` have been deleted."""
        self._early.forget(ids)

    def watch(self, ids: Iterable[str], sink: Sink, *, later: bool = False) -> None:
        """Hand the outcome of each of ``ids`` to ``sink``, once, on this loop; it may come before this returns.

        Args:
            ids: the tasks.
            sink: is called with each outcome.
            later: they may be submitted later: an id that the store does not know is waited for.
        """
        if self._closed:
            for task_id in ids:
                sink(task_id, _closed_error(task_id))
            return
        self._later.update(ids if later else ())
        fresh = []
        for task_id in ids:
            sinks = self._sinks.get(task_id)
            if sinks is not None:
                sinks.append(sink)
                continue
            self._sinks[task_id] = [sink]
            early = self._early.take(task_id)
            if early is False:
                fresh.append(task_id)
            elif early is not True:
                self._deliver(task_id, self._outcome(early))
        if self._push and fresh:
            self._store.expect(fresh)
        self._read(fresh)

    def unwatch(self, ids: Iterable[str], sink: Sink) -> None:
        """``sink`` does not want ``ids`` any more; those already delivered are ignored."""
        unwanted = []
        for task_id in ids:
            sinks = self._sinks.get(task_id, [])
            with contextlib.suppress(ValueError):
                sinks.remove(sink)
            if not sinks and self._sinks.pop(task_id, None) is not None:
                self._unread.pop(task_id, None)
                self._later.discard(task_id)
                unwanted.append(task_id)
        if self._push and unwanted:
            self._store.unexpect(unwanted)

    async def wait(self, task_id: str, seconds: float | None = None) -> TaskResult | None:
        """Wait for the terminal result of ``task_id``; return None when ``seconds`` are over, if there are any.

        Raises:
            TranshipError: what the store raised, if it is not worth retrying.
        """
        future: asyncio.Future[Found | None] = self._loop.create_future()

        def sink(_task_id: str, found: Found | None) -> None:
            if not future.done():
                future.set_result(found)

        # Not asyncio.timeout: it cancels the task that waits, and costs as much as all the rest here.
        timer = None if seconds is None else self._loop.call_later(seconds, sink, task_id, None)
        found: Found | None = None
        try:
            self.watch((task_id,), sink)
            found = await future
        finally:
            if timer is not None:
                timer.cancel()
            if found is None:
                self.unwatch((task_id,), sink)
        if isinstance(found, TranshipError):
            raise found
        return found

    async def states(self, ids: Sequence[str]) -> list[TaskResult]:
        """Read once what is known of ``ids``, in order.

        Raises:
            BrokerUnreachable: the store does not answer.
        """
        found: list[TaskResult] = []
        for start in range(0, len(ids), READ_BATCH):
            stored = await self._get_many(ids[start : start + READ_BATCH])
            found.extend(self._decode(one) for one in stored)
        return found

    def restored(self) -> None:
        """The connection is back: what was pushed meanwhile is lost, so read everything again."""
        self._early.clear()
        self._read(self._sinks)

    async def aclose(self) -> None:
        """Stop reading; everybody who still waits gets ClosedError."""
        self._closed = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        for task_id in list(self._sinks):
            self._deliver(task_id, _closed_error(task_id))

    # Reading: one task for all waiters, alive only while there is something to read.

    def _read(self, ids: Iterable[str]) -> None:
        self._unread.update(dict.fromkeys(ids))
        if self._unread and (self._reader is None or self._reader.done()):
            self._reader = self._loop.create_task(self._read_all())

    async def _read_all(self) -> None:
        pause = FIRST_PAUSE
        poll = FIRST_POLL
        while self._unread:
            # Taken out before asking: what is asked for again meanwhile (a restored connection) is read again.
            ids = list(islice(self._unread, READ_BATCH))
            for task_id in ids:
                del self._unread[task_id]
            try:
                stored = await self._get_many(ids)
            except TranshipError as error:
                if not error.retryable:
                    await self._fail_each(ids, error)
                    continue
                self._ask_again(ids)
                log.warning("reading results failed, trying again: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            except Exception as error:
                # A driver's bug must not leave callers waiting.
                log.exception("the backend's get_many failed in an unexpected way")
                self._fail(ids, TranshipError(f"reading results failed in the backend: {error!r}"))
                continue
            pause = FIRST_PAUSE
            for one in stored:
                self._found(one)
            if not self._push and self._unread:
                await asyncio.sleep(poll)
                poll = min(poll * 1.5, LONGEST_POLL)

    async def _get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        stored = await self._store.get_many(ids)
        if self._held is None or not self.knows_ids:
            return stored
        unknown = [one.id for one in stored if one.state is TaskState.UNKNOWN and one.id not in self._later]
        if not unknown or not (held := await self._held(unknown)):
            return stored
        return [replace(one, state=TaskState.PENDING) if one.id in held else one for one in stored]

    def _found(self, stored: StoredResult) -> None:
        unknown = stored.state is TaskState.UNKNOWN and self.knows_ids and stored.id not in self._later
        if stored.state.terminal or unknown:
            self._deliver(stored.id, self._outcome(stored))
        elif not self._push:
            self._ask_again([stored.id])

    def _ask_again(self, ids: Iterable[str]) -> None:
        """To the back of the line, if somebody still waits."""
        self._unread.update((task_id, None) for task_id in ids if task_id in self._sinks)

    async def _fail_each(self, ids: Sequence[str], error: TranshipError) -> None:
        """A batch was refused for good: one id that cannot be read must not take its neighbours along."""
        if len(ids) == 1:
            self._fail(ids, error)
            return
        for task_id in ids:
            try:
                (one,) = await self._store.get_many([task_id])
            except TranshipError as own:
                self._fail([task_id], own)
            else:
                self._found(one)

    def _fail(self, ids: Sequence[str], error: TranshipError) -> None:
        for task_id in ids:
            self._deliver(task_id, error)

    def _pushed(self, results: Sequence[StoredResult]) -> None:
        for one in results:
            if one.state.terminal:
                if one.id in self._sinks:
                    self._deliver(one.id, self._outcome(one))
                else:
                    self._early.came(one)

    def _deliver(self, task_id: str, found: Found) -> None:
        self._unread.pop(task_id, None)
        self._later.discard(task_id)
        sinks = self._sinks.pop(task_id, None)
        if sinks is None:
            return
        if self._push:
            self._store.unexpect([task_id])
        for sink in sinks:
            try:
                sink(task_id, found)
            except Exception:
                # One waiter's bug is not its neighbours' business.
                log.exception("a waiter of task %s failed", task_id)

    def _outcome(self, stored: StoredResult) -> Found:
        """A document that cannot be read is its own waiters' business, not that of their neighbours."""
        try:
            return self._decode(stored)
        except TranshipError as error:
            return error

    @staticmethod
    def _decode(stored: StoredResult) -> TaskResult:
        if stored.document:
            return decode_result(stored.document, task_id=stored.id)
        return TaskResult(id=stored.id, state=stored.state)


def _closed_error(task_id: str) -> ClosedError:
    return ClosedError("the client was closed while waiting", task_id=task_id)
