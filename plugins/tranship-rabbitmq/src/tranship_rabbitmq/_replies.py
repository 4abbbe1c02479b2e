"""Results on their way back: published to the submitter's own queue, as Celery's ``rpc://`` does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship import codec
from tranship.errors import MalformedMessage, TranshipError
from tranship.ports import StoredResult
from tranship.protocol import decode_result, result_state
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq._frames import PERSISTENT, TRANSIENT
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import NO_TABLE, Properties, properties_of
from tranship_rabbitmq.amqp.ends import Ended
from tranship_rabbitmq.amqp.table import TableError

if TYPE_CHECKING:
    from tranship_rabbitmq._connection import RabbitConnection
    from tranship_rabbitmq._context import Context

__all__ = ["RabbitReplies"]

log = logging.getLogger("tranship.rabbitmq")

DOING: Final = "waiting for results"


class RabbitReplies:
    """See :class:`tranship.driver.ReplyQueue`. The queue is declared for the first message that is sent, and outlives a
    lost connection, so that what comes meanwhile is there afterwards.

    Args:
        ctx: of the backend.
        connection: what results come over.
    """

    def __init__(self, ctx: Context, connection: RabbitConnection) -> None:
        self._ctx, self._connection = ctx, connection
        self.address, options = ctx.address, ctx.options
        content_type = codec.JSON if options.result_serializer == "json" else codec.MSGPACK
        mode = PERSISTENT if options.result_persistent else TRANSIENT
        self._kind = content_type, codec.content_encoding_of(content_type), NO_TABLE, mode, 0
        self._told: Callable[[Sequence[StoredResult]], None] | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._going_on: asyncio.Task[None] | None = None
        self._come: list[StoredResult] = []
        self._last = 0

    @property
    def ready(self) -> bool:
        """Whether what is sent now can be answered."""
        return self._told is None or self._lives

    @property
    def _lives(self) -> bool:
        return self._channel is not None and self._channel.ended is None

    def hear(self, heard: Callable[[Sequence[StoredResult]], None]) -> None:
        """Say where results go; those that are on their way already come at once."""
        self._told = heard
        if self._ctx.is_answered:
            self._going_on = asyncio.get_running_loop().create_task(self._go_on())

    async def open(self) -> None:
        """Have the queue, and be told what comes to it.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        if self.ready:
            return
        async with self._opening:
            if not self._lives:
                self._channel = await self._open()
                self._last, self._ctx.is_answered = 0, True

    async def push(self, results: Sequence[StoredResult]) -> None:
        """Publish each to whoever submitted the task.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, MessageTooLarge.
        """
        kind = self._kind
        await self._connection.publisher.publish_all(
            [(Properties(*kind, _short(one.id)), one.document, one.reply_to or "") for one in results]
        )

    async def delete(self) -> None:
        """Delete the queue: nobody waits any more."""
        self._told = None
        if self._going_on is not None:
            self._going_on.cancel()
        if self._lives:
            try:
                delete = ("queue.delete", 0, self.address, False, False, False)
                await self._connection.topology.call("deleting the queue of results", *delete)
            except TranshipError as error:
                log.debug("the queue of results is left to expire: %s", error)

    async def _open(self) -> Channel:
        link, topology = self._connection.consuming, self._connection.topology
        await link.open()
        await topology.have_own(self.address, {"x-expires": round(self._ctx.options.reply_expires * 1000)})
        channel = await link.channel()
        channel.consumers["replies"] = self._heard
        channel.on_cancelled = lambda _tag: self._deleted(channel)
        consume: tuple[Any, ...] = (0, self.address, "replies", False, False, False, False, {})
        try:
            await link.call(channel, DOING, "basic.consume", *consume)
        except Ended as why:
            raise error_of(why, doing=DOING) from why
        return channel

    async def _go_on(self) -> None:
        """Be told of what came meanwhile. Where that cannot be, another connection is made, with pauses."""
        try:
            await self.open()
        except TranshipError as error:
            log.warning("%s: trying again over another connection: %s", DOING, error)
            self._connection.abort()

    def _deleted(self, channel: Channel) -> None:
        if self._told is None:
            return  # by ourselves
        log.warning("the queue of results %r has been deleted; it is declared again", self.address)
        self._connection.topology.forget(self.address)
        channel.end(Ended("its queue was deleted"))

    def _heard(self, arrived: Arrived) -> None:
        if not self._last:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._last = arrived.tag
        found = _result(arrived)
        if found is not None:
            self._come.append(found)

    def _hand_over(self) -> None:
        """Everything of one turn of the loop at once."""
        come, self._come = self._come, []
        last, self._last = self._last, 0
        if self._told is not None and come:
            self._told(come)
        if self._channel is not None:
            self._channel.send("basic.ack", last, True)


def _result(arrived: Arrived) -> StoredResult | None:
    """Return the end of a task; None: it is none, or only about its beginning."""
    try:
        task_id = properties_of(arrived.header).correlation_id or decode_result(arrived.body).id
    except (TableError, MalformedMessage) as error:
        log.warning("ignoring what is no result (%d bytes): %s", len(arrived.body), error)
        return None
    state = result_state(arrived.body, task_id=task_id)
    return StoredResult(id=task_id, state=state, document=arrived.body or b" ") if state.terminal else None


def _short(task_id: str) -> str | None:
    """The id, where AMQP can carry it: longer ones are in the document."""
    return task_id if len(task_id.encode(errors="replace")) <= 255 else None
