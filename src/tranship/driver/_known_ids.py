"""Ids that the result store is told of, where no index of the queues tells of them. Owns the rows ``s/``.

A row says of a task that it was submitted, and when it may be taken. It is written before the task is sent: whoever
dies in between leaves an id that is PENDING until its row goes by itself, never a task that nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tranship.driver._nouns import Row
from tranship.driver._queue import Finding
from tranship.driver._rows import Rows
from tranship.driver._supervisor import Supervisor
from tranship.envelope import TaskState
from tranship.ports import KnownId, ResultSink, ResultStore, StoredResult

__all__ = ["KnownIds"]

SILENT: Final = (TaskState.UNKNOWN, TaskState.PENDING)
"""What a store says of an id of which it has no result, and no queue that tells more."""


class KnownIds:
    """A result store with the ids of what was submitted; see :class:`tranship.ports.IdKeeper`.

    Args:
        store: the backend's.
        supervisor: of the backend.
        rows: the table.
        ttl: seconds for which an id is known at least, from the moment that its task may be taken.
    """

    def __init__(self, store: ResultStore, supervisor: Supervisor, rows: Rows, *, ttl: float) -> None:
        self._store, self._supervisor, self._rows, self._ttl = store, supervisor, rows, ttl

    def attach(self, sink: ResultSink) -> None:
        """Say where pushed results go."""
        self._store.attach(sink)

    def expect(self, ids: Sequence[str]) -> None:
        """From now on push the results of ``ids``."""
        self._store.expect(ids)

    def unexpect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids`` no more."""
        self._store.unexpect(ids)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results."""
        return await self._store.put(results)

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read results; of those that are not there, whether anybody has submitted their task."""
        found = await self._store.get_many(ids)
        silent = [one.id for one in found if one.state in SILENT]
        if not silent:
            return found
        states = await self._supervisor.together(self._states(silent))
        return [replace(one, state=states[one.id]) if one.state in SILENT else one for one in found]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results, and with each that was there its id; a task that has not ended stays known."""
        found = await self._store.get_many(ids)
        await self._store.forget_many(ids)
        await self.drop_ids([one.id for one in found if one.state.terminal])

    async def keep_ids(self, tasks: Sequence[KnownId]) -> Sequence[bool]:
        """Write a row for each; one that is there lasts as long as a new one."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._keep({_key(one.id): self._row(one) for one in tasks}, tasks))

    async def drop_ids(self, ids: Sequence[str]) -> None:
        """Delete rows."""
        self._supervisor.gate.check()
        await self._supervisor.together(self._rows.delete(map(_key, ids)))

    async def _keep(self, rows: Mapping[str, Row], tasks: Sequence[KnownId]) -> list[bool]:
        there = dict(zip(rows, await self._rows.create(list(rows.values())), strict=True))
        await self._rows.put([row for key, row in rows.items() if there[key] is not None])
        return [there[_key(one.id)] is None for one in tasks]

    def _row(self, task: KnownId) -> Row:
        waits = max(0.0, task.ready - self._supervisor.clock.now())
        return Row(_key(task.id), b"%.3f" % task.ready, max(self._ttl, task.ttl or 0.0) + waits)

    async def _states(self, ids: Sequence[str]) -> dict[str, TaskState]:
        rows = await self._rows.get(map(_key, ids))
        known = {one: self._state(row) for one in ids if (row := rows.get(_key(one))) is not None}
        delayed = await self._delayed([one for one in ids if one not in known])
        return dict.fromkeys(ids, TaskState.UNKNOWN) | delayed | known

    async def _delayed(self, ids: Sequence[str]) -> dict[str, TaskState]:
        """Ask the queue for those of which there is no row: a delay may be longer than a table keeps any."""
        queue = self._supervisor.current.queue
        if not ids or not isinstance(queue, Finding) or self._supervisor.traits.finds != "delayed":
            return {}
        found = await self._supervisor.run("find", lambda _: queue.find(ids, ()))
        return {one.facts.id: TaskState.RETRY if one.facts.attempt else TaskState.SCHEDULED for one in found}

    def _state(self, row: Row) -> TaskState:
        with suppress(ValueError):
            if float(row.value) > self._supervisor.clock.now():
                return TaskState.SCHEDULED
        return TaskState.PENDING


def _key(task_id: str) -> str:
    return f"s/{task_id}"
