"""Looking at dead letters: each look has a channel of its own, and gives back what it took when that is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tranship.driver import Taken
from tranship.envelope import Priority
from tranship_rabbitmq._delivery import taken_of
from tranship_rabbitmq._errors import error_of, is_missing
from tranship_rabbitmq._link import Link
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.ends import Ended

if TYPE_CHECKING:
    from tranship_rabbitmq._context import Context

__all__ = ["Peeker"]


class Peeker:
    """Takes messages that are not tried.

    Args:
        ctx: of the backend.
        link: the connection for consuming.
    """

    def __init__(self, ctx: Context, link: Link) -> None:
        self._ctx, self._link = ctx, link

    async def peek(self, queue: str, limit: int) -> Sequence[Taken]:
        """Take up to ``limit`` messages of a queue, which may not be there.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        place = self._ctx.names.levels([(queue, Priority.NORMAL)])[0][0]
        doing = f"looking into {place.name!r}"
        await self._link.open()
        channel = await self._link.channel()
        calls = (channel.call("basic.get", 0, place.name, False) for _ in range(limit))
        replies = await self._link.bounded(asyncio.gather(*calls, return_exceptions=True), doing=doing)
        arrived = [one for one in replies if isinstance(one, Arrived)]
        look = _Look(channel, len(arrived))
        for reply in replies:
            if isinstance(reply, Ended) and is_missing(reply):
                return []
            if isinstance(reply, Ended):
                raise error_of(reply, doing=doing) from reply
            if isinstance(reply, BaseException):
                raise reply
        return [self._taken(look, one, place) for one in arrived]

    def _taken(self, look: _Look, arrived: Arrived, place: Physical) -> Taken:
        tables, names = self._ctx.tables, self._ctx.names
        taken = taken_of(look.channel, arrived, place, tables=tables, names=names, settled=look.settled)
        taken.token.aside, taken.token.heard = True, look.heard
        return taken


class _Look:
    """One look: its channel is closed when the server has heard of the ends of everything that it brought."""

    def __init__(self, channel: Channel, count: int) -> None:
        self.channel, self._left = channel, count
        self.heard()

    def settled(self, _arrived: Arrived) -> None:
        """One more has ended."""
        self._left -= 1

    def heard(self) -> None:
        """Close the channel, if everything has ended; twice does no harm."""
        if not self._left:
            self.channel.post(lambda _: None, "channel.close", 200, "", 0, 0)
