"""The finished tasks that workers remember, read piece by piece as there are more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Final

from tranship.client._link import ClientLink
from tranship.finished import CHUNK, PREFIX, Finished, decode_finished, slot_key, slots
from tranship.ports import Heartbeat, Records

__all__ = ["History", "finished", "read_into"]

KEEP: Final = 10_000
PAGE: Final = 100
"""Records in one round trip."""


class History:
    """The latest attempts of tasks that have ended, as far as somebody has read them; bounded. Not thread-safe.

    :meth:`Operator.read_history` reads into it: everything the first time, and then what is new.

    Args:
        keep: how many, at most.

    Attributes:
        keep: the same.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self.keep = keep
        self._found: dict[tuple[str, int, float], Finished] = {}
        self._by_id: dict[str, list[Finished]] = {}
        self._workflows: dict[str, list[Finished]] | None = None
        """Of each task of a workflow all attempts of it; None: to be found out again."""
        self.seen: dict[tuple[str, str], int] | None = None
        """Of each worker that was heard of, how many it had remembered; None: nothing was read yet."""

    def add(self, found: Iterable[Finished]) -> None:
        """Add what was read; what is known already stays."""
        before = len(self._found)
        for one in found:
            self._found.setdefault((one.id, one.attempt, one.at), one)
        if len(self._found) == before:
            return
        latest = sorted(self._found.items(), key=lambda item: item[1].at)
        latest = latest[max(0, len(latest) - self.keep) :]
        self._found = dict(latest)
        self._by_id, self._workflows = {}, None
        for _, one in latest:
            self._by_id.setdefault(one.id, []).append(one)

    def __len__(self) -> int:
        return len(self._found)

    def latest(self) -> Sequence[Finished]:
        """Return all of them, the latest first."""
        return list(reversed(self._found.values()))

    def attempts(self, task_id: str) -> Sequence[Finished]:
        """Return the attempts of one task, in order."""
        return self._by_id.get(task_id, [])

    def workflow(self, task_id: str) -> Sequence[Finished]:
        """Return the attempts of all tasks of the workflow that a task belongs to, in order; nothing, if to none."""
        if self._workflows is None:
            self._workflows = _workflows(self._found.values())
        return self._workflows.get(task_id, [])

    def workflows(self) -> Sequence[Sequence[Finished]]:
        """Return the attempts of each workflow, in order; the workflow that something ended of last comes first."""
        self.workflow("")
        each = {id(one): one for one in (self._workflows or {}).values()}
        return sorted(each.values(), key=lambda one: one[-1].at, reverse=True)


def _workflows(attempts: Collection[Finished]) -> dict[str, list[Finished]]:
    """Put together what belongs together: a task, what led to it, and what is to follow it."""
    above: dict[str, str] = {}

    def top(task_id: str) -> str:
        while (up := above.get(task_id, task_id)) != task_id:
            # The way is shorter for the next one.
            above[task_id] = above.get(up, up)
            task_id = up
        return task_id

    for one in attempts:
        near = [each for each in (one.root_id, one.parent_id, *(later.id for later in one.later)) if each]
        if one.parent_id or one.later:
            above.setdefault(one.id, one.id)
            for each in near:
                above[top(each)] = top(one.id)
    members: dict[str, list[Finished]] = {}
    for one in attempts:
        if one.id in above:
            members.setdefault(top(one.id), []).append(one)
    return {one.id: found for found in members.values() for one in found}


async def finished(link: ClientLink) -> list[Finished]:
    """Return what all workers remember, the latest first."""
    history = History()
    await read_into(link, history)
    return list(history.latest())


async def read_into(link: ClientLink, history: History) -> None:
    """Read what ``history`` does not have yet."""
    records = link.record_keeper().records()
    beats = [one for one in await link.backend.inspector().workers() if one.remembers]
    if history.seen is None:
        # Also of workers that are not there any more.
        pieces = [_all(records, PREFIX)]
    else:
        pieces = [_new(records, beat, history.seen.get((beat.worker, beat.instance))) for beat in beats]
    # Adding costs as much as the history has: not for each worker, and not for all that all of them remember.
    found: list[Finished] = []
    for piece in pieces:
        async for page in piece:
            found += page
            if len(found) >= history.keep:
                history.add(found)
                found = []
    history.add(found)
    history.seen = {(beat.worker, beat.instance): beat.remembered for beat in beats}


async def _new(records: Records, beat: Heartbeat, seen: int | None) -> AsyncIterator[list[Finished]]:
    if seen is None:
        async for page in _all(records, slot_key(beat.worker, 0).removesuffix("0000")):
            yield page
        return
    if beat.remembered <= seen:
        return
    ring = slots(beat.remembers)
    chunks = range(seen // CHUNK, (beat.remembered - 1) // CHUNK + 1)[-ring:]
    for start in range(0, len(chunks), PAGE):
        keys = [slot_key(beat.worker, chunk % ring) for chunk in chunks[start : start + PAGE]]
        for record in await records.read(keys):
            yield [] if record is None else decode_finished(record.value)


async def _all(records: Records, prefix: str) -> AsyncIterator[list[Finished]]:
    after = ""
    while page := await records.page(prefix, after, PAGE):
        for record in page:
            yield decode_finished(record.value)
        after = page[-1].key
