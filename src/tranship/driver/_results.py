"""Results as rows: the first terminal one wins. Whoever expects an id is told, and reads it. Owns the rows ``r/``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from tranship.driver._delay import Delays
from tranship.driver._nouns import Row, Undo
from tranship.driver._protocols import Finding, traits_of
from tranship.driver._rows import Rows
from tranship.driver._supervisor import Supervisor
from tranship.envelope import TaskState
from tranship.errors import MessageTooLarge, TranshipError
from tranship.ports import ResultSink, StoredResult

__all__ = ["DriverResults", "result_key"]

log = logging.getLogger("tranship.driver")

RECHECK: Final = 10.0
"""Seconds after which what is expected is read once more: a signal may be lost with whoever was to send it."""
BATCH: Final = 500


def result_key(task_id: str) -> str:
    """Return the key of a task's result, which is also the name that tells of it."""
    return f"r/{task_id}"


class DriverResults:
    """The result store; see :class:`tranship.ports.ResultStore`.

    Args:
        supervisor: of the backend.
        rows: the table.
        delays: where messages wait that are not due.
        ttl: seconds to keep a result that says nothing.
        limit: bytes of a result document.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows, delays: Delays, *, ttl: float, limit: int) -> None:
        self._supervisor, self._rows, self._delays = supervisor, rows, delays
        self._ttl, self._limit = ttl, limit
        self._sink: ResultSink | None = None
        self._expected: dict[str, Undo | None] = {}
        self._found: dict[str, None] = {}
        self._reader: asyncio.Task[None] | None = None
        self._rechecker: asyncio.Task[None] | None = None
        supervisor.on_restored.append(self._subscribe_again)

    # Expecting.

    @property
    def waiting(self) -> int:
        """How many ids are expected; for statistics and tests."""
        return len(self._expected)

    def attach(self, sink: ResultSink) -> None:
        """Say where pushed results go."""
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """From now on push the results of ``ids``."""
        self._supervisor.gate.check()
        new = [one for one in ids if one not in self._expected]
        self._expected.update(dict.fromkeys(new))
        if self._supervisor.connected:
            self._subscribe(new)
        if self._expected and (self._rechecker is None or self._rechecker.done()):
            self._rechecker = self._supervisor.spawn(self._recheck())

    def unexpect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids`` no more."""
        for one in ids:
            undo = self._expected.pop(one, None)
            if undo is not None:
                undo()

    def _subscribe(self, ids: Iterable[str]) -> None:
        topic = self._supervisor.topic
        for one in ids:
            self._expected[one] = topic.subscribe([result_key(one)], self._heard)

    async def _subscribe_again(self) -> None:
        self._subscribe(list(self._expected))

    def _heard(self, name: str, _value: bytes) -> None:
        self._read([name.removeprefix("r/")])

    def _read(self, ids: Iterable[str]) -> None:
        """Read these results, in one go with whatever is asked for meanwhile, and push them."""
        self._found.update(dict.fromkeys(ids))
        if self._found and (self._reader is None or self._reader.done()):
            self._reader = self._supervisor.spawn(self._push())

    async def _push(self) -> None:
        while self._found:
            ids = [one for one in list(self._found)[:BATCH] if one in self._expected]
            for one in list(self._found)[:BATCH]:
                del self._found[one]
            try:
                found = await self._stored(ids)
            except TranshipError as error:
                log.debug("%s: reading results: %s; they are read again", self._supervisor.url, error)
                return
            ready = [one for one in found.values() if one.id in self._expected]
            if ready and self._sink is not None:
                self._sink(ready)

    async def _recheck(self) -> None:
        while self._expected:
            old = list(self._expected)
            await asyncio.sleep(RECHECK)
            self._read(one for one in old if one in self._expected)

    # Storing.

    def row(self, result: StoredResult) -> Row:
        """Return the row that keeps a result."""
        value = result.state.value.encode() + b"\n" + result.document
        return Row(result_key(result.id), value, self._ttl if result.ttl is None else result.ttl)

    def announce(self, ids: Sequence[str]) -> None:
        """Tell whoever expects ``ids`` that their results are there; nobody waits for that."""
        if ids and self._supervisor.connected:
            self._supervisor.spawn(self._announce([(result_key(one), b"") for one in ids]))

    async def _announce(self, items: Sequence[tuple[str, bytes]]) -> None:
        try:
            await self._supervisor.run("publish", lambda _: self._supervisor.topic.publish(items))
        except TranshipError as error:
            log.debug("%s: telling of results: %s; they are found later", self._supervisor.url, error)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results; the first terminal one of each id wins."""
        self._supervisor.gate.check()
        for one in results:
            size = len(one.document)
            if size > self._limit:
                text = f"a result of {size} bytes is more than the {self._limit} of max_message_size"
                raise MessageTooLarge(text, size=size, limit=self._limit, task_id=one.id)
        return await self._supervisor.together(self._put(results))

    async def _put(self, results: Sequence[StoredResult]) -> list[bool]:
        first: dict[str, StoredResult] = {}
        for one in results:
            first.setdefault(one.id, one)
        there = await self._rows.create([self.row(one) for one in first.values()])
        # Also of those that were there before: who stored them may have died before he could tell.
        self.announce(list(first))
        won = {one for one, other in zip(first, there, strict=True) if other is None}
        return [one.id in won and first[one.id] is one for one in results]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results."""
        self._supervisor.gate.check()
        await self._supervisor.together(self.forget(ids))

    async def forget(self, ids: Iterable[str]) -> None:
        """Do the same, in the caller's task."""
        await self._rows.delete(map(result_key, ids))

    # Reading.

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read results, and of those that are not there the state of their task."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._get_many(ids))

    async def _get_many(self, ids: Sequence[str]) -> list[StoredResult]:
        if self._expected:
            await self._supervisor.run("active", lambda _: self._supervisor.topic.active())
        found = await self._stored(ids)
        missing = [one for one in ids if one not in found]
        if missing:
            states = await self._states(missing)
            # Ended between the two looks, it is in no queue any more, and its result is there.
            ended = await self._stored([one for one in missing if states[one] is TaskState.UNKNOWN])
            found = {one: StoredResult(id=one, state=states[one]) for one in missing} | found | ended
        return [found[one] for one in ids]

    async def _stored(self, ids: Iterable[str]) -> dict[str, StoredResult]:
        rows = await self._rows.get(map(result_key, ids))
        return {key.removeprefix("r/"): _stored_result(key.removeprefix("r/"), row) for key, row in rows.items()}

    async def _states(self, ids: Sequence[str]) -> dict[str, TaskState]:
        queue = self._supervisor.current.queue
        if not isinstance(queue, Finding):
            return dict.fromkeys(ids, TaskState.PENDING)
        states = dict.fromkeys(ids, TaskState.UNKNOWN)
        # A message moves from the table to the queue and is there before it is gone here; a retry moves back.
        moves = not traits_of(queue).delays
        if moves:
            await self._delayed(states)
        for one in await self._supervisor.run("find", lambda _: queue.find(ids, ())):
            states[one.facts.id] = _state(one.state, one.facts.attempt)
        if moves and TaskState.UNKNOWN in states.values():
            await self._delayed(states)
        return states

    async def _delayed(self, states: dict[str, TaskState]) -> None:
        for one in await self._delays.find(states):
            if states[one.facts.id] is TaskState.UNKNOWN:
                states[one.facts.id] = _state("delayed", one.facts.attempt)


def _state(where: str, attempt: int) -> TaskState:
    if where == "held":
        return TaskState.STARTED
    if where == "ready":
        return TaskState.PENDING
    return TaskState.RETRY if attempt else TaskState.SCHEDULED


def _stored_result(task_id: str, row: Row) -> StoredResult:
    state, _, document = row.value.partition(b"\n")
    return StoredResult(id=task_id, state=TaskState(state.decode()), document=document)
