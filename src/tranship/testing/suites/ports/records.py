"""What a backend or a result store that keeps records promises: one writes at a time, and one has a lock."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from tranship.errors import ClosedError
from tranship.ports import Backend, Capability, NameHolder, Record, Records, keeps_records
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["RecordCases"]

_RECORDS: Final = frozenset({Capability.RECORDS})
LONG: Final = 300.0


class RecordCases:
    """Records and locks; part of the result store's suite."""

    @case(
        "record_write_checks_version",
        level="capability",
        needs=_RECORDS,
        rationale="what one program has changed must not be written over by another that has not seen it",
    )
    async def test_record_write_checks_version(self, context: CaseContext) -> None:
        """Created once, and written over in the version that was read; of several at once one writes."""
        stores = [records_of(await context.open_results()) for _ in range(2)]
        here, there = stores
        keys = ["wörd/a b", "wörd/*?", "wörd/\x01", "wörd/" + "k" * 900]
        for key in keys:
            assert await here.write(Record(key, key.encode()))
            assert not await there.write(Record(key, b"again")), "it was there already"
        found = await there.read([*reversed(keys), "wörd/none"])
        assert [one and one.value for one in found] == [*(key.encode() for key in reversed(keys)), None]
        read = found[0]
        assert read is not None
        rivals = [stores[at % 2].write(replace(read, value=b"%d" % at)) for at in range(10)]
        won = await asyncio.gather(*rivals)
        assert won.count(True) == 1, f"{won.count(True)} have written over one version"
        (now,) = await here.read([read.key])
        assert now is not None
        assert now.value == b"%d" % won.index(True)
        assert not await there.remove(read), "it was removed in a version that is over"
        assert await there.remove(now)
        assert not await here.write(replace(now, value=b"late")), "what is gone has no version to write over"
        assert list(await here.read([read.key])) == [None]

    @case(
        "record_page_in_order",
        level="capability",
        needs=_RECORDS,
        rationale="a record that no page shows is a schedule that never comes",
    )
    async def test_record_page_in_order(self, context: CaseContext) -> None:
        """Those of a prefix, by key, page after page, and nobody else's."""
        store = records_of(await context.open_results())
        keys = [f"page/{number:02d}" for number in range(7)]
        for key in [*reversed(keys), "pag", "pages", "other"]:
            assert await store.write(Record(key, key.encode()))
        first = await store.page("page/", "", 4)
        rest = await store.page("page/", first[-1].key, 4)
        assert [one.key for one in (*first, *rest)] == keys
        assert [one.value for one in rest] == [key.encode() for key in keys[4:]]
        assert not await store.page("page/", keys[-1])
        elsewhere = await context.open_results(namespace="elsewhere-" + context.namespace)
        assert not await records_of(elsewhere).page("page/")

    @case(
        "record_put_writes_over",
        level="capability",
        needs=_RECORDS,
        rationale="what one program alone writes needs no look at what is there",
    )
    async def test_record_put_writes_over(self, context: CaseContext) -> None:
        """Several at once, whether they are there or not; a version that was read before is over."""
        here, there = records_of(await context.open_results()), records_of(await context.open_results())
        await here.put([Record("put/a", b"1"), Record("put/b", b"2")])
        (read,) = await there.read(["put/a"])
        await here.put([Record("put/a", b"3", ttl=LONG), Record("put/c", b"4")])
        assert [one.value for one in await there.page("put/")] == [b"3", b"2", b"4"]
        assert read is not None
        assert not await there.write(replace(read, value=b"5"))

    @case(
        "record_told_to_listeners",
        level="capability",
        needs=_RECORDS,
        rationale="who follows what somebody writes must not have to ask all the time",
    )
    async def test_record_told_to_listeners(self, context: CaseContext) -> None:
        """Everybody who listens to a name is called, over any connection, until he ends it."""
        here, there = records_of(await context.open_results()), records_of(await context.open_results())
        called: list[str] = []
        await here.listen("w\u00f6rd/1", lambda: called.append("first"))
        end = await here.listen("w\u00f6rd/1", lambda: called.append("second"))
        await here.listen("another", lambda: called.append("another"))
        await there.tell(["w\u00f6rd/1", "nobody"])
        await context.eventually(lambda: _is(called, {"first", "second"}), "those who listen are called")
        end()
        end()
        called.clear()
        await there.tell(["w\u00f6rd/1", "another"])
        await context.eventually(lambda: _is(called, {"first", "another"}), "those who still listen are called")
        assert "second" not in called

    @case(
        "record_ttl", level="capability", needs=_RECORDS, rationale="what the dead have written must not stay for ever"
    )
    async def test_record_ttl(self, context: CaseContext) -> None:
        """Gone when its time is over; one without a time stays."""
        store = records_of(await context.open_results())
        assert await store.write(Record("brief", b"1", ttl=0.5))
        assert await store.write(Record("stays", b"2"))

        async def gone() -> bool:
            return (await store.read(["brief"]))[0] is None

        await context.eventually(gone, "a record with 0.5 s ends")
        assert [one.key for one in await store.page("")] == ["stays"]
        assert await store.write(Record("brief", b"3")), "its key is still taken"

    @case(
        "lock_has_one_holder",
        level="capability",
        needs=_RECORDS,
        rationale="what two do who each think that they alone may is done twice",
    )
    async def test_lock_has_one_holder(self, context: CaseContext) -> None:
        """Of several at once one gets it; the others are told who; it stays his until he gives it up."""
        backends = [await context.open_results() for _ in range(3)]
        stores = [records_of(one) for one in backends]
        wanting = [_holder("the lock", str(place)) for place in range(9)]
        told = await asyncio.gather(*(stores[at % 3].take_lock(one, LONG) for at, one in enumerate(wanting)))
        holders = [one for one, other in zip(wanting, told, strict=True) if other is None]
        assert len(holders) == 1, f"{len(holders)} have the lock"
        mine = holders[0]
        assert {other for other in told if other is not None} == {mine}, "they are told who has it"
        assert await stores[1].take_lock(mine, LONG) is None, "who has a lock keeps it"
        stranger = next(one for one in wanting if one is not mine)
        await stores[2].free_lock(stranger)
        assert await stores[0].take_lock(stranger, LONG) == mine, "who does not have a lock cannot give it up"
        assert await stores[0].take_lock(_holder("another", "x"), LONG) is None
        await stores[2].free_lock(mine)
        await stores[2].free_lock(mine)
        assert await stores[0].take_lock(stranger, LONG) is None, "what was given up is free at once"
        await backends[1].aclose()
        try:
            await stores[1].take_lock(mine, LONG)
        except ClosedError:
            return
        raise AssertionError("a closed backend must not say that a lock was taken")

    @case(
        "lock_expires",
        level="capability",
        needs=_RECORDS,
        rationale="who was killed gives nothing up, and must not stop everybody for ever",
    )
    async def test_lock_expires(self, context: CaseContext) -> None:
        """Free when its time is over, and not before: it counts from when it was taken or kept last."""
        here, there = records_of(await context.open_results()), records_of(await context.open_results())
        first, second = _holder("l", "first"), _holder("l", "second")
        assert await here.take_lock(first, 0.5) is None
        assert await here.take_lock(first, LONG) is None
        await context.pass_time(1.0)
        assert await there.take_lock(second, LONG) == first, "it was kept for longer, and is free all the same"
        assert await here.take_lock(first, 0.5) is None

        async def taken() -> bool:
            return await there.take_lock(second, LONG) is None

        await context.eventually(taken, "the lock is free again")
        assert await here.take_lock(first, LONG) == second


def records_of(backend: Backend) -> Records:
    """Return the backend's records, as what has RECORDS gives them."""
    assert keeps_records(backend)
    return backend.records()


async def _is(called: list[str], expected: set[str]) -> bool:
    return set(called) == expected


def _holder(name: str, instance: str) -> NameHolder:
    return NameHolder(name=name, instance=instance, host="here", pid=4711, since=1_800_000_000.0, at=1_800_000_001.0)
