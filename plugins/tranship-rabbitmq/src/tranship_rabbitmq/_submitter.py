"""The submitter: confirmed, pipelined, each message answered for good."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tranship.envelope import Receipt
from tranship.errors import ClosedError, MessageTooLarge, SubmitUnknown, TranshipError, UnsupportedError
from tranship.protocol import Message
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._delays import DelayTopology
from tranship_rabbitmq._errors import is_missing
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._publisher import failure
from tranship_rabbitmq._replies import Replies
from tranship_rabbitmq._size import SizeBound
from tranship_rabbitmq.amqp.ends import Ended, Returned

__all__ = ["RabbitSubmitter"]

log = logging.getLogger("tranship.rabbitmq")

Answer = Receipt | TranshipError

_CHUNK: Final = 4 * 1024 * 1024
"""Bytes written at once; more would be in memory twice."""
_LEAD: Final = 0.01
"""Seconds: what is due sooner than this is due now."""


class _Call:
    """The answers of one call; ``answered`` gets them when the last one is there."""

    def __init__(self, count: int, answered: Callable[[Sequence[Answer]], object]) -> None:
        self.answers: list[Answer | None] = [None] * count
        self._left = count
        self._answered = answered

    def answer(self, index: int, answer: Answer) -> None:
        """Note what became of one message; the first word counts."""
        if self.answers[index] is None:
            self.answers[index] = answer
            self._left -= 1
            if not self._left:
                self._answered([one for one in self.answers if one is not None])


class RabbitSubmitter:
    """Stores messages; see :class:`tranship.ports.Submitter`.

    A message whose confirm is lost with the connection is answered with SubmitUnknown: RabbitMQ cannot be asked
    whether it has one. One whose queue was deleted is returned by the server, and so known not to be stored.
    """

    def __init__(self, ctx: Context, replies: Replies) -> None:
        self._ctx = ctx
        self._replies = replies
        self._delays = DelayTopology(ctx)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bound = SizeBound(ctx.publishing)

    @property
    def max_message_size(self) -> int:
        """The option of that name."""
        return self._ctx.options.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Answer]:
        """Store ``messages``."""
        self._ctx.check()
        if not messages:
            return []
        answer: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()

        def answered(answers: Sequence[Answer]) -> None:
            if not answer.done():
                answer.set_result(answers)

        self.post(messages, answered)
        return await answer

    def post(self, messages: Sequence[Message], answered: Callable[[Sequence[Answer]], object]) -> None:
        """The same through a callback."""
        loop = asyncio.get_running_loop()
        # Never from inside of this call.
        call = _Call(len(messages), lambda answers: loop.call_soon(answered, answers))
        try:
            self._ctx.check()
        except ClosedError as error:
            for index in range(len(messages)):
                call.answer(index, error)
            return
        if self._is_ready(messages):
            for index, message in enumerate(messages):
                self._publish(call, index, message)
        else:
            task = asyncio.get_running_loop().create_task(self._prepared(call, messages))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """End what is under way; its answers say so."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _is_ready(self, messages: Sequence[Message]) -> bool:
        """Whether nothing has to be waited for."""
        if not self._ctx.publisher.ready or not self._replies.ready or len(messages) > 1000:
            return False
        knows, place = self._ctx.topology.knows, self._ctx.names.place
        size = 0
        for message in messages:
            envelope = message.envelope
            if envelope.not_before is not None or envelope.dedup_key is not None:
                return False
            try:
                if not knows(place(envelope.queue, envelope.priority)[0]):
                    return False
            except TranshipError:
                return False
            size += len(message.body)
        return size <= _CHUNK

    async def _prepared(self, call: _Call, messages: Sequence[Message]) -> None:
        """Declare what has to be, then publish, some megabytes at a time. Every message is answered."""
        for index, message in enumerate(messages):
            try:
                await self._prepare(message)
                if message.envelope.not_before is None or message.envelope.not_before <= time.time() + _LEAD:
                    self._publish(call, index, message)
                else:
                    await self._schedule(call, index, message)
            except asyncio.CancelledError:
                self._interrupted(call, index)
                raise
            except TranshipError as error:
                call.answer(index, _about(message, error))
            except Exception as error:
                log.exception("submitting task %s failed in an unexpected way", message.envelope.id)
                call.answer(index, SubmitUnknown(f"the submit failed: {error!r}", task_id=message.envelope.id))

    async def _prepare(self, message: Message) -> None:
        envelope = message.envelope
        if envelope.dedup_key is not None:
            raise UnsupportedError(
                f"{self._ctx.name} cannot keep dedup keys: task {envelope.id} was not submitted; leave dedup_key out",
                task_id=envelope.id,
            )
        channel = await self._ctx.publisher.open()
        await self._replies.open()
        name, _ = self._ctx.names.place(envelope.queue, envelope.priority)
        if not self._ctx.topology.knows(name):
            await self._ctx.topology.have(Physical(name, envelope.queue, envelope.priority))
            self._ctx.queue_names.add(envelope.queue)
            await self._ctx.queue_names.answered()
        await channel.wire.drained(_CHUNK)

    async def _schedule(self, call: _Call, index: int, message: Message) -> None:
        self._check_size(message)
        await self._delays.prepare(message)
        self._delays.post(message, partial(self._confirmed, call, index, message))

    def _publish(self, call: _Call, index: int, message: Message) -> None:
        envelope = message.envelope
        try:
            self._check_size(message)
            name, number = self._ctx.names.place(envelope.queue, envelope.priority)
            self._ctx.publisher.post(message, name, number, partial(self._confirmed, call, index, message))
        except TranshipError as error:
            call.answer(index, _about(message, error))

    def _confirmed(self, call: _Call, index: int, message: Message, why: Ended | None) -> None:
        envelope = message.envelope
        if why is None:
            call.answer(index, Receipt(envelope.id))
            return
        if (error := self._bound.judge(message, why)) is not None:
            call.answer(index, error)
            return
        if isinstance(why, Returned) or is_missing(why):
            self._ctx.topology.forget(self._ctx.names.place(envelope.queue, envelope.priority)[0])
            self._delays.forget()
        call.answer(index, failure(why, f"submitting task {envelope.id}", envelope.id))

    def _check_size(self, message: Message) -> None:
        self._bound.check(message)
        if message.size > self.max_message_size:
            raise MessageTooLarge(
                f"task {message.envelope.task!r} is {message.size:,} bytes; the limit is {self.max_message_size:,}",
                size=message.size,
                limit=self.max_message_size,
                task_id=message.envelope.id,
            )

    @staticmethod
    def _interrupted(call: _Call, index: int) -> None:
        for left in range(index, len(call.answers)):
            call.answer(left, ClosedError("the backend was closed before the task was submitted"))


def _about(message: Message, error: TranshipError) -> TranshipError:
    """Return the error with the task's id in it; each message has its own."""
    error.task_id = message.envelope.id
    return error
