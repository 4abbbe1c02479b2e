"""Delay for queues that have none: messages wait as rows, and are forwarded when they are due. Owns the rows ``w/``.

A row is claimed by its version before it is forwarded, so that of several forwarders one sends it. It is deleted after
the send: a forwarder that dies between the two makes the message come twice, never not at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tranship.driver._nouns import Outgoing, Row, Taken, stamp
from tranship.driver._packing import Facts, unpack
from tranship.driver._rows import Rows, time_in, timed_key
from tranship.driver._supervisor import Supervisor
from tranship.errors import TranshipError

__all__ = ["RESOLUTION", "DelayedRow", "Delays"]

log = logging.getLogger("tranship.driver")

RESOLUTION: Final = 0.1
"""Seconds between two looks."""
MOVING: Final = 5.0
"""Seconds that a claim lasts: then another forwarder tries."""


@dataclass(slots=True, eq=False)
class DelayedRow:
    """One delayed message as it lies in the table."""

    row: Row

    @property
    def due(self) -> float:
        """When it is due, in epoch seconds."""
        return time_in(self.row.key)

    @property
    def claimed_until(self) -> float:
        """Until when somebody moves it; 0: nobody does."""
        return float(self.row.value.partition(b"\n")[0])

    @property
    def data(self) -> bytes:
        """The message."""
        return self.row.value.partition(b"\n")[2]

    @property
    def facts(self) -> Facts:
        """What is known of it."""
        return unpack(self.data)[0]

    def taken(self) -> Taken:
        """Return it as what a queue would have given; its token is the row."""
        facts = self.facts
        return Taken(self, facts.queue, facts.level, self.data)

    def claimed(self, until: float) -> Row:
        """Return the row as it is when it is claimed."""
        return Row(self.row.key, b"%.6f\n" % until + self.data)


class Delays:
    """The messages of one backend that are not due.

    Args:
        supervisor: of the backend.
        rows: the table.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows) -> None:
        self._supervisor = supervisor
        self._rows = rows
        self._forwarder: asyncio.Task[None] | None = None

    @staticmethod
    def row(message: Outgoing, mark: str | None = None) -> Row:
        """Return the row that keeps ``message`` until it is due; the same ``mark`` makes the same key again."""
        return Row(timed_key("w", message.ready, mark or stamp()), b"0\n" + message.data)

    def start(self) -> None:
        """Forward what is due from now on, until the backend is closed."""
        if self._forwarder is None:
            self._forwarder = self._supervisor.spawn(self._forward_all())

    async def waiting(self) -> AsyncIterator[DelayedRow]:
        """Yield everything that waits, the earliest first."""
        async for rows in self._rows.since("w"):
            for found in map(_read, rows):
                if found is not None:
                    yield found

    async def find(self, ids: Collection[str], cancel_keys: Collection[str] = ()) -> list[DelayedRow]:
        """Return what has one of the ids or keys."""
        found = [(one, one.facts) async for one in self.waiting()]
        return [one for one, facts in found if facts.id in ids or facts.cancel_key in cancel_keys]

    async def claim(self, found: Sequence[DelayedRow], seconds: float = MOVING) -> list[DelayedRow]:
        """Make rows ours for a while; return those that are."""
        now = self._supervisor.clock.now()
        free = [one for one in found if one.claimed_until < now]
        new = [one.claimed(now + seconds) for one in free]
        versions = await self._rows.put(new, [one.row.version for one in free])
        for row, version in zip(new, versions, strict=True):
            row.version = version or 0
        return [DelayedRow(row) for row in new if row.version]

    async def renew(self, claimed: DelayedRow, seconds: float) -> bool:
        """Keep a claim for so long from now; False: it is not ours any more."""
        new = claimed.claimed(self._supervisor.clock.now() + seconds)
        (version,) = await self._rows.put([new], [claimed.row.version])
        if version is not None:
            new.version = version
            claimed.row = new
        return version is not None

    async def remove(self, claimed: Sequence[DelayedRow]) -> Sequence[bool]:
        """Delete rows that we have claimed; False: of those that are not ours any more."""
        return await self._rows.delete([one.row.key for one in claimed], [one.row.version for one in claimed])

    async def forward(self, claimed: Sequence[DelayedRow]) -> None:
        """Send what we have claimed to its queue, ready at once, and then delete it here."""
        if not claimed:
            return
        messages = [Outgoing(*unpack(one.data)) for one in claimed]
        answers = await self._supervisor.answers("send", lambda c: c.queue.send(messages), len(messages))
        pairs = zip(claimed, answers, strict=True)
        await self.remove([one for one, answer in pairs if not isinstance(answer, TranshipError)])

    async def _forward_all(self) -> None:
        while True:
            try:
                await self._forward_due()
            except TranshipError as error:
                log.debug("%s: forwarding delayed messages: %s; trying again", self._supervisor.url, error)
            except Exception:
                log.exception("%s: forwarding delayed messages failed in an unexpected way", self._supervisor.url)
            await asyncio.sleep(RESOLUTION)

    async def _forward_due(self) -> None:
        async for rows in self._rows.since("w"):
            waiting = [one for row in rows if (one := _read(row)) is not None]
            due = [one for one in waiting if one.due <= self._supervisor.clock.now()]
            await self.forward(await self.claim(due))
            if len(due) < len(waiting):
                return


def _read(row: Row) -> DelayedRow | None:
    """Return a row as what it says it is; None, with a word to the log: nobody can read it, and nobody touches it."""
    found = DelayedRow(row)
    try:
        _ = found.due, found.claimed_until, found.facts
    except (ValueError, IndexError) as error:
        log.warning("the row %r is no delayed message: %s", row.key, error)
        return None
    return found
