"""Cancels with replay, live commands, heartbeats. Owns the rows ``z/`` (tombstones) and ``b/`` (heartbeats)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from tranship.driver._delay import Delays
from tranship.driver._nouns import End, Ending, Row, Taken
from tranship.driver._packing import Facts
from tranship.driver._protocols import Finding, Picking
from tranship.driver._results import DriverResults
from tranship.driver._rows import Rows
from tranship.driver._signals import (
    command_bytes,
    command_of,
    heartbeat_bytes,
    tombstone_bytes,
    tombstone_of,
)
from tranship.driver._supervisor import Supervisor
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import TaskCancelled
from tranship.guards import one_listener
from tranship.ports import CancelReport, Command, Heartbeat, Settled, Signal, SignalSink, StoredResult, Tombstone
from tranship.protocol import encode_result

__all__ = ["HEARTBEATS", "DriverControl"]

HEARTBEATS: Final = "b/"
TOMBSTONES: Final = "z/"
CANCELS: Final = "z"
COMMANDS: Final = "c"
BEAT_KEPT: Final = 60.0


class DriverControl:
    """The control channel; see :class:`tranship.ports.ControlChannel`.

    Args:
        supervisor: of the backend.
        rows: the table.
        results: where the results of what is cancelled go.
        delays: where messages wait that are not due.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows, results: DriverResults, delays: Delays) -> None:
        self._supervisor, self._rows, self._results, self._delays = supervisor, rows, results, delays
        self._sink: SignalSink | None = None
        self._worker = ""

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
        self._supervisor.on_restored.append(self._replay)

    async def _replay(self) -> None:
        """Hear first, then read what is there: a tombstone may come twice, never not at all."""
        topic = self._supervisor.topic
        topic.subscribe([CANCELS, COMMANDS], self._heard)
        try:
            await self._supervisor.run("active", lambda _: topic.active())
            self._tell([one async for row in self._rows.each(TOMBSTONES) if (one := tombstone_of(row.value))])
        except BaseException:
            topic.unsubscribe([CANCELS, COMMANDS], self._heard)
            raise

    def _heard(self, name: str, value: bytes) -> None:
        signal = tombstone_of(value) if name == CANCELS else self._command(value)
        if signal is not None:
            self._tell([signal])

    def _command(self, value: bytes) -> Command | None:
        command = command_of(value)
        ours = command is not None and (command.destination is None or self._worker in command.destination)
        return command if ours else None

    def _tell(self, signals: Sequence[Signal]) -> None:
        if signals and self._sink is not None and not self._supervisor.gate.closed:
            self._sink(signals)

    # Saying.

    async def send(self, command: Command) -> None:
        """Tell listening workers."""
        await self._publish([(COMMANDS, command_bytes(command))])

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make the worker known for a minute, or forget it."""
        self._supervisor.gate.check()
        key = HEARTBEATS + heartbeat.worker
        if heartbeat.stopping:
            await self._supervisor.together(self._rows.delete([key]))
        else:
            await self._supervisor.together(self._rows.put([Row(key, heartbeat_bytes(heartbeat), BEAT_KEPT)]))

    async def _publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        self._supervisor.gate.check()
        await self._supervisor.call("publish", lambda _: self._supervisor.topic.publish(items))

    # Cancelling.

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, tell listeners, and remove what is queued."""
        self._supervisor.gate.check()
        return CancelReport(removed=await self._supervisor.together(self._cancel(tombstones)))

    async def _cancel(self, tombstones: Sequence[Tombstone]) -> list[str]:
        """Stored, told, then removed: what a worker takes meanwhile, it refuses."""
        values = {f"{TOMBSTONES}{one.kind}/{one.value}": one for one in tombstones}
        await self._keep(values)
        items = [(CANCELS, tombstone_bytes(one)) for one in values.values()]
        await self._supervisor.run("publish", lambda _: self._supervisor.topic.publish(items))
        ids = {one.value for one in tombstones if one.kind == "id"}
        keys = {one.value for one in tombstones if one.kind == "key"}
        removed = await self._from_queues(ids, keys)
        if not self._supervisor.traits.delays:
            removed += await self._from_delays(ids, keys)
        return list(dict.fromkeys(removed))

    async def _keep(self, tombstones: Mapping[str, Tombstone]) -> None:
        """Store tombstones by key; of two for one thing the longer one stays."""
        now, there = time.time(), await self._rows.get(tombstones)
        known = {key: one.expires for key, row in there.items() if (one := tombstone_of(row.value))}
        new = {key: one for key, one in tombstones.items() if one.expires > max(known.get(key, now), now)}
        await self._rows.put([Row(key, tombstone_bytes(one), one.expires - now) for key, one in new.items()])

    async def _from_queues(self, ids: set[str], keys: set[str]) -> list[str]:
        """Take exactly what nobody holds, store its result, remove it. Broken off in between it comes again, and a
        worker refuses it.
        """
        queue = self._supervisor.current.queue
        if not isinstance(queue, Finding) or not isinstance(queue, Picking):
            return []
        seen = await self._supervisor.run("find", lambda _: queue.find(list(ids), list(keys)))
        refs = [one.ref for one in seen if one.state != "held"]
        taken = await self._supervisor.run("pick", lambda _: queue.pick(refs)) if refs else ()
        return await self._remove(taken) if taken else []

    async def _remove(self, taken: Sequence[Taken]) -> list[str]:
        facts = [one.opened()[0] for one in taken]
        rows = [self._cancelled_rows(one) for one in facts]
        every = [row for some in rows for row in some]
        fused = self._supervisor.traits.fuses
        there = None if fused else await self._rows.create(every)
        endings = [Ending(one.token, End.REMOVE, some if fused else ()) for one, some in zip(taken, rows, strict=True)]
        answers = await self._supervisor.answers("end", lambda c: c.queue.end(endings), len(endings))
        self._results.announce(every, there)
        done = {Settled.CONFIRMED, Settled.SENT}
        return [one.id for one, answer in zip(facts, answers, strict=True) if answer in done]

    async def _from_delays(self, ids: set[str], keys: set[str]) -> list[str]:
        claimed = await self._delays.claim(await self._delays.find(ids, keys))
        facts = [one.facts for one in claimed]
        rows = [row for one in facts for row in self._cancelled_rows(one)]
        self._results.announce(rows, await self._rows.create(rows))
        removed = await self._delays.remove(claimed)
        return [one.id for one, gone in zip(facts, removed, strict=True) if gone]

    def _cancelled_rows(self, facts: Facts) -> list[Row]:
        if not facts.store_result:
            return []
        text = f"task {facts.id} was cancelled before it started"
        error = ErrorInfo(type="tranship.errors.TaskCancelled", message=text, code=TaskCancelled.code)
        result = TaskResult(
            id=facts.id, state=TaskState.CANCELLED, error=error, attempt=facts.attempt, finished_at=time.time()
        )
        stored = StoredResult(
            id=facts.id,
            state=result.state,
            document=encode_result(result),
            ttl=facts.result_ttl,
            reply_to=facts.reply_to,
        )
        return [self._results.row(stored)]
