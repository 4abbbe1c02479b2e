"""What a worker hears: live tombstones, then what comes, again after every lost connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from tranship.errors import BrokerRefused, BrokerUnreachable, MalformedMessage, TranshipError
from tranship.ports import Signal, SignalSink
from tranship_redis._context import Context
from tranship_redis._errors import error_of
from tranship_redis._link import Remove
from tranship_redis._mailbox import RedisMailbox
from tranship_redis._pack import pack
from tranship_redis._signals import signals_of, tombstone_of

__all__ = ["Feed"]

log = logging.getLogger("tranship.redis")

_PORTION: Final = 500
"""Signals a sink takes at once while others wait for the loop."""
_PAGE: Final = 20_000
"""Tombstones per answer: a connection with subscriptions is cut off when an answer is too long."""


class Feed:
    """One listener: a sink, and where it hears from.

    Args:
        context: of the backend.
        sink: gets the signals, on the loop.
        worker: the listener's name.
    """

    def __init__(self, context: Context, sink: SignalSink, worker: str) -> None:
        self._context = context
        self._sink: SignalSink | None = sink
        self._worker = worker
        self._removers: list[Remove] = []
        self._early: list[Signal] | None = []
        """What came while the replay was under way; None: nothing has to wait."""
        self.mailbox: RedisMailbox | None = None
        """Set by who made us, before :meth:`start`; None: Celery's remote control is not for us."""

    async def start(self) -> None:
        """Subscribe, and hand over every live tombstone.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        main, pubsub = self._context.main, self._context.pubsub
        self._removers.append(pubsub.on_push(b"message", self._heard))
        self._removers += [link.on_up(self._again) for link in {main, pubsub}]
        await self._follow()

    def hear(self, signals: Sequence[Signal]) -> None:
        """Hand ``signals`` over: behind the replay, and not so many at once that nobody else gets a turn."""
        if self._early is not None:
            self._early += signals
            return
        if not signals:
            return
        self._give(signals[:_PORTION])
        if len(signals) > _PORTION:
            asyncio.get_running_loop().call_soon(self.hear, signals[_PORTION:])

    def close(self) -> None:
        """Say nothing any more."""
        self._sink = None
        for remove in self._removers:
            remove()
        if self.mailbox is not None:
            self.mailbox.close()

    def _give(self, signals: Sequence[Signal]) -> None:
        if self._sink is None or self._context.closed:
            return
        try:
            self._sink(signals)
        except Exception:
            # In a hook it would give the new connection up.
            log.exception("a listener failed to take %d signals", len(signals))

    async def _again(self) -> None:
        try:
            await self._follow()
        except BrokerUnreachable as error:
            # The connection went again, or the other of two is still away: its own hook comes here, too.
            log.debug("following the signals again failed: %s", error)
        except TranshipError as error:
            log.warning("cancels and commands are not heard any more: %s", error)

    async def _follow(self) -> None:
        await self._subscribe(self._context.keys.signals)
        if self.mailbox is not None:
            await self._subscribe_mailbox()
        # After the subscription: what was said before it is in the replay.
        replay = await self._replay()
        early, self._early = self._early, None
        if early is None:
            self.hear(replay)
        elif replay or early:
            # At once, because nothing is taken in before all of it is known.
            self._give([*replay, *early])

    async def _subscribe_mailbox(self) -> None:
        try:
            await self._subscribe(self._context.keys.mailbox)
        except BrokerRefused as error:
            if self._context.options.celery_queues.mode != "auto":
                raise
            log.warning("Celery's remote control is not followed: %s", error)

    async def _subscribe(self, channel: bytes) -> None:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(reply: Any) -> None:
            if not answer.done():
                answer.set_result(reply)

        self._context.pubsub.post(pack(b"SUBSCRIBE", channel), then, pushes=1)
        reply = await answer
        if isinstance(reply, TranshipError):
            raise reply
        if reply is not None:
            raise error_of(reply, doing=f"subscribing to {channel.decode(errors='replace')!r}")

    async def _replay(self) -> list[Signal]:
        """Read what is live, the longest first: what is added or expires meanwhile then moves nothing out of sight."""
        found: list[Signal] = []
        live = ("ZRANGE", self._context.keys.tombstones, "+inf", repr(time.time()), "BYSCORE", "REV", "LIMIT")
        for offset in count(0, _PAGE):
            page = _pairs(await self._context.main.call(*live, offset, _PAGE, "WITHSCORES"))
            tombstones = (tombstone_of(member, expires) for member, expires in page)
            found += [tombstone for tombstone in tombstones if tombstone is not None]
            if len(page) < _PAGE:
                break
        return found

    def _heard(self, frame: list[Any]) -> None:
        _, channel, payload = frame
        keys = self._context.keys
        if channel == keys.signals:
            self._signalled(payload)
        elif channel == keys.mailbox and self.mailbox is not None:
            self.mailbox.heard(payload)

    def _signalled(self, payload: bytes) -> None:
        try:
            signals = signals_of(payload, worker=self._worker)
        except MalformedMessage as error:
            log.warning("ignoring what is no signal of tranship's (%d bytes): %s", len(payload), error)
            return
        if signals:
            self.hear(signals)


def _pairs(found: Sequence[Any]) -> list[tuple[bytes, float]]:
    """Return members with their scores: pairs in RESP3, one behind the other in RESP2."""
    if found and isinstance(found[0], list):
        return [(member, float(score)) for member, score in found]
    return [(member, float(score)) for member, score in zip(found[::2], found[1::2], strict=True)]
