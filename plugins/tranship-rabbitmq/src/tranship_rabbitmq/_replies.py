"""Results on their way back: published to the submitter's own queue, as Celery's ``rpc://`` does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from tranship import codec
from tranship.errors import MalformedMessage, TranshipError, UnsupportedError
from tranship.ports import ResultSink, StoredResult
from tranship.protocol import decode_result, result_state
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._errors import error_of
from tranship_rabbitmq._frames import PERSISTENT, TRANSIENT
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import NO_TABLE, Properties, properties_of
from tranship_rabbitmq.amqp.ends import Ended
from tranship_rabbitmq.amqp.table import TableError

__all__ = ["Replies"]

log = logging.getLogger("tranship.rabbitmq")


class Replies:
    """Pushes results to who submitted; see :class:`tranship.ports.ResultStore`. Nothing is kept to be read later.

    The queue outlives a lost connection, so that what comes meanwhile is there afterwards.

    Args:
        ctx: of the backend.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        ctx.kit.on_restored(self.again)
        self._sink: ResultSink | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._come: list[StoredResult] = []
        self._last = 0
        content_type = codec.JSON if ctx.options.result_serializer == "json" else codec.MSGPACK
        self._content = content_type, codec.content_encoding_of(content_type)

    @property
    def ready(self) -> bool:
        """Whether what is submitted now can be answered."""
        return self._sink is None or _lives(self._channel)

    def attach(self, sink: ResultSink) -> None:
        """Say where results go. From the next submit on there is a queue for them."""
        self._ctx.check()
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """Everything that comes is pushed anyhow."""
        del ids

    unexpect = expect

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Publish each to whoever submitted the task; all of them win: nobody keeps score.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, MessageTooLarge, ClosedError.
        """
        self._ctx.check()
        wanted = [one for one in results if one.reply_to]
        if wanted:
            await self._ctx.publisher.open()
            await self._ctx.publisher.publish_all(
                [(self._properties(one), one.document, one.reply_to or "") for one in wanted]
            )
        return [True] * len(results)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Nothing is kept.

        Raises:
            UnsupportedError: always.
        """
        self._ctx.check()
        raise UnsupportedError(f"{self._ctx.kit.name} keeps no results: {len(ids)} cannot be read")

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Nothing is kept."""
        self._ctx.check()
        del ids

    async def open(self) -> None:
        """Have the queue, and be told what comes to it.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        if self.ready:
            return
        async with self._opening:
            if self._sink is None or _lives(self._channel):
                return
            await self._ctx.consuming.open()
            expires = {"x-expires": round(self._ctx.options.reply_expires * 1000)}
            await self._ctx.topology.have_own(self._ctx.address, expires)
            channel = await self._ctx.consuming.channel()
            channel.consumers["replies"] = self._heard
            channel.on_cancelled = lambda _tag: self._deleted(channel)
            consume: tuple[Any, ...] = (0, self._ctx.address, "replies", False, False, False, False, {})
            try:
                await self._ctx.consuming.call(channel, "waiting for results", "basic.consume", *consume)
            except Ended as why:
                raise error_of(why, doing="waiting for results") from why
            self._channel, self._last = channel, 0

    async def again(self) -> None:
        """The connection is back: go on, if anybody was waiting.

        Raises:
            TranshipError: it could not be.
        """
        if self._channel is not None:
            await self.open()

    async def aclose(self) -> None:
        """Push nothing any more, and delete the queue."""
        await self._ctx.queue_names.aclose()
        used, self._sink = self._channel is not None, None
        if used:
            try:
                delete = ("queue.delete", 0, self._ctx.address, False, False, False)
                await self._ctx.topology.call("deleting the queue of results", *delete)
            except TranshipError as error:
                log.debug("the queue of results is left to expire: %s", error)

    def _deleted(self, channel: Channel) -> None:
        if self._sink is None:
            return  # by ourselves
        log.warning("the queue of results %r has been deleted; it is declared again", self._ctx.address)
        self._ctx.topology.forget(self._ctx.address)
        channel.end(Ended("its queue was deleted"))

    def _properties(self, result: StoredResult) -> Properties:
        content_type, encoding = self._content
        mode = PERSISTENT if self._ctx.options.result_persistent else TRANSIENT
        return Properties(content_type, encoding, NO_TABLE, mode, 0, _short(result.id))

    def _heard(self, arrived: Arrived) -> None:
        if not self._come:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._last = arrived.tag
        found = _result(arrived)
        if found is not None:
            self._come.append(found)
        elif not self._come:
            self._acknowledge()

    def _hand_over(self) -> None:
        """Everything of one turn of the loop at once."""
        come, self._come = self._come, []
        if self._sink is not None and come:
            try:
                self._sink(come)
            except Exception:
                log.exception("taking %d results failed", len(come))
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._channel is not None and self._last:
            self._channel.send("basic.ack", self._last, True)
            self._last = 0


def _lives(channel: Channel | None) -> bool:
    return channel is not None and channel.ended is None


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
