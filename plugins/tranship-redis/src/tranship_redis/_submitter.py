"""The submitter: messages in batches, several under way, each answered for good."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from redis.exceptions import ResponseError

from tranship.errors import ClosedError, SubmitUnknown, TranshipError
from tranship.protocol import Message
from tranship_redis._batches import Answer, Batch, Call
from tranship_redis._context import Context
from tranship_redis._element import Elements
from tranship_redis._marker import Marker
from tranship_redis._pack import pack
from tranship_redis._wire import Reply
from tranship_redis._writer import BYTES, COUNT, Writer

__all__ = ["RedisSubmitter"]

log = logging.getLogger("tranship.redis")

IN_FLIGHT: Final = 8
"""Batches of one call that are under way at once."""
_QUEUES: Final = 10_000
"""Names of queues that are remembered as registered."""


class RedisSubmitter:
    """Stores messages; see :class:`tranship.ports.Submitter`.

    An answer that is lost with the connection is found out about when it is back, so that a submit answers
    :class:`~tranship.errors.SubmitUnknown` only when the backend is closed before that. It waits for as long as
    it takes; the core bounds it.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._writer = Writer(Elements(ctx.keys, ctx.levels), ctx.keys, ctx.options, ctx.clock)
        self._marker = Marker(ctx.main, ctx.keys)
        self._generation = 0
        self._registered: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def max_message_size(self) -> int:
        """The option of that name."""
        return self._ctx.options.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Answer]:
        """Store ``messages``, 250 at a time."""
        self._ctx.check()
        call, start = Call(messages), 0
        while start < len(messages):
            if start:
                await call.at_most(IN_FLIGHT - 1)
                await asyncio.sleep(0)
            batch, start = self._writer.fill(call, start)
            if batch:
                self._post(call, batch)
        await call.at_most(0)
        return call.answers

    def post(self, messages: Sequence[Message], answered: Callable[[Sequence[Answer]], object]) -> None:
        """The same without a task, for what fits into one batch; sent at once."""
        if len(messages) > 1 and (len(messages) > COUNT or sum(message.size for message in messages) > BYTES):
            self._post_many(messages, answered)
            return
        call = Call(messages)
        try:
            self._ctx.check()
        except ClosedError as error:
            call.answers = [error] * len(messages)
        else:
            batch, _ = self._writer.fill(call, 0)
            if batch:
                self._ctx.main.hold()
                try:
                    self._post(call, batch)
                finally:
                    self._ctx.main.flush()
        call.then(answered)

    async def aclose(self) -> None:
        """Answer what is still under way with SubmitUnknown."""
        self._marker.close()

    def _post_many(self, messages: Sequence[Message], answered: Callable[[Sequence[Answer]], object]) -> None:
        task = asyncio.get_running_loop().create_task(self._submit_many(messages, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit_many(self, messages: Sequence[Message], answered: Callable[[Sequence[Answer]], object]) -> None:
        try:
            answers = await self.submit(messages)
        except TranshipError as error:
            answers = [error] * len(messages)
        except Exception as error:
            # Nobody awaits this task: without an answer its callers would wait for ever.
            log.exception("submitting %d messages failed in an unexpected way", len(messages))
            answers = [SubmitUnknown(f"the submit failed in an unexpected way: {error!r}") for _ in messages]
        answered(answers)

    def _post(self, call: Call, batch: Batch) -> None:
        call.left()
        try:
            self._register(batch.queues)
            self._marker.post(batch)
        except TranshipError as error:
            batch.failed(error)

    def _register(self, queues: set[str]) -> None:
        """Make ``queues`` known to inspectors, once per connection."""
        link = self._ctx.main
        if self._generation != link.generation or len(self._registered) > _QUEUES:
            self._generation = link.generation
            self._registered.clear()
        if not queues <= self._registered:
            new = queues - self._registered
            link.post(pack(b"SADD", self._ctx.keys.queues, *new), partial(self._did_register, new))
            self._registered |= new

    def _did_register(self, queues: set[str], reply: Reply) -> None:
        if isinstance(reply, ResponseError):
            self._registered -= queues
