"""Delayed tasks as who submits them sees them: one meaning on every broker, whether it can look into them or not."""

from __future__ import annotations

import asyncio

from tranship.envelope import TaskState
from tranship.errors import TaskCancelled
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised
from tranship.testing.suites.facade.submit import echo

__all__ = ["DelayedCases"]

NEEDS = {Capability.RESULT_PUSH, Capability.DELAY}


class DelayedCases:
    """Part of the facade's suite."""

    @facade_case(
        "delayed_is_scheduled",
        level="capability",
        needs=NEEDS,
        rationale="whether a task is scheduled or late is the first thing one asks of a delayed one",
    )
    async def test_delayed_is_scheduled(self, facade: FacadeContext) -> None:
        """SCHEDULED until it is due, by itself and in a batch; a neighbour that is not delayed is PENDING."""
        client = await facade.client()
        (now,) = await client.submit_many([echo.call(1)])
        (batched,) = await client.submit_many([echo.options(delay=600).call(2)])
        soon = await client.submit(echo.options(delay=1.0), 3)
        assert [await one.state() for one in (now, batched, soon)] == [
            TaskState.PENDING,
            TaskState.SCHEDULED,
            TaskState.SCHEDULED,
        ]
        await facade.work(echo)
        assert await soon.result(facade.context.patience) == 3
        assert await soon.state() is TaskState.SUCCESS
        assert await batched.state() is TaskState.SCHEDULED

    @facade_case(
        "delayed_cancel_ends_at_once",
        level="capability",
        needs=NEEDS | {Capability.CONTROL},
        rationale="a cancelled reminder must not keep who has set it waiting until it is due",
    )
    async def test_delayed_cancel_ends_at_once(self, facade: FacadeContext) -> None:
        """Cancelled long before it is due, by key and by handle: CANCELLED now, in the answer, and never run."""
        runs: list[int] = []

        @task(name="kit.remind", queue="q")
        async def remind(number: int) -> None:
            runs.append(number)

        client = await facade.client()
        late = await client.submit(remind.options(delay=600, cancel_key="job-9"), 1)
        soon = await client.submit(remind.options(delay=3.0, cancel_key="job-9"), 2)
        single = await client.submit(remind.options(delay=600), 3)
        other = await client.submit(remind.options(delay=3.2, cancel_key="job-10"), 4)
        waiting = facade.context.start(late.result())
        assert sorted(await client.cancel("job-9")) == sorted([late.id, soon.id])
        assert await client.cancel("job-9") == []
        await single.cancel()
        await raised(asyncio.wait_for(waiting, facade.context.patience), TaskCancelled)
        for handle in (late, soon, single):
            await raised(handle.result(facade.context.patience), TaskCancelled)
            assert await client.handle(handle.id).state() is TaskState.CANCELLED
        await facade.work(remind)
        await other.result(3.2 + facade.context.patience)
        assert runs == [4], "a delayed task was run although it was cancelled, or the wrong one was cancelled"

    @facade_case(
        "delayed_cancel_from_elsewhere",
        level="capability",
        needs=NEEDS | {Capability.CONTROL},
        rationale="who cancels a reminder is seldom the process that has set it, and that one waits",
    )
    async def test_delayed_cancel_from_elsewhere(self, facade: FacadeContext) -> None:
        """Cancelled by another client long before it is due: who has submitted it hears of it now, not then."""
        client, other = await facade.client(), await facade.client(submit_timeout=7.0)
        for round_ in range(2):
            late = await client.submit(echo.options(delay=600), round_)
            spared = await client.submit(echo.options(delay=600), round_)
            await other.cancel(task_id=late.id)
            await raised(late.result(facade.context.patience), TaskCancelled)
            assert await client.handle(late.id).state() is TaskState.CANCELLED
            assert await spared.state() is TaskState.SCHEDULED
        if not await facade.context.has(Capability.DELAY_CANCEL):
            keyed = await client.submit(echo.options(delay=600, cancel_key="job-11"), 3)
            await other.cancel("job-11")
            await raised(keyed.result(facade.context.patience), TaskCancelled)
