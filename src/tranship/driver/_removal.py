"""Messages that nobody has, taken out of the broker: cancelled by id or key, or purged by an operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tranship import codec
from tranship.driver._delay import DelayedRow, Delays
from tranship.driver._nouns import End, Ending, Row, Stored, Taken
from tranship.driver._outcomes import Outcomes
from tranship.driver._packing import Facts
from tranship.driver._queue import Finding, Picking, Scanning, Searching
from tranship.driver._supervisor import Supervisor
from tranship.envelope import TaskState
from tranship.errors import UnsupportedError
from tranship.ports import QueuedTask, Settled, StoredResult
from tranship.protocol import CANCELLED, PURGED, encode_cancelled, is_followed

__all__ = ["Removal", "cancelled_result", "queued_task"]

AT_ONCE = 500
"""Messages that are looked at, and removed, in one step."""
SEARCHING = 600.0
"""Seconds that a look at everything in a queue may take; a server that has gone is noticed by other means."""


class Removal:
    """Of one backend. What a worker holds is left alone; what is removed leaves a result that says so.

    Args:
        supervisor: of the backend.
        outcomes: where the results of what is removed go.
        delays: where messages wait that are not due.
        content_type: what documents of results are written in.
    """

    def __init__(self, supervisor: Supervisor, outcomes: Outcomes, delays: Delays, content_type: str) -> None:
        self._supervisor, self._outcomes, self._delays = supervisor, outcomes, delays
        self._content_type = content_type

    async def cancel(self, ids: set[str], keys: set[str]) -> list[str]:
        """Remove what has one of the ids or cancel keys, in any queue, as far as it can be found."""
        queue, removed = self._supervisor.current.queue, []
        if isinstance(queue, Finding) and isinstance(queue, Picking):
            seen = await self._supervisor.run("find", lambda _: queue.find(list(ids), list(keys)))
            removed = await self._pick(seen, CANCELLED)
        if self._keeps_delays:
            removed += await self._from_delays(await self._delays.find(ids, keys), CANCELLED)
        return list(dict.fromkeys(removed))

    async def purge(self, name: str, ids: set[str] | None) -> list[str]:
        """Remove what waits in one queue: what has one of the ids, or everything."""
        removed = await (self._purge_all(name) if ids is None else self._purge_some(name, ids))
        if self._keeps_delays:
            found = [one async for one in self._delays.waiting() if one.facts.queue == name]
            removed += await self._from_delays([one for one in found if ids is None or one.facts.id in ids], PURGED)
        return list(dict.fromkeys(removed))

    async def waiting(self, name: str, limit: int) -> list[QueuedTask]:
        """Return what waits in one queue."""
        found = [queued_task(one.facts, "ready") for one in await self._scan(name, "ready", limit)]
        if self._keeps_delays:
            found += [
                queued_task(one.facts, "delayed") async for one in self._delays.waiting() if one.facts.queue == name
            ]
        elif len(found) < limit:
            found += [
                queued_task(one.facts, "delayed") for one in await self._scan(name, "delayed", limit - len(found))
            ]
        return found[:limit]

    @property
    def _keeps_delays(self) -> bool:
        """Whether the kit keeps what is not due."""
        return self._supervisor.current.table is not None and not self._supervisor.traits.delays

    async def _scan(self, name: str, state: str, limit: int) -> Sequence[Stored]:
        queue = self._supervisor.current.queue
        if not isinstance(queue, Scanning) or not isinstance(queue, Picking):
            raise UnsupportedError(f"{self._supervisor.name} cannot show or remove what waits in a queue")
        return await self._supervisor.run("scan", lambda _: queue.scan(name, state, limit), wait=SEARCHING)

    async def _purge_all(self, name: str) -> list[str]:
        """Page by page from the front, until a page has nothing that could be removed: workers take some, too."""
        removed: list[str] = []
        for state in ("ready",) if self._keeps_delays else ("ready", "delayed"):
            while gone := await self._pick(await self._scan(name, state, AT_ONCE), PURGED):
                removed += gone
        return removed

    async def _purge_some(self, name: str, ids: set[str]) -> list[str]:
        queue = self._supervisor.current.queue
        seen: Sequence[Stored]
        if isinstance(queue, Searching) and isinstance(queue, Picking):
            seen = await self._supervisor.run("search", lambda _: queue.search(name, list(ids)), wait=SEARCHING)
        elif isinstance(queue, Finding) and isinstance(queue, Picking):
            seen = await self._supervisor.run("find", lambda _: queue.find(list(ids), ()))
        else:
            raise UnsupportedError(f"{self._supervisor.name} cannot remove single tasks from a queue")
        return await self._pick([one for one in seen if one.facts.queue == name], PURGED)

    async def _pick(self, seen: Sequence[Stored], why: str) -> list[str]:
        """Take exactly what nobody holds, store its result, remove it. Broken off in between it comes again, and a
        worker refuses what was cancelled.
        """
        queue = self._supervisor.current.queue
        assert isinstance(queue, Picking)
        refs = [one.ref for one in seen if one.state != "held"]
        taken = await self._supervisor.run("pick", lambda _: queue.pick(refs)) if refs else ()
        if why is CANCELLED and taken:
            taken = await self._without_followed(taken)
        return await self._remove(taken, why) if taken else []

    async def _without_followed(self, taken: Sequence[Taken]) -> list[Taken]:
        """Give back what other tasks follow: a worker ends it as cancelled, and those with it."""
        followed = [one for one in taken if is_followed(one.opened()[1])]
        if followed:
            endings = [Ending(one.token, End.RELEASE) for one in followed]
            await self._supervisor.answers("end", lambda c: c.queue.end(endings), len(endings))
        return [one for one in taken if one not in followed]

    async def _remove(self, taken: Sequence[Taken], why: str) -> list[str]:
        facts = [one.opened()[0] for one in taken]
        results = [self._result(one, why) for one in facts]
        rows: list[Row] = []
        endings = [Ending(one.token, End.REMOVE) for one in taken]
        if self._supervisor.traits.fuses and self._outcomes.are_rows:
            for ending, result in zip(endings, results, strict=True):
                ending.rows = [] if result is None else [self._outcomes.row(result)]
                rows += ending.rows
        else:
            await self._keep(results)
        answers = await self._supervisor.answers("end", lambda c: c.queue.end(endings), len(endings))
        self._outcomes.announce(rows)
        done = {Settled.CONFIRMED, Settled.SENT}
        return [one.id for one, answer in zip(facts, answers, strict=True) if answer in done]

    async def _from_delays(self, found: Sequence[DelayedRow], why: str) -> list[str]:
        claimed = await self._delays.claim(found)
        facts = [one.facts for one in claimed]
        await self._keep([self._result(one, why) for one in facts])
        removed = await self._delays.remove(claimed)
        return [one.id for one, gone in zip(facts, removed, strict=True) if gone]

    async def _keep(self, results: Sequence[StoredResult | None]) -> None:
        await self._outcomes.keep([one for one in results if one is not None])

    def _result(self, facts: Facts, why: str) -> StoredResult | None:
        if self._outcomes.are_rows and self._supervisor.current.table is None:
            return None
        return cancelled_result(facts, why, content_type=self._content_type)


def cancelled_result(facts: Facts, why: str, *, content_type: str = codec.JSON) -> StoredResult | None:
    """Return the result of a task that was removed before it started; None: nobody wants it, or its message says of no
    task whose it would be.
    """
    if not facts.store_result or not facts.id:
        return None
    return StoredResult(
        id=facts.id,
        state=TaskState.CANCELLED,
        document=encode_cancelled(facts.id, why, attempt=facts.attempt, content_type=content_type),
        ttl=facts.result_ttl,
        reply_to=facts.reply_to,
    )


def queued_task(facts: Facts, state: Literal["ready", "delayed"]) -> QueuedTask:
    """Return what an operator sees of a message that waits."""
    return QueuedTask(
        id=facts.id,
        queue=facts.queue,
        priority=facts.level,
        state=state,
        task=facts.task,
        attempt=facts.attempt,
        cancel_key=facts.cancel_key,
    )
