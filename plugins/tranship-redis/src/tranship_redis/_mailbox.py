"""A worker's mailbox in Celery's remote control, as it is on Redis: a channel to hear, lists to answer into."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from tranship.mailbox import TOLD, Mailbox
from tranship.ports import Tombstone
from tranship_redis._context import Context
from tranship_redis._keys import SEPARATOR
from tranship_redis._mailbox_envelope import Broadcast, broadcast_of, reply_message
from tranship_redis._scripts import Script
from tranship_redis._signals import id_of

__all__ = ["RedisMailbox"]

_UNFETCHED: Final = 60
"""Seconds after which answers that nobody fetched are forgotten."""
_REPLY: Final = Script("mailbox_reply")


class RedisMailbox(Mailbox):
    """See :class:`tranship.mailbox.Mailbox`.

    Args:
        context: of the backend.
        worker, hear, keep: as there.
    """

    def __init__(
        self,
        context: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
    ) -> None:
        super().__init__(worker, hear=hear, keep=keep)
        self._context = context

    def heard(self, payload: bytes) -> None:
        """Take in what came on the channel, whatever it is."""
        self.take(partial(broadcast_of, payload), len(payload))

    async def known(self) -> set[str]:
        """The ids that are cancelled."""
        newest = ("ZRANGE", self._context.keys.tombstones, "+inf", repr(time.time()), "BYSCORE", "REV")
        members = await self._context.main.call(*newest, "LIMIT", 0, TOLD)
        return {task_id for member in members if (task_id := id_of(member))}

    async def reply(self, asked: Broadcast, answer: Any, clock: int) -> None:
        """Push the answer to the asker's list."""
        to = asked.reply_to
        assert to is not None
        message = reply_message(self.node, answer, asked, clock=clock)
        # The binding is the asker's: what it writes is how it waits, and gone when it has gone.
        binding = SEPARATOR.join((to.routing_key.encode(), b"", to.queue.encode()))
        keys = self._context.keys
        await self._context.main.run(
            _REPLY, [keys.binding(to.exchange), keys.list(to.queue, 0)], [binding, message, _UNFETCHED]
        )
