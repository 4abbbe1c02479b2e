"""Work that no cancel of who waits for it reaches."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from tranship.driver._shielded import Left, Shielded


class Work:
    """Waits at two gates, and notes what it hears."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.tasks: list[asyncio.Task[Any]] = []
        self.ran_in: list[asyncio.Task[Any] | None] = []
        self.heard = ""

    async def run(self) -> str:
        try:
            for gate in (self.first, self.second):
                self.ran_in.append(asyncio.current_task())
                await gate.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.heard = "cancelled"
            raise
        return "done"

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    def shielded(self, *, in_task: bool) -> Shielded[str]:
        return Shielded(self.run(), self.spawn, in_task=in_task)


async def awaiting(shielded: Shielded[str]) -> asyncio.Task[str]:
    async def wait() -> str:
        return await shielded

    caller = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return caller


@pytest.fixture(params=[False, True], ids=["taskless", "in a task"])
def in_task(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_it_needs_no_task_where_nobody_is_cancelled() -> None:
    work = Work()
    caller = await awaiting(work.shielded(in_task=False))
    work.first.set()
    work.second.set()
    assert await caller == "done"
    assert work.ran_in == [caller, caller]
    assert not work.tasks


async def test_a_cancel_of_who_waits_does_not_reach_it(in_task: bool) -> None:
    work = Work()
    shielded = work.shielded(in_task=in_task)
    caller = await awaiting(shielded)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not shielded.done()
    work.first.set()
    work.second.set()
    # Somebody else may wait for it then.
    assert await shielded == "done"
    assert await shielded == "done"
    assert (shielded.done(), work.heard) == (True, "")


async def test_a_cancel_at_the_moment_when_it_goes_on_does_not_reach_it(in_task: bool) -> None:
    work = Work()
    shielded = work.shielded(in_task=in_task)
    caller = await awaiting(shielded)
    work.first.set()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    work.second.set()
    assert await shielded == "done"
    assert not work.heard


async def test_a_cancel_at_any_turn_does_not_reach_it(in_task: bool) -> None:
    for turns in range(12):
        work = Work()
        shielded = work.shielded(in_task=in_task)
        caller = await awaiting(shielded)
        work.first.set()
        work.second.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        if not shielded.done():
            assert await shielded == "done"
        assert not work.heard


async def test_who_leaves_waits_no_longer(in_task: bool) -> None:
    work = Work()
    shielded = work.shielded(in_task=in_task)
    shielded.leave()  # nobody waits yet
    caller = await awaiting(shielded)
    shielded.leave()
    shielded.leave()
    with pytest.raises(Left):
        await caller
    work.first.set()
    work.second.set()
    assert shielded.task is not None
    assert await shielded.task == "done"


async def test_a_timeout_of_who_waits_is_his_own(in_task: bool) -> None:
    work = Work()
    shielded = work.shielded(in_task=in_task)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await shielded
    work.first.set()
    work.second.set()
    assert await shielded == "done"


async def test_it_hears_that_its_own_task_is_cancelled_even_before_that_has_begun(in_task: bool) -> None:
    work = Work()
    shielded = work.shielded(in_task=in_task)
    caller = await awaiting(shielded)
    shielded.leave()
    (task,) = work.tasks
    task.cancel()
    with pytest.raises(Left):
        await caller
    await asyncio.wait({task})
    assert (task.cancelled(), work.heard) == (True, "cancelled")
    with pytest.raises(Left):
        await shielded


async def test_what_it_raises_is_raised(in_task: bool) -> None:
    work = Work()

    async def fails() -> str:
        await work.first.wait()
        raise ValueError("odd")

    shielded = Shielded(fails(), work.spawn, in_task=in_task)
    caller = await awaiting(shielded)
    work.first.set()
    with pytest.raises(ValueError, match="odd"):
        await caller
    assert shielded.done()


async def test_an_error_of_what_it_waits_for_is_its_own_to_handle(in_task: bool) -> None:
    work, waits_for = Work(), asyncio.get_running_loop().create_future()

    async def handles() -> str:
        try:
            await waits_for
        except ValueError:
            return "handled"
        return "unheard"

    caller = await awaiting(Shielded(handles(), work.spawn, in_task=in_task))
    waits_for.set_exception(ValueError("odd"))
    assert await caller == "handled"


async def test_who_is_not_cancelled_hears_of_no_cancel_of_its_own(in_task: bool) -> None:
    work, waits_for = Work(), asyncio.get_running_loop().create_future()

    async def waits() -> str:
        await waits_for
        return "unheard"

    caller = await awaiting(Shielded(waits(), work.spawn, in_task=in_task))
    waits_for.cancel()
    with pytest.raises(Left):
        await caller


async def test_one_within_the_other() -> None:
    work = Work()
    inner = work.shielded(in_task=False)

    async def waits() -> str:
        return await inner

    outer = Shielded(waits(), work.spawn, in_task=False)
    caller = await awaiting(outer)
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    work.first.set()
    work.second.set()
    assert await outer == "done"
    assert not work.heard


async def test_who_is_closed_closes_it() -> None:
    work = Work()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        waiting = work.shielded(in_task=False).__await__()
        next(waiting)
        waiting.close()
        gc.collect()
    assert not work.tasks


async def test_what_only_lets_others_run_goes_on_too() -> None:
    turns = []
    work = Work()

    async def runs() -> str:
        for turn in range(6):
            await asyncio.sleep(0)
            turns.append(turn)
        return "done"

    shielded = Shielded(runs(), work.spawn, in_task=False)
    caller = await awaiting(shielded)
    caller.cancel()
    await asyncio.wait({caller})
    assert await shielded == "done"
    assert turns == [*range(6)]


def test_with_the_loop_it_ends(in_task: bool) -> None:
    work, callers = Work(), []

    async def leaves_it_behind() -> None:
        callers.append(await awaiting(work.shielded(in_task=in_task)))

    asyncio.run(leaves_it_behind())
    assert callers[0].cancelled()
    assert work.heard == "cancelled"
    assert all(task.done() for task in work.tasks)
