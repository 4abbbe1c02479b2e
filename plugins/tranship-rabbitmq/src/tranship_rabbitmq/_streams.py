"""What streams and replicated queues need: patience with a node that has just started, and a way to read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from tranship import codec
from tranship.errors import BrokerUnreachable, MalformedMessage
from tranship_rabbitmq._errors import error_of, is_down
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["Entry", "read", "when_there"]

T = TypeVar("T")
Entry = Mapping[str, Any]

_AWAY: Final = 0.1
"""Seconds between two looks at a queue whose node is not there yet."""
_WINDOW: Final = 1000
"""Entries on their way: RabbitMQ wants a limit for streams."""


async def when_there(attempt: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Return what ``attempt`` returns; a server that has just started gets ``seconds`` to find its queues again.

    Raises:
        BrokerUnreachable: it has not found them; and whatever else ``attempt`` raises.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            return await attempt()
        except BrokerUnreachable as error:
            if not is_down(error) or loop.time() > until:
                raise
        await asyncio.sleep(_AWAY)


async def read(
    supervisor: Supervisor,
    name: str,
    offset: Any,
    take: Callable[[Entry], None],
    gone: Callable[[Channel], None] = lambda _: None,
) -> Channel:
    """Read a stream that exists, from ``offset`` on, and return the channel that it is read on.

    Args:
        supervisor: the connection.
        name: of the stream.
        offset: as RabbitMQ's ``x-stream-offset``: ``"first"``, or a time.
        take: is called with each entry; what is no JSON object is skipped.
        gone: is called with the channel when the stream has been deleted.

    Raises:
        BrokerRefused, BrokerUnreachable, StorageFull.
    """

    async def attempt() -> Channel:
        channel = await supervisor.channel()
        channel.consumers["reader"] = lambda arrived: _heard(channel, arrived, take)
        channel.on_cancelled = lambda _tag: gone(channel)
        try:
            await supervisor.call(channel, f"reading {name!r}", "basic.qos", 0, _WINDOW, False)
            consume = (0, name, "reader", False, False, False, False, {"x-stream-offset": offset})
            await supervisor.call(channel, f"reading {name!r}", "basic.consume", *consume)
        except Ended as why:
            raise error_of(why, doing=f"reading {name!r}") from why
        except BaseException:
            # Nobody will ever close it.
            channel.post(lambda _: None, "channel.close", 200, "", 0, 0)
            raise
        return channel

    return await when_there(attempt, seconds=supervisor.command_timeout)


def _heard(channel: Channel, arrived: Arrived, take: Callable[[Entry], None]) -> None:
    channel.send("basic.ack", arrived.tag, False)
    try:
        entry = codec.loads(arrived.body, codec.JSON)
    except MalformedMessage:
        return
    if isinstance(entry, dict):
        take(entry)
