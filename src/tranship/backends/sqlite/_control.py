"""The control channel: tombstones with replay, commands, heartbeats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._peers import SIGNALS, Wants
from tranship.backends.sqlite._signals import BEAT, CANCEL, COMMAND, SEND, signal
from tranship.backends.sqlite._watch import Watch
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.guards import one_listener
from tranship.ports import CancelReport, Command, Signal, SignalSink, Tombstone

if TYPE_CHECKING:
    from tranship.ports import Heartbeat

__all__ = ["SqliteControl"]

_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name='signal'"
_SINCE: Final = "SELECT seq, kind, value, expires FROM signal WHERE seq>? AND ns=? AND expires>? ORDER BY seq"


class SqliteControl:
    """See :class:`tranship.ports.ControlChannel`."""

    def __init__(self, hub: Hub, watch: Watch) -> None:
        self._hub = hub
        self._watch = watch
        self._sink: SignalSink | None = None
        self._worker = ""
        self._last = 0
        hub.hears[SIGNALS].append(self._pull)

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Replay live tombstones, then follow."""
        self._hub.check()
        one_listener(self._sink)
        await self._hub.enroll(Wants.SIGNALS)
        newest = self._newest()
        rows = self._since(0)
        if newest is None or rows is None:
            raise BrokerUnreachable(f"the database {self._hub.location.path} is busy; try again")
        replay = [signal(*row) for _, *row in rows if row[0] != COMMAND]
        self._sink, self._worker, self._last = sink, worker, newest
        # The hub too: peers say now and then that they are there.
        self._watch.want(self)
        self._watch.want(self._hub)
        if replay:
            sink(replay)

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones and remove what is queued."""
        self._hub.check()
        order = (tombstones, self._hub.options.result_ttl)
        removed = await self._hub.writer.call(CANCEL, order, weight=10 * len(tombstones))
        return CancelReport(removed=removed)

    async def send(self, command: Command) -> None:
        """Tell listeners."""
        self._hub.check()
        await self._hub.writer.call(SEND, command)

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known."""
        self._hub.check()
        await self._hub.writer.call(BEAT, heartbeat)

    def close(self) -> None:
        """End the feed."""
        self._sink = None
        self._watch.leave(self)

    def _pull(self) -> None:
        if self._sink is None or self._hub.failure is not None:
            return
        try:
            newest, rows = self._newest(), self._since(self._last)
        except TranshipError:
            # The next look meets it again, and whoever calls a method is told.
            return
        if newest is None or rows is None:
            return
        # The second read may have seen more than the first.
        self._last = max([newest, *(row[0] for row in rows)])
        heard = [found for _, *row in rows if self._for_us(found := signal(*row))]
        if heard:
            self._sink(heard)

    def _for_us(self, found: Signal) -> bool:
        return not isinstance(found, Command) or found.destination is None or self._worker in found.destination

    def _newest(self) -> int | None:
        rows = self._hub.read(_LAST, ())
        return None if rows is None else int(rows[0][0]) if rows else 0

    def _since(self, last: int) -> list[Any] | None:
        return self._hub.read(_SINCE, (last, self._hub.ns, time.time()))
