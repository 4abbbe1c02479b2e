"""Cancels with replay, live commands, heartbeats, names of workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tranship.driver._locks import Locks
from tranship.driver._nouns import stamp
from tranship.driver._removal import Removal
from tranship.driver._signal_store import SignalStore
from tranship.driver._signals import command_bytes, command_of, tombstone_bytes, tombstone_of
from tranship.driver._supervisor import Supervisor
from tranship.errors import TranshipError
from tranship.guards import one_listener
from tranship.ports import CancelReport, Command, Heartbeat, NameHolder, Signal, SignalSink, Tombstone

__all__ = ["DriverControl"]

log = logging.getLogger("tranship.driver")

CANCELS: Final = "z"
COMMANDS: Final = "c"
OBEYED: Final = 1_000
"""Commands that are known when they come again."""
AGAIN: Final = 0.5
"""Seconds between two attempts to read what is cancelled."""


class DriverControl:
    """The control channel; see :class:`tranship.ports.ControlChannel` and :class:`tranship.ports.NameKeeper`.

    Args:
        supervisor: of the backend.
        store: returns where cancels and heartbeats are kept.
        removal: of what is cancelled while it waits.
        names: of workers.
    """

    def __init__(
        self, supervisor: Supervisor, store: Callable[[], SignalStore], removal: Removal, names: Locks
    ) -> None:
        self._supervisor, self._store, self._removal, self._names = supervisor, store, removal, names
        self._sink: SignalSink | None = None
        self._worker = ""
        self._obeyed: dict[str, None] = {}

    # Hearing.

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Start the feed; return once every live tombstone has been handed over."""
        self._supervisor.gate.check()
        one_listener(self._sink)
        self._sink, self._worker = sink, worker
        try:
            await self._supervisor.together(self._replay())
        except BaseException:
            self._sink = None
            raise
        self._supervisor.on_restored.append(self._replay_again)

    async def _replay(self) -> None:
        """Hear first, then read what is there: a tombstone may come twice, never not at all."""
        topic = self._supervisor.topic
        topic.subscribe([CANCELS, COMMANDS], self._heard)
        try:
            await self._supervisor.run("active", lambda _: topic.active())
            self._tell(await self._store().cancels())
        except BaseException:
            topic.unsubscribe([CANCELS, COMMANDS], self._heard)
            raise

    async def _replay_again(self) -> None:
        """Replay over a new connection. What the broker cannot tell yet is asked for again, beside whatever is done."""
        try:
            await self._replay()
        except TranshipError as error:
            log.warning("%s: cancels and commands are not heard, trying again: %s", self._supervisor.url, error)
            self._supervisor.spawn(self._replay_at_last(self._supervisor.generation))

    async def _replay_at_last(self, generation: int) -> None:
        while self._supervisor.generation == generation:
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(TranshipError):
                await self._replay()
                return

    def _heard(self, name: str, value: bytes) -> None:
        signal = tombstone_of(value) if name == CANCELS else self._command(value)
        if signal is not None:
            self._tell([signal])

    def _command(self, value: bytes) -> Command | None:
        """Return a command that is for us, once: a topic may deliver it twice."""
        command, mark = command_of(value) or (None, "")
        if command is None or mark in self._obeyed:
            return None
        self._obeyed[mark] = None
        while len(self._obeyed) > OBEYED:
            del self._obeyed[next(iter(self._obeyed))]
        return command if command.destination is None or self._worker in command.destination else None

    def _tell(self, signals: Sequence[Signal]) -> None:
        if signals and self._sink is not None and not self._supervisor.gate.closed:
            self._sink(signals)

    # Saying.

    async def send(self, command: Command) -> None:
        """Tell listening workers."""
        await self._publish([(COMMANDS, command_bytes(command, stamp()))])

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make the worker known for a minute, or forget it."""
        self._supervisor.gate.check()
        await self._supervisor.together(self._store().beat(heartbeat))

    async def take_name(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take or keep a worker's name; None: it is the holder's, else who has it."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._names.take(holder, seconds))

    async def free_name(self, holder: NameHolder) -> None:
        """Give a worker's name up."""
        self._supervisor.gate.check()
        await self._supervisor.together(self._names.free(holder))

    async def _publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        self._supervisor.gate.check()
        await self._supervisor.call("publish", lambda _: self._supervisor.topic.publish(items))

    # Cancelling.

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, tell listeners, and remove what is queued."""
        self._supervisor.gate.check()
        return CancelReport(removed=await self._supervisor.together(self._cancel(tombstones)))

    async def keep(self, tombstones: Sequence[Tombstone]) -> None:
        """Store what was cancelled elsewhere, by who has told every worker himself, and remove what is queued."""
        self._supervisor.gate.check()
        await self._supervisor.together(self._cancel(tombstones, tell=False))

    async def kept(self) -> Sequence[Tombstone]:
        """Return every cancel that is not over."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._store().cancels())

    async def _cancel(self, tombstones: Sequence[Tombstone], *, tell: bool = True) -> list[str]:
        """Stored, told, then removed: what a worker takes meanwhile, it refuses."""
        await self._store().keep(tombstones)
        if tell:
            items = [(CANCELS, tombstone_bytes(one)) for one in tombstones]
            await self._supervisor.run("publish", lambda _: self._supervisor.topic.publish(items))
        ids = {one.value for one in tombstones if one.kind == "id"}
        keys = {one.value for one in tombstones if one.kind == "key"}
        return await self._removal.cancel(ids, keys)
