"""Results as rows: the first terminal one wins. Whoever expects an id is told, and reads it. Owns the rows ``r/``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from tranship.driver._delay import Delays
from tranship.driver._nouns import Row
from tranship.driver._queue import Finding, traits_of
from tranship.driver._rows import Rows
from tranship.driver._steps import at_once
from tranship.driver._supervisor import Supervisor
from tranship.envelope import TaskState
from tranship.errors import MessageTooLarge, TranshipError
from tranship.ports import ResultSink, StoredResult

__all__ = ["NAMES", "STATES", "DriverResults", "checked_size", "result_key"]

log = logging.getLogger("tranship.driver")

RECHECK: Final = 10.0
"""Seconds after which what is expected is read once more: a signal may be lost with whoever was to send it."""
BATCH: Final = 500
NAMES: Final = {state: state.value.encode() for state in TaskState}
STATES: Final = {name: state for state, name in NAMES.items()}
SUCCESS: Final = NAMES[TaskState.SUCCESS] + b"\n"
SMALL: Final = 16 * 1024
"""Bytes of a row up to which it travels with the word that it is there; a larger one is read by who wants it."""


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
        self._comes_alone = False
        """Whether what is heard is best pushed at once, one by one."""
        self._expected: dict[str, None] = {}
        self._found: dict[str, bool] = {}
        """Ids to read: whether we were told that there is a result."""
        self._pushed: dict[str, bytes] = {}
        self._reader: asyncio.Task[None] | None = None
        self._rechecker: asyncio.Task[None] | None = None
        self._news: dict[str, bytes] = {}
        self._announcer: asyncio.Task[None] | None = None
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
        if new and self._supervisor.connected:
            self._subscribe(new)
        if self._expected and (self._rechecker is None or self._rechecker.done()):
            self._rechecker = self._supervisor.spawn(self._recheck())

    def unexpect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids`` no more."""
        gone = [f"r/{one}" for one in ids if self._expected.pop(one, self) is None]
        if gone and self._supervisor.connected:
            self._supervisor.topic.unsubscribe(gone, self._heard)

    def _subscribe(self, ids: Iterable[str]) -> None:
        topic = self._supervisor.topic
        self._comes_alone = self._supervisor.immediate or getattr(topic, "pushes_alone", False)
        topic.subscribe([f"r/{one}" for one in ids], self._heard)

    async def _subscribe_again(self) -> None:
        if self._expected:
            self._subscribe(self._expected)

    def _heard(self, name: str, value: bytes) -> None:
        task_id = name[2:]
        if not value:
            self._read([task_id], told=True)
        elif self._comes_alone:
            if task_id in self._expected and self._sink is not None:
                self._sink([_stored_result(task_id, value)])
        else:
            if not self._pushed:
                asyncio.get_running_loop().call_soon(self._push_together)
            self._pushed[task_id] = value

    def _push_together(self) -> None:
        """Push what was heard in one go."""
        pushed, self._pushed = self._pushed, {}
        ready = [_stored_result(one, value) for one, value in pushed.items() if one in self._expected]
        if ready and self._sink is not None:
            self._sink(ready)

    def _read(self, ids: Iterable[str], *, told: bool = False) -> None:
        """Read these results, in one go with whatever is asked for meanwhile, and push them."""
        self._found.update(dict.fromkeys(ids, told))
        if self._found and (self._reader is None or self._reader.done()):
            self._reader = self._supervisor.spawn(self._push())

    async def _push(self) -> None:
        while self._found:
            asked = {one: self._found.pop(one) for one in list(self._found)[:BATCH]}
            ids = [one for one in asked if one in self._expected]
            try:
                found = await self._stored(ids)
            except TranshipError as error:
                log.debug("%s: reading results: %s; they are read again", self._supervisor.url, error)
                return
            for one in ids:
                if asked[one] and one not in found and one in self._expected:
                    log.warning(
                        "%s: the table has no row %r, and there was word of it: unless somebody has deleted that, a "
                        "table keeps a row until its time is over",
                        self._supervisor.name,
                        result_key(one),
                    )
            ready = [one for one in found.values() if one.id in self._expected and one.state.terminal]
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
        value = NAMES[result.state] + b"\n" + result.document
        ttl = self._ttl if result.ttl is None else result.ttl
        return Row(f"r/{result.id}", value, ttl, tell=_told(value))

    def announce(self, rows: Sequence[Row], there: Sequence[bytes | None] | None = None) -> None:
        """Tell whoever expects them that these results are there; nobody waits for that.

        Args:
            rows: of the results.
            there: what each row was found to be, None where it is ours; not given: nobody knows which one was first.
        """
        if not rows or self._supervisor.traits.tells or not self._supervisor.connected:
            return
        if there is None or self._supervisor.current.topic is None:
            # Of a topic that is made of the table each reader reads everything: there, a word is enough.
            self._news.update((row.key, b"") for row in rows)
        else:
            stored = (row.value if old is None else old for row, old in zip(rows, there, strict=True))
            self._news.update((row.key, _told(value)) for row, value in zip(rows, stored, strict=True))
        if self._supervisor.immediate:
            at_once(self._announce())
        elif self._announcer is None or self._announcer.done():
            self._announcer = self._supervisor.spawn(self._announce())

    async def _announce(self) -> None:
        """Publish what there is to tell, with whatever comes meanwhile."""
        while self._news:
            items, self._news = list(self._news.items()), {}
            await self._publish(items)

    async def _publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        try:
            await self._supervisor.run("publish", lambda _: self._supervisor.topic.publish(items))
        except TranshipError as error:
            log.debug("%s: telling of results: %s; they are found later", self._supervisor.url, error)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results; the first terminal one of each id wins."""
        self._supervisor.gate.check()
        checked_size(results, min(self._limit, self._supervisor.traits.limits.message or self._limit))
        return await self._supervisor.together(self._put(results))

    async def _put(self, results: Sequence[StoredResult]) -> list[bool]:
        first: dict[str, StoredResult] = {}
        for one in results:
            first.setdefault(one.id, one)
        rows = [self.row(one) for one in first.values()]
        there = await self._rows.create(rows)
        # Also of those that were there before: who stored them may have died before he could tell.
        self.announce(rows, there)
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
        return {key.removeprefix("r/"): _stored_result(key.removeprefix("r/"), row.value) for key, row in rows.items()}

    async def _states(self, ids: Sequence[str]) -> dict[str, TaskState]:
        queue = self._supervisor.current.queue
        if not isinstance(queue, Finding) or self._supervisor.traits.finds != "all":
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


def checked_size(results: Sequence[StoredResult], limit: int) -> None:
    """Return, if every document may be so large.

    Raises:
        MessageTooLarge: one may not.
    """
    for one in results:
        size = len(one.document)
        if size > limit:
            text = f"a result of {size} bytes is more than the {limit} of max_message_size"
            raise MessageTooLarge(text, size=size, limit=limit, task_id=one.id)


def _state(where: str, attempt: int) -> TaskState:
    if where == "held":
        return TaskState.STARTED
    if where == "ready":
        return TaskState.PENDING
    return TaskState.RETRY if attempt else TaskState.SCHEDULED


def _told(value: bytes) -> bytes:
    """Return what is published of a row: all of it, or that it is there.

    What is no success may be replayed, and its row be another one by the time that somebody hears of it: it is read.
    """
    return value if value.startswith(SUCCESS) and len(value) <= SMALL else b""


def _stored_result(task_id: str, value: bytes) -> StoredResult:
    state, _, document = value.partition(b"\n")
    return StoredResult(id=task_id, state=STATES[state], document=document)
