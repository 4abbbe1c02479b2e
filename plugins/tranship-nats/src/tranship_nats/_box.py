"""What has come and is not handed out yet: served by the next receive, or given back soon."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Final

from tranship.errors import TranshipError
from tranship_nats._frames import frame
from tranship_nats._handed import Handed
from tranship_nats._held import ACK, NAK, PROGRESS, Pair, Taken, mark_of
from tranship_nats._link import Link
from tranship_nats._recent import Recent

__all__ = ["Box"]

SUSPECT: Final = 3
"""Delivered this often, a message travels alone."""
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

    def __len__(self) -> int:
        return len(self._taken)

    def counts(self) -> Counter[Pair]:
        """Return how many there are of each level of each queue."""
        return Counter(one.pair for one in self._taken)

    def put(self, taken: Taken) -> None:
        """Keep a message that has come; one that was settled here already is acknowledged again."""
        if mark_of(taken.ack) in self._recent:
            self._link.post(frame(taken.ack, b"", b"", ACK))
            return
        if self._handed.takes_over(taken, self._lease):
            return
        self._taken.append(taken)
        if not self.watched:
            self.look_after()

    async def take(self, limit: int, skip: Collection[str]) -> list[Taken]:
        """Take out up to ``limit``, urgent ones first; one that came back twice travels alone, after the others.

        Leases begin when a message comes: one that has lain here is renewed.
        """
        ready = sorted((one for one in self._taken if one.pair.queue not in skip), key=_level)
        chosen = [one for one in ready if one.count < SUSPECT][:limit] or ready[:1]
        now = asyncio.get_running_loop().time()
        old = [one for one in chosen if now - one.at > self._lease / 20]
        if old:
            await self._renew(old, now)
        self._taken = [one for one in self._taken if one not in chosen]
        # Those that could not be renewed come again when their lease ends.
        return [one for one in chosen if now - one.at <= self._lease / 20]

    def clear(self) -> list[Taken]:
        """Return everything, and be empty."""
        taken, self._taken = self._taken, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return taken

    def look_after(self) -> None:
        """Nobody is receiving: give back what lies here, unless somebody does soon."""
        if self._taken and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GRACE, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        if self.watched:
            return
        now = asyncio.get_running_loop().time()
        kept = []
        for one in self._taken:
            # A suspect waits for its turn here: each time it came back in vain would count against it.
            if one.count >= SUSPECT and now - one.at < self._lease / 3:
                kept.append(one)
            elif self._link.up:
                self._link.post(frame(one.ack, b"", b"", NAK))
        self._taken = kept
        self.look_after()

    async def _renew(self, old: list[Taken], now: float) -> None:
        still = [one for one in old if now - one.at < self._lease * 0.9]
        answers = await self._link.ask_all([(one.ack, b"", PROGRESS) for one in still])
        for one, answer in zip(still, answers, strict=True):
            if not isinstance(answer, TranshipError):
                one.at = now


def _level(taken: Taken) -> int:
    return taken.pair.priority.value
