"""Publishing with confirms: any number of messages outstanding, each answered for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tranship.driver import Outgoing
from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship_rabbitmq._errors import blocked, error_of, is_missing
from tranship_rabbitmq._frames import Frames, frames_of
from tranship_rabbitmq._link import Link
from tranship_rabbitmq._tables import Tables
from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.content import Properties
from tranship_rabbitmq.amqp.ends import ChannelEnded, Ended, Nacked, Returned

__all__ = ["Done", "Publisher", "failure"]

Done = Callable[[Ended | None], None]


class Publisher:
    """The one channel that everything of a backend is published on.

    Args:
        link: the connection for publishing.
        tables: converts headers.
    """

    def __init__(self, link: Link, tables: Tables) -> None:
        self._link = link
        self._tables = tables
        self._channel: Channel | None = None
        self._frames = Frames(0, 4096, tables)
        self._opening = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether messages can be published without waiting for anything."""
        return self._channel is not None and self._channel.ended is None and self._channel.wire.blocked is None

    async def open(self) -> Channel:
        """Return the channel; opened if there is none.

        Raises:
            BrokerUnreachable, BrokerRefused, ClosedError: no connection.
            StorageFull: the server takes no messages.
        """
        wire = self._link.wire
        if wire.blocked is not None:
            raise blocked(wire.blocked, doing="publishing")
        async with self._opening:
            if self._channel is None or self._channel.ended is not None:
                channel = await self._link.channel()
                await self._link.call(channel, "asking for confirms", "confirm.select", False)
                self._channel = channel
                self._frames = Frames(channel.number, channel.wire.frame_max, self._tables)
            return self._channel

    def post(self, message: Outgoing, key: str, number: int, done: Done, *, exchange: str = "") -> None:
        """Publish a task, once :meth:`open` has returned.

        Raises:
            BrokerUnreachable, EncodeError, MessageTooLarge: nothing was written.
        """
        channel = self._live()
        channel.publish(self._frames.of(message, key, number, exchange), message.id, done)

    def post_any(
        self, properties: Properties, body: bytes, done: Done, *, routing_key: str, exchange: str, mandatory: bool
    ) -> None:
        """Publish any message, once :meth:`open` has returned.

        Raises:
            BrokerUnreachable, EncodeError, MessageTooLarge: nothing was written.
        """
        channel = self._live()
        frames = frames_of(
            channel.number,
            channel.wire.frame_max,
            properties,
            body,
            routing_key=routing_key,
            exchange=exchange,
            mandatory=mandatory,
        )
        channel.publish(frames, properties.correlation_id or "", done)

    def _live(self) -> Channel:
        if self._channel is None or self._channel.ended is not None:
            raise BrokerUnreachable("the connection was lost before anything was published")
        return self._channel

    async def publish(
        self, properties: Properties, body: bytes, *, routing_key: str, exchange: str = "", mandatory: bool = True
    ) -> None:
        """Publish any message; returns once the server has it.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull: it was not stored.
            SubmitUnknown: the answer was lost.
            EncodeError, MessageTooLarge: nothing was written.
        """
        await self.open()
        answers = _Answers(1)
        self.post_any(properties, body, answers.take, routing_key=routing_key, exchange=exchange, mandatory=mandatory)
        why = await self._link.bounded(answers.done, doing="publishing")
        if why is not None:
            raise failure(why, f"publishing to {routing_key or exchange!r}")

    async def publish_all(
        self, messages: Sequence[tuple[Properties, bytes, str]], *, exchange: str = "", mandatory: bool = False
    ) -> None:
        """Publish messages, each with its routing key; returns once the server has heard them all. Unless they are
        mandatory, the queues that they go to need not be there any more.

        Raises:
            As :meth:`publish`; some may have been stored then.
        """
        await self.open()
        answers = _Answers(len(messages))
        for properties, body, key in messages:
            self.post_any(properties, body, answers.take, routing_key=key, exchange=exchange, mandatory=mandatory)
        why = await self._link.bounded(answers.done, doing="publishing")
        if why is not None:
            raise failure(why, "publishing")


class _Answers:
    """Waits for several confirms; the first that is none counts."""

    def __init__(self, count: int) -> None:
        self.done: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        self._left = count

    def take(self, why: Ended | None) -> None:
        """One more answer."""
        self._left -= 1
        if not self.done.done() and (why is not None or not self._left):
            self.done.set_result(why)


def failure(why: Ended, doing: str, task_id: str | None = None) -> TranshipError:
    """Return what it means for a message that it got no confirm but this end."""
    if isinstance(why, Returned):
        # The server says for certain that it has not kept it; where it goes is declared again the next time.
        error: TranshipError = BrokerUnreachable(
            f"{doing}: the queue has been deleted; it is declared again ({why.text})"
        )
    elif isinstance(why, Nacked) or (isinstance(why, ChannelEnded) and (why.code == 403 or is_missing(why))):
        error = error_of(why, doing=doing)
    else:
        error = SubmitUnknown(f"{doing}: the server's answer was lost, it may have the message, or not ({why.text})")
    error.task_id = task_id
    error.__cause__ = why
    return error
