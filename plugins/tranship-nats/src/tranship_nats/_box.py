"""What has come and is not handed out yet: served by the next receive, or given back soon."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Final

from tranship.errors import TranshipError
from tranship_nats._frames import frame
from tranship_nats._handed import Handed
from tranship_nats._held import ACK, NAK, PROGRESS, Pair, Taken
from tranship_nats._link import Link
from tranship_nats._recent import Recent
from tranship_nats._sparing import SUSPECT, Sparing

__all__ = ["Box"]

GRACE: Final = 0.1
"""Seconds that a message may lie here while nobody asks: idle workers elsewhere would have it."""


class Box:
    """Messages of one consumer that nobody has asked for yet.

    Args:
        link: the backend's.
        lease: seconds.
        handed: what is in somebody's hands here.
        recent: what has been settled, and is not to come again.
    """

    def __init__(self, link: Link, lease: float, handed: Handed, recent: Recent) -> None:
        self._handed = handed
        self._recent = recent
        self.watched = False
        """Somebody is receiving."""
        self._link = link
        self._lease = lease
        self._taken: list[Taken] = []
        self._timer: asyncio.TimerHandle | None = None
        self._sparing = Sparing(link, recent)
        self.careful = False
        """What was handed out last was a suspect: there may be more, and they go one by one."""

    def __len__(self) -> int:
        return len(self._taken)

    def counts(self) -> Counter[Pair]:
        """Return how many there are of each level of each queue."""
        return Counter(one.pair for one in self._taken)

    def put(self, taken: Taken) -> None:
        """Keep a message that has come; one that was settled here already is acknowledged again."""
        if taken.mark in self._recent:
            self._link.post(frame(taken.ack, b"", b"", ACK))
            return
        if self._handed.takes_over(taken, self._lease):
            return
        self._taken.append(taken)
        if not self.watched:
            self.look_after()

    async def take(self, limit: int, skip: Collection[str]) -> list[Taken]:
        """Take out up to ``limit``, urgent ones first; a suspect travels alone.

        What is left here beside a suspect goes back to the queue: it may be what kills us. Leases begin when a message
        comes: one that has lain here is renewed.
        """
        now = asyncio.get_running_loop().time()
        chosen = self._choose(limit, skip, now)
        old = [one for one in chosen if now - one.at > self._lease / 20]
        if old:
            await self._renew(old, now)
        self._taken = [one for one in self._taken if one not in chosen]
        if chosen:
            self.careful = chosen[0].count >= SUSPECT
            if self.careful:
                try:
                    await self._spare(now)
                except asyncio.CancelledError:
                    # Nobody has it yet: it is served by the next receive, or given back.
                    self._taken += chosen
                    raise
        # Those that could not be renewed come again when their lease ends.
        return [one for one in chosen if now - one.at <= self._lease / 20]

    def _choose(self, limit: int, skip: Collection[str], now: float) -> list[Taken]:
        """Those that are no suspects, unless there are none, or a suspect has waited for a third of its lease."""
        ready = sorted((one for one in self._taken if one.pair.queue not in skip), key=_level)
        suspects = [one for one in ready if one.count >= SUSPECT]
        waited = [one for one in suspects if now - one.at > self._lease / 3]
        return waited[:1] or [one for one in ready if one.count < SUSPECT][:limit] or suspects[:1]

    def clear(self) -> list[Taken]:
        """Return everything, and be empty."""
        taken, self._taken = self._taken, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return taken

    async def aclose(self) -> None:
        """Wait for what is being sent back."""
        await self._sparing.aclose()

    def look_after(self) -> None:
        """Nobody is receiving: give back what lies here, unless somebody does soon."""
        if self._taken and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        if self.watched:
            return
        now = asyncio.get_running_loop().time()
        suspects = [one for one in self._taken if one.count >= SUSPECT]
        if self._link.up:
            for one in self._taken:
                if one.count < SUSPECT:
                    self._link.post(frame(one.ack, b"", b"", NAK))
        # A suspect waits for its turn here, for a while: each time it came back in vain would count against it.
        self._taken = [one for one in suspects if now - one.at < self._lease / 3]
        if spared := [one for one in suspects if one not in self._taken]:
            self._sparing.start(spared)
        self.look_after()

    async def _spare(self, now: float) -> None:
        rest, self._taken = self._taken, []
        if spared := [one for one in rest if now - one.at < self._lease * 0.9]:
            await self._sparing.spare(spared)

    async def _renew(self, old: list[Taken], now: float) -> None:
        still = [one for one in old if now - one.at < self._lease * 0.9]
        answers = await self._link.ask_all([(one.ack, b"", PROGRESS) for one in still])
        for one, answer in zip(still, answers, strict=True):
            if not isinstance(answer, TranshipError):
                one.at = now


def _level(taken: Taken) -> int:
    return taken.pair.priority.value
