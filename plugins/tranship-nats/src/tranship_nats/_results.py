"""The result store: a key-value bucket in which the first writer of a key wins, and pushes beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import lru_cache

from tranship.envelope import TaskState
from tranship.errors import MessageTooLarge, TranshipError
from tranship.ports import ResultSink, StoredResult
from tranship_nats._api import Stored
from tranship_nats._asks import Answer
from tranship_nats._context import Context
from tranship_nats._errors import NOT_THE_LAST, again, error_in
from tranship_nats._frames import block
from tranship_nats._message import check_size
from tranship_nats._names import id_token
from tranship_nats._pushed import STATE, state_of
from tranship_nats._settling import stored

__all__ = ["NatsResults"]

log = logging.getLogger("tranship.nats")

_FIRST = (b"Nats-Expected-Last-Subject-Sequence", b"0")
_UNREADABLE = b" "


class NatsResults:
    """Keeps results; see :class:`tranship.ports.ResultStore`."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._sink: ResultSink | None = None
        self._hinted: dict[str, None] = {}
        self._reading: asyncio.Task[None] | None = None
        ctx.expected.attach(self._pushed, self._hint)

    @property
    def waiting(self) -> int:
        """How many results are expected."""
        return len(self._ctx.expected)

    def attach(self, sink: ResultSink) -> None:
        """From now on push to ``sink``."""
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids``; what is submitted from here costs no subscription."""
        if not self._ctx.gate.closed:
            self._ctx.expected.add(ids)

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids``."""
        self._ctx.expected.drop(ids)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results, each unless a terminal one is there, and tell who waits."""
        self._ctx.check()
        for result in results:
            self._check_size(result)
        await self._ctx.streams.need("results")
        asks = [(self._subject(one.id).encode(), _headers(one.state), one.document) for one in results]
        answers = await self._ctx.api.make_all(asks)
        won: list[bool] = []
        failed: TranshipError | None = None
        for result, answer in zip(results, answers, strict=True):
            try:
                won.append(await self._stored(result, answer))
            except TranshipError as error:
                failed = error
        if failed is not None:
            raise again(failed)
        return won

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of ``ids``; an id without a result is PENDING, whether it exists or not."""
        self._ctx.check()
        self._ctx.expected.flush()
        found = await self._read(ids)
        return [
            StoredResult(id=task_id, state=TaskState.PENDING) if one is None else _result(task_id, one)
            for task_id, one in zip(ids, found, strict=True)
        ]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results."""
        self._ctx.check()
        stream = await self._ctx.streams.need("results")
        asks = [self._ctx.api.purging(stream, self._subject(task_id)) for task_id in ids]
        for answer in await self._ctx.api.make_all(asks):
            stored(self._ctx, "results", answer)

    def close(self) -> None:
        """Push nothing any more."""
        self._sink = None
        self._ctx.expected.clear()
        if self._reading is not None:
            self._reading.cancel()

    async def _stored(self, result: StoredResult, answer: Answer) -> bool:
        if not isinstance(answer, TranshipError) and b'"error"' in answer[1]:
            error = error_in(answer[1])
            if error is not None and error.number == NOT_THE_LAST:
                return await self._second(result)
        stored(self._ctx, "results", answer)
        self._ctx.link.post(self._ctx.expected.frames(result))
        return True

    async def _second(self, result: StoredResult) -> bool:
        """Another one was first; it may be our own, whose confirmation was lost, and nobody may have been told."""
        (first,) = await self._read([result.id])
        if first is None:
            return False
        known = _result(result.id, first)
        told = StoredResult(id=result.id, state=known.state, document=known.document, reply_to=result.reply_to)
        self._ctx.link.post(self._ctx.expected.frames(told))
        return known.document == result.document

    async def _read(self, ids: Sequence[str]) -> list[Stored | None]:
        stream = await self._ctx.streams.need("results")
        api = self._ctx.api
        answers = await api.make_all([api.getting(stream, {"last_by_subj": self._subject(one)}) for one in ids])
        return [api.read(answer, stream) for answer in answers]

    def _subject(self, task_id: str) -> str:
        return self._ctx.names.key("results", id_token(task_id))

    def _check_size(self, result: StoredResult) -> None:
        limit = self._ctx.max_message_size
        error: MessageTooLarge | None = check_size(
            result.id, len(result.document), limit, f"the result of task {result.id}"
        )
        if error is not None:
            raise error

    # Pushing.

    def _pushed(self, result: StoredResult) -> None:
        if self._sink is not None:
            self._sink([result])

    def _hint(self, task_id: str) -> None:
        """Somebody else was sent the result: read it."""
        self._hinted[task_id] = None
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_hinted())

    async def _read_hinted(self) -> None:
        while self._hinted:
            hinted, self._hinted = list(self._hinted), {}
            # Where the connection is lost, its return makes the core read everything again.
            with contextlib.suppress(TranshipError):
                for result in await self.get_many(hinted):
                    if result.state.terminal:
                        self._pushed(result)


@lru_cache(maxsize=16)
def _headers(state: TaskState) -> bytes:
    return block([_FIRST, (STATE, state.value.encode())])


def _result(task_id: str, found: Stored) -> StoredResult:
    return StoredResult(id=task_id, state=state_of(dict(found.headers)), document=found.data or _UNREADABLE)
