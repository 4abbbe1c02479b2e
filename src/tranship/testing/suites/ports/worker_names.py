"""What a control channel that keeps names promises: one worker has a name at a time, for as long as it says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from tranship.errors import ClosedError
from tranship.ports import Backend, Capability, NameHolder, NameKeeper
from tranship.testing.case import case
from tranship.testing.context import CaseContext

__all__ = ["WorkerNameCases", "name_keeper"]

_NAMES: Final = frozenset({Capability.UNIQUE_NAMES})
LONG: Final = 300.0


class WorkerNameCases:
    """Names; part of the control channel's suite."""

    @case(
        "worker_name_has_one_holder",
        level="capability",
        needs=_NAMES,
        rationale="what is sent to one worker by its name is not done by two",
    )
    async def test_worker_name_has_one_holder(self, context: CaseContext) -> None:
        """Of several at once one gets it; the others are told who; it stays his until he gives it up."""
        keepers = [name_keeper(await context.open()) for _ in range(3)]
        wanting = [_holder("wörker 1/a", f"{place}") for place in range(12)]
        told = await asyncio.gather(
            *(keepers[place % 3].take_name(one, LONG) for place, one in enumerate(wanting)),
        )
        holders = [one for one, other in zip(wanting, told, strict=True) if other is None]
        assert len(holders) == 1, f"{len(holders)} have the name"
        mine = holders[0]
        assert {other for other in told if other is not None} == {mine}, "they are told who has it"
        late = replace(mine, at=mine.at + 5)
        assert await keepers[1].take_name(late, LONG) is None, "who has a name keeps it"
        stranger = next(one for one in wanting if one is not mine)
        await keepers[2].free_name(stranger)
        assert await keepers[0].take_name(stranger, LONG) == late, "who does not have a name cannot give it up"
        assert await keepers[0].take_name(_holder("another", "x"), LONG) is None
        await keepers[2].free_name(mine)
        await keepers[2].free_name(mine)
        assert await keepers[0].take_name(stranger, LONG) is None, "what was given up is free at once"
        closed = await context.open()
        keeper = name_keeper(closed)
        await closed.aclose()
        try:
            await keeper.take_name(stranger, LONG)
        except ClosedError:
            return
        raise AssertionError("a closed backend must not say that a name was taken")

    @case(
        "worker_name_expires",
        level="capability",
        needs=_NAMES,
        rationale="a worker that was killed says no goodbye, and must not keep its successor out for ever",
    )
    async def test_worker_name_expires(self, context: CaseContext) -> None:
        """Free when its time is over, and not before: it counts from when it was said last."""
        keeper, other = name_keeper(await context.open()), name_keeper(await context.open())
        first, second = _holder("w", "first"), _holder("w", "second")
        assert await keeper.take_name(first, 0.5) is None
        assert await keeper.take_name(first, LONG) is None
        await context.pass_time(1.0)
        assert await other.take_name(second, LONG) == first, "it was kept for longer, and is free all the same"
        assert await keeper.take_name(first, 0.5) is None

        async def taken() -> bool:
            return await other.take_name(second, LONG) is None

        await context.eventually(taken, "the name is free again")
        assert await keeper.take_name(first, LONG) == second

    @case(
        "worker_name_passes_in_family",
        level="capability",
        needs=_NAMES,
        rationale="a process that was killed is replaced at once by the parent that has seen it die",
    )
    async def test_worker_name_passes_in_family(self, context: CaseContext) -> None:
        """The successor has it at once, and the predecessor's last words change nothing; no stranger gets it so."""
        keeper, other = name_keeper(await context.open()), name_keeper(await context.open())
        first, second = (_holder("w", one, family="parent-1") for one in ("first", "second"))
        assert await keeper.take_name(first, LONG) is None
        for stranger in (_holder("w", "x", family="parent-2"), _holder("w", "x")):
            assert await other.take_name(stranger, LONG) == first
        assert await other.take_name(second, LONG) is None
        await keeper.free_name(first)
        assert await keeper.take_name(_holder("w", "x"), LONG) == second


def name_keeper(backend: Backend) -> NameKeeper:
    """Return the backend's control channel as what keeps names."""
    control = backend.control()
    assert isinstance(control, NameKeeper), "a backend with UNIQUE_NAMES has a control channel that is a NameKeeper"
    return control


def _holder(name: str, instance: str, *, family: str = "") -> NameHolder:
    return NameHolder(
        name=name, instance=instance, family=family, host="here", pid=4711, since=1_800_000_000.0, at=1_800_000_001.0
    )
