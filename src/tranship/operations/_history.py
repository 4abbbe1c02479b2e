"""The finished tasks that workers remember, read piece by piece as there are more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._found: dict[tuple[str, int, float], Finished] = {}
        self._by_id: dict[str, list[Finished]] = {}
        self._by_root: dict[str, list[Finished]] = {}
        self.seen: dict[tuple[str, str], int] | None = None
        """Of each worker that was heard of, how many it had remembered; None: nothing was read yet."""

    def add(self, found: Iterable[Finished]) -> None:
        """Add what was read; what is known already stays."""
        before = len(self._found)
        for one in found:
            self._found.setdefault((one.id, one.attempt, one.at), one)
        if len(self._found) == before:
            return
        latest = sorted(self._found.items(), key=lambda item: item[1].at)[-self._keep :]
        self._found = dict(latest)
        self._by_id, self._by_root = {}, {}
        for _, one in latest:
            self._by_id.setdefault(one.id, []).append(one)
            self._by_root.setdefault(one.root_id or one.id, []).append(one)

    def __len__(self) -> int:
        return len(self._found)

    def latest(self) -> Sequence[Finished]:
        """Return all of them, the latest first."""
        return list(reversed(self._found.values()))

    def attempts(self, task_id: str) -> Sequence[Finished]:
        """Return the attempts of one task, in order."""
        return self._by_id.get(task_id, [])

    def workflow(self, root_id: str) -> Sequence[Finished]:
        """Return the attempts of the tasks that one task has led to, its own among them, in order."""
        return self._by_root.get(root_id, [])

    def roots(self) -> Mapping[str, Sequence[Finished]]:
        """Return all of them by the id of the first of the tasks that led to them."""
        return self._by_root


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
        history.add(await _all(records, PREFIX))
        history.seen = {}
    else:
        for beat in beats:
            history.add(await _new(records, beat, history.seen.get((beat.worker, beat.instance))))
    history.seen = {(beat.worker, beat.instance): beat.remembered for beat in beats}


async def _new(records: Records, beat: Heartbeat, seen: int | None) -> list[Finished]:
    if seen is None:
        return await _all(records, slot_key(beat.worker, 0).removesuffix("0000"))
    if beat.remembered <= seen:
        return []
    ring = slots(beat.remembers)
    chunks = range(seen // CHUNK, (beat.remembered - 1) // CHUNK + 1)[-ring:]
    found: list[Finished] = []
    for start in range(0, len(chunks), PAGE):
        keys = [slot_key(beat.worker, chunk % ring) for chunk in chunks[start : start + PAGE]]
        for record in await records.read(keys):
            found += [] if record is None else decode_finished(record.value)
    return found


async def _all(records: Records, prefix: str) -> list[Finished]:
    found: list[Finished] = []
    after = ""
    while page := await records.page(prefix, after, PAGE):
        found += [one for record in page for one in decode_finished(record.value)]
        after = page[-1].key
    return found
