"""What a worker hears: live tombstones, then what comes, again after every lost connection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from tranship.errors import TranshipError
from tranship.ports import Signal, SignalSink
from tranship_nats._context import Context
from tranship_nats._signals import command_of, tombstone_of

__all__ = ["Feed"]

log = logging.getLogger("tranship.nats")

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0


class Feed:
    """One listener.

    Args:
        ctx: the backend's.
        sink: gets the signals, on the loop.
        worker: the listener's name.
    """

    def __init__(self, ctx: Context, sink: SignalSink, worker: str) -> None:
        self._ctx = ctx
        self._sink: SignalSink | None = sink
        self._worker = worker
        self._early: list[Signal] | None = None
        """What comes while the replay is under way; None: nothing has to wait."""
        self._again: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and hand over every live tombstone; from then on again with each further connection.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        await self._follow()
        self._ctx.link.hooks.on_up(self._reconnected)

    def close(self) -> None:
        """Say nothing any more."""
        self._sink = None
        if self._again is not None:
            self._again.cancel()

    async def _reconnected(self) -> None:
        # Beside the reconnect: the stream may have no leader yet.
        if self._again is not None:
            self._again.cancel()
        if self._sink is not None:
            self._again = asyncio.get_running_loop().create_task(self._follow_at_last())

    async def _follow_at_last(self) -> None:
        pause = FIRST_PAUSE
        while self._ctx.link.up:
            try:
                await self._follow()
            except TranshipError as error:
                log.warning("cancels and commands are not heard, trying again: %s", error)
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _follow(self) -> None:
        ctx = self._ctx
        self._early = []
        pattern = ctx.names.key("cancels", ">")
        sids = [
            ctx.link.listen(pattern, self._cancelled),
            ctx.link.listen(ctx.names.signals, self._told),
        ]
        generation = ctx.link.generation
        try:
            stream = await ctx.streams.need("cancels")
            # What is stored after the subscription is heard, what was stored before is in the replay.
            await ctx.link.settled()
            found = await self._replay(stream, pattern)
        except BaseException:
            for sid in sids:
                ctx.link.unlisten(sid, generation)
            raise
        early, self._early = self._early or [], None
        if found or early:
            self._give([*found, *early])

    async def _replay(self, stream: str, pattern: str) -> list[Signal]:
        live: list[Signal] = []
        now = time.time()
        for found in await self._ctx.api.latest(stream, pattern):
            tombstone = tombstone_of(found.data)
            if tombstone is not None and tombstone.expires > now:
                live.append(tombstone)
            else:
                await self._sweep(stream, found.subject, found.seq)
        return live

    async def _sweep(self, stream: str, subject: str, seq: int) -> None:
        """Delete a tombstone that has expired, unless it was renewed meanwhile."""
        try:
            await self._ctx.api.make(f"STREAM.PURGE.{stream}", {"filter": subject, "seq": seq + 1})
        except TranshipError as error:
            log.debug("an old cancel stays: %s", error)

    def _cancelled(self, _subject: bytes, _reply: bytes, data: bytes, _block: bytes | None) -> None:
        tombstone = tombstone_of(data)
        if tombstone is not None:
            self._hear(tombstone)

    def _told(self, _subject: bytes, _reply: bytes, data: bytes, _block: bytes | None) -> None:
        command = command_of(data, self._worker)
        if command is not None:
            self._hear(command)

    def _hear(self, signal: Signal) -> None:
        if self._early is not None:
            self._early.append(signal)
        else:
            self._give([signal])

    def _give(self, signals: Sequence[Signal]) -> None:
        if self._sink is None or self._ctx.gate.closed:
            return
        try:
            self._sink(signals)
        except Exception:
            log.exception("a listener failed to take %d signals", len(signals))
