"""Chords counted in records: for every store that keeps some, and that no peer of ours counts in.

A chord has a head, ``chord/<group>``, with its size and a count, and a record for each part. The count is only a hint:
who brings it to the size reads the parts, and they decide. It is never too high for long, because each part is there
before it is counted, and a part that is told again, because its worker died, counts them all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from weakref import WeakValueDictionary

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.ports import ChordCount, ChordPart, ChordStart, Record, Records

__all__ = ["RecordChords"]

TTL: Final = 7 * 86_400.0
"""Seconds for which a chord waits for its next part."""
_AT_ONCE: Final = 50
"""Records that are removed side by side."""


class RecordChords:
    """See :class:`tranship.ports.ChordStore`.

    Args:
        records: where they are kept.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        # Members of a large header end at the same time, and their count is one record: who counts counts for all of
        # them that have come meanwhile.
        self._fresh: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def start(self, chord: ChordStart) -> None:
        """Write the head, unless it is there."""
        head = {"size": chord.size, "tree": chord.tree, "count": 0}
        await self._records.write(Record(_head(chord.group_id), codec.dumps(head), ttl=TTL))

    async def count(self, group_id: str, part: ChordPart) -> ChordCount:
        """Write the part, and read them all where that may have been the last."""
        if not await self.is_known(group_id):
            # Not one of those that are counted here: Celery's ``chord_unlock`` looks after it.
            return ChordCount()
        value = codec.dumps([part.task_id, part.index, part.status, part.value])
        if not await self._records.write(Record(_part(group_id, part), value, ttl=TTL)):
            return await self._counted(group_id, None)
        self._fresh[group_id] += 1
        turn = self._turns.setdefault(group_id, asyncio.Lock())
        async with turn:
            added = self._fresh.pop(group_id, 0)
            try:
                # Nothing to add: whoever had the turn before has counted this one, too.
                return await self._counted(group_id, added) if added else ChordCount()
            except BaseException:
                # The others count theirs; this one comes again, and then all that are there are counted.
                self._fresh[group_id] += added - 1
                raise

    async def _counted(self, group_id: str, added: int | None) -> ChordCount:
        """Write how many parts there are: so many more, or as many as there are where that is None."""
        while True:
            (record,) = await self._records.read([_head(group_id)])
            if record is None:
                return ChordCount(known=False)
            head = _read_head(record)
            if head.get("done"):
                return ChordCount()
            count = head["count"] + added if added is not None else len(await self._parts(group_id))
            if added is None and count <= head["count"]:
                break
            counted = replace(record, value=codec.dumps({**head, "count": count}), ttl=TTL)
            if await self._records.write(counted):
                break
        if max(count, head["count"]) < head["size"]:
            return ChordCount()
        parts = await self._parts(group_id)
        return ChordCount(parts=parts, tree=head.get("tree")) if len(parts) >= head["size"] else ChordCount()

    async def finish(self, group_id: str, part: ChordPart) -> None:  # noqa: ARG002 - whoever completed it
        """Mark it done, and remove its parts."""
        while True:
            (record,) = await self._records.read([_head(group_id)])
            if record is None or _read_head(record).get("done"):
                break
            if await self._records.write(replace(record, value=codec.dumps({"done": True}), ttl=TTL)):
                break
        while found := await self._records.page(_parts(group_id), limit=_AT_ONCE):
            await asyncio.gather(*map(self._records.remove, found))

    async def is_known(self, group_id: str) -> bool:
        """Whether there is a head."""
        (record,) = await self._records.read([_head(group_id)])
        return record is not None

    async def _parts(self, group_id: str) -> list[ChordPart]:
        found: list[ChordPart] = []
        after = ""
        while page := await self._records.page(_parts(group_id), after):
            found += map(_read_part, page)
            after = page[-1].key
        # By their place, as Celery has them; those without one come last, in no order that anybody has promised.
        return sorted(found, key=lambda one: (one.index is None, one.index or 0))


def _head(group_id: str) -> str:
    return f"chord/{group_id}"


def _parts(group_id: str) -> str:
    return f"chord-parts/{group_id}/"


def _part(group_id: str, part: ChordPart) -> str:
    # Two members of a header may have one id, where a frozen signature was used twice.
    return f"{_parts(group_id)}{part.task_id}/{part.index}"


def _read_head(record: Record) -> Mapping[str, Any]:
    found = codec.loads(record.value, codec.JSON)
    if not isinstance(found, dict) or not (found.get("done") or isinstance(found.get("size"), int)):
        raise MalformedMessage(f"record {record.key!r} is no chord; expected a map with a size")
    return found


def _read_part(record: Record) -> ChordPart:
    found = codec.loads(record.value, codec.JSON)
    if not isinstance(found, list) or len(found) != 4:
        raise MalformedMessage(f"record {record.key!r} is no part of a chord; expected a list of four")
    task_id, index, status, value = found
    return ChordPart(task_id=task_id, index=index, status=status, value=value)
