"""Sending: confirmed, pipelined, each message answered for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from tranship.driver import Answer, Outgoing
from tranship.errors import BrokerUnreachable, MessageTooLarge, TranshipError
from tranship_rabbitmq._delays import DelayTopology
from tranship_rabbitmq._errors import is_missing, largest
from tranship_rabbitmq._publisher import failure
from tranship_rabbitmq._routes import Routes
from tranship_rabbitmq.amqp.ends import Ended, Returned

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._context import Context

__all__ = ["Sender"]

Answered = Callable[[Sequence[Answer]], object]
Done = Callable[[Sequence[Answer] | Exception], None]

CHUNK: Final = 4 * 1024 * 1024
"""Bytes written at once; more would be in memory twice."""
LEAD: Final = 0.01
"""Seconds: what is due sooner than this is due now."""


class Sender:
    """Sends over one connection.

    A message whose confirm is lost with the connection is answered with SubmitUnknown: RabbitMQ cannot be asked
    whether it has one. One whose queue was deleted is returned by the server, and so known not to be stored.

    Args:
        ctx: of the backend.
        connection: what is sent over.
    """

    def __init__(self, ctx: Context, connection: RabbitConnection) -> None:
        self._ctx, self._publisher, self._topology = ctx, connection.publisher, connection.topology
        self._connection = connection
        self._routes = Routes(ctx, self._topology)
        self._delays = DelayTopology(self._routes, self._publisher, self._topology)
        self._bound = SizeBound()
        self._tasks: set[asyncio.Task[Sequence[Answer]]] = set()

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        """Declare what has to be, publish, and return what became of each."""
        answer: asyncio.Future[Sequence[Answer]] = asyncio.get_running_loop().create_future()
        answers = _Answers(len(batch), lambda found: None if answer.done() else answer.set_result(found))
        is_ready = self._is_ready(batch)
        for at, one in enumerate(batch):
            try:
                if not is_ready:
                    await self._prepare(one)
                if one.ready <= time.time() + LEAD:
                    self._publish(answers, at, one)
                else:
                    self._bound.check(one)
                    await self._delays.prepare(one)
                    self._delays.post(one, partial(self._confirmed, answers, at, one))
            except TranshipError as error:
                answers.answer(at, _about(one, error))
        return await answer

    def post(self, batch: Sequence[Outgoing], done: Done) -> None:
        """Do the same without a task, where nothing has to be waited for."""
        if self._is_ready(batch):
            answers = _Answers(len(batch), done)
            for at, one in enumerate(batch):
                self._publish(answers, at, one)
        else:
            task = asyncio.get_running_loop().create_task(self.send(batch))
            self._tasks.add(task)
            task.add_done_callback(partial(self._sent, done))

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks:
            task.cancel()

    def _sent(self, done: Done, task: asyncio.Task[Sequence[Answer]]) -> None:
        self._tasks.discard(task)
        error = BrokerUnreachable("the connection was closed") if task.cancelled() else task.exception()
        done(error if isinstance(error, Exception) else task.result())

    def _is_ready(self, batch: Sequence[Outgoing]) -> bool:
        if not self._publisher.ready or not self._connection.replies.ready:
            return False
        ready = self._routes.ready
        try:
            return all(not one.ready and ready(one.slot) for one in batch)
        except TranshipError:
            return False

    async def _prepare(self, one: Outgoing) -> None:
        channel = await self._publisher.open()
        await self._connection.replies.open()
        await self._routes.find(one.slot)
        physical = self._routes.physical(one.slot)
        if not self._topology.knows(physical.name):
            await self._topology.have(physical)
            await self._ctx.queue_names.enter([physical.living])
        await channel.wire.drained(CHUNK)

    def _publish(self, answers: _Answers, at: int, one: Outgoing) -> None:
        try:
            self._bound.check(one)
            name, number = self._routes.place(one.slot)
            self._publisher.post(one, name, number, partial(self._confirmed, answers, at, one))
        except TranshipError as error:
            answers.answer(at, _about(one, error))

    def _confirmed(self, answers: _Answers, at: int, one: Outgoing, why: Ended | None) -> None:
        if why is None:
            answers.answer(at, None)
            return
        if (error := self._bound.judge(one, why)) is not None:
            answers.answer(at, error)
            return
        if isinstance(why, Returned) or is_missing(why):
            self._routes.forget(one.slot)
            self._delays.forget()
        answers.answer(at, failure(why, f"submitting task {one.id}", one.id))


class _Answers:
    """The answers of one batch; ``answered`` gets them when the last one is there."""

    def __init__(self, count: int, answered: Answered) -> None:
        self._found: dict[int, Answer] = {}
        self._count, self._answered = count, answered

    def answer(self, at: int, answer: Answer) -> None:
        """Note what became of one message; the first word counts."""
        if at not in self._found:
            self._found[at] = answer
            if len(self._found) == self._count:
                self._answered([self._found[index] for index in range(self._count)])


def _about(message: Outgoing, error: TranshipError) -> TranshipError:
    """Return the error with the task's id in it; each message has its own."""
    error.task_id = message.id
    return error


class SizeBound:
    """What is known of the server's ``max_message_size``, over one connection."""

    def __init__(self) -> None:
        self._limit = 0
        self._judged: Ended | None = None
        """The end of a channel whose culprit has been found."""

    def check(self, message: Outgoing) -> None:
        """Do nothing unless the server has refused a message of that size before.

        Raises:
            MessageTooLarge: it has; nothing is written.
        """
        if 0 < self._limit < len(message.source.body):
            raise _too_large(message, self._limit)

    def judge(self, message: Outgoing, why: Ended) -> TranshipError | None:
        """Return what the end of the channel means for ``message``, if it ended over a message that was too large.

        Called for each message without a confirm, in the order they were published: the first that is too large
        ended the channel. Of those before it nothing is known; those behind it were not taken.
        """
        limit = largest(why)
        if limit is None:
            return None
        self._limit = limit
        if len(message.source.body) > limit:
            self._judged = why
            return _too_large(message, limit)
        if self._judged is not why:
            return None
        return BrokerUnreachable(
            f"submitting task {message.id}: not stored, the channel ended over a larger message before it",
            task_id=message.id,
        )


def _too_large(message: Outgoing, limit: int) -> MessageTooLarge:
    size = len(message.source.body)
    return MessageTooLarge(
        f"task {message.facts.task!r} has a body of {size:,} bytes; the server's max_message_size is "
        f"{limit:,}: raise it there (rabbitmq.conf), or send less",
        size=size,
        limit=limit,
        task_id=message.id,
    )
