"""What is kept of control: cancels and heartbeats, as rows of a table or as entries of a log.

Owns the rows ``z/`` (tombstones) and ``b/`` (heartbeats), and the logs ``cancels`` and ``heartbeats``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from tranship.driver._connection import Log, log_of
from tranship.driver._nouns import Row
from tranship.driver._rows import Rows
from tranship.driver._signals import heartbeat_bytes, heartbeat_read, tombstone_bytes, tombstone_of
from tranship.driver._supervisor import Supervisor
from tranship.ports import Heartbeat, Tombstone

__all__ = ["SignalStore", "signal_store"]

T = TypeVar("T")

BEATS: Final = "b/"
TOMBSTONES: Final = "z/"
BEAT_KEPT: Final = 60.0
"""Seconds after which a worker that says nothing is forgotten."""
CANCELS_LOG: Final = "cancels"
BEATS_LOG: Final = "heartbeats"


class SignalStore(Protocol):
    """Keeps cancels until their time is over, and of each worker the latest heartbeat for a minute."""

    async def keep(self, tombstones: Sequence[Tombstone]) -> None:
        """Store cancels; of two for one thing the longer one stays."""

    async def cancels(self) -> Sequence[Tombstone]:
        """Return those whose time is not over."""

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Store a heartbeat; forget a worker that says that it stops."""

    async def beats(self) -> Sequence[Heartbeat]:
        """Return the latest heartbeat of each worker."""


class SignalRows:
    """Cancels and heartbeats in the table.

    Args:
        rows: of the backend.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def keep(self, tombstones: Sequence[Tombstone]) -> None:
        """Write a row for each, unless there is one that stays longer."""
        keyed = {f"{TOMBSTONES}{one.kind}/{one.value}": one for one in tombstones}
        now, there = time.time(), await self._rows.get(keyed)
        known = {key: one.expires for key, row in there.items() if (one := tombstone_of(row.value))}
        new = {key: one for key, one in keyed.items() if one.expires > max(known.get(key, now), now)}
        await self._rows.put([Row(key, tombstone_bytes(one), one.expires - now) for key, one in new.items()])

    async def cancels(self) -> list[Tombstone]:
        """Read all rows."""
        return [one async for row in self._rows.each(TOMBSTONES) if (one := tombstone_of(row.value))]

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Write the worker's row, or delete it."""
        key = BEATS + heartbeat.worker
        if heartbeat.stopping:
            await self._rows.delete([key])
        else:
            await self._rows.put([Row(key, heartbeat_bytes(heartbeat), BEAT_KEPT)])

    async def beats(self) -> list[Heartbeat]:
        """Read all rows."""
        return [beat async for row in self._rows.each(BEATS) if (beat := heartbeat_read(row.value))]


class SignalLog:
    """Cancels and heartbeats in the log.

    Args:
        supervisor: of the backend.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def keep(self, tombstones: Sequence[Tombstone]) -> None:
        """Append all of them: who reads sees which one stays longer."""
        entries = [tombstone_bytes(one) for one in tombstones]
        await self._run("append", lambda log: log.append(CANCELS_LOG, entries))

    async def cancels(self) -> list[Tombstone]:
        """Read the log from the first entry on."""
        longest: dict[tuple[str, str], Tombstone] = {}
        now = time.time()
        for entry in await self._run("read", lambda log: log.read(CANCELS_LOG)):
            one = tombstone_of(entry)
            if one is not None and one.expires > now:
                known = longest.setdefault((one.kind, one.value), one)
                if known.expires < one.expires:
                    longest[one.kind, one.value] = one
        return list(longest.values())

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Append it; the last word of a worker, too."""
        await self._run("append", lambda log: log.append(BEATS_LOG, [heartbeat_bytes(heartbeat)]))

    async def beats(self) -> list[Heartbeat]:
        """Read what was appended in the last minute."""
        since = time.time() - BEAT_KEPT
        latest: dict[str, Heartbeat] = {}
        for entry in await self._run("read", lambda log: log.read(BEATS_LOG, since)):
            beat = heartbeat_read(entry)
            # A log may begin earlier than it was asked to; and the worker's clock may be another one than ours.
            if beat is not None and beat.at >= since - BEAT_KEPT:
                latest[beat.worker] = beat
        return [beat for beat in latest.values() if not beat.stopping]

    async def _run(self, verb: str, call: Callable[[Log], Awaitable[T]]) -> T:
        log = log_of(self._supervisor.current)
        assert log is not None
        return await self._supervisor.run(verb, lambda _: call(log))


def signal_store(supervisor: Supervisor, rows: Rows) -> Callable[[], SignalStore]:
    """Return what says, over each connection, where cancels and heartbeats are."""
    in_rows, in_log = SignalRows(rows), SignalLog(supervisor)

    def chosen() -> SignalStore:
        connection = supervisor.current
        return in_rows if connection.table is not None or log_of(connection) is None else in_log

    return chosen
