"""The control channel: heartbeats to the orchestrator, cancels from it, and cancels of jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from tranship.errors import UnsupportedError
from tranship.guards import one_listener
from tranship.ports import ONLOOKER, CancelReport, Command, Heartbeat, Signal, SignalSink, Tombstone
from tranship_avtomatika._connection import AvtomatikaConnection

__all__ = ["AvtomatikaControl"]

log = logging.getLogger("tranship.avtomatika")

REMEMBERED: Final = 3600.0
"""Seconds for which a worker knows that a task was cancelled."""
_NO_COMMANDS: Final = (
    "{} cannot be handed on: an orchestrator has no commands from one worker or operator to another; use the worker's "
    "health server (--health-port), or its host"
)
_HELLO: Final = "hello"
"""The command by which workers look for others of their name."""


class AvtomatikaControl:
    """See :class:`tranship.ports.ControlChannel`.

    Args:
        connection: returns the one that is there now.
    """

    def __init__(self, connection: Callable[[], AvtomatikaConnection]) -> None:
        self._connection = connection
        self._sink: SignalSink | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Make the worker known, and hear what is cancelled. Nothing has to be replayed: it is not given out."""
        connection = self._connection()
        if worker == ONLOOKER:
            raise UnsupportedError(_NO_COMMANDS.format("nobody's"))
        one_listener(self._sink)
        await connection.member.join(worker)
        self._sink = sink
        connection.cancelled = self._cancelled
        connection.listen()

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Cancel jobs that this process has submitted."""
        await self._connection().jobs.cancel(tombstones)
        return CancelReport()

    async def send(self, command: Command) -> None:
        """Workers of orchestrators do not hear each other.

        Raises:
            UnsupportedError: for every command but the one by which workers look for their namesakes.
        """
        if command.name != _HELLO:
            raise UnsupportedError(_NO_COMMANDS.format(f"command {command.name!r}"))

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Tell the orchestrator what the worker can do, and does."""
        await self._connection().member.beat(heartbeat)

    def _cancelled(self, ids: Collection[str]) -> None:
        if self._sink is not None and ids:
            until = time.time() + REMEMBERED
            signals: list[Signal] = [Tombstone(kind="id", value=one, expires=until) for one in ids]
            self._sink(signals)
