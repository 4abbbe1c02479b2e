"""Waiting for many results at once."""

from __future__ import annotations

import asyncio
import time

from tranship.errors import ResultTimeout
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised
from tranship.testing.suites.facade.submit import echo
from tranship.testing.suites.ports.open_resources import OpenResources

__all__ = ["ManyResultCases"]

NEEDS = {Capability.RESULTS}


class ManyResultCases:
    """Part of the facade's suite: many waiters."""

    @facade_case(
        "result_1000_waiters_bounded_connections",
        level="capability",
        needs=NEEDS,
        rationale="connections are bounded by configuration, not by the number of requests",
    )
    async def test_result_1000_waiters_bounded_connections(self, facade: FacadeContext) -> None:
        """1,000 results are waited for at once: one link, hardly any connection more, and all get their own."""
        client = await facade.client()
        handles = await client.submit_many(echo.call(number) for number in range(1000))
        before = await OpenResources.now(facade.context)
        if client.blocking:
            parts = [handles[start : start + 50] for start in range(0, 1000, 50)]
            waits = [facade.context.start(client.collect(part, 40.0)) for part in parts]
        else:
            waits = [facade.context.start(client.collect([handle], 40.0)) for handle in handles]
        await facade.until_called("get_many", 2)
        now = await OpenResources.now(facade.context)
        assert now.connections <= before.connections + 1, f"{now.connections} connections, not {before.connections}"
        assert now.files <= before.files + 4, f"{now.files} open files, not {before.files}"
        assert facade.client_faults.calls["get_many"] < 100, "waiters ask the broker one by one"
        await facade.work(echo, max_concurrent_tasks=50)
        found = [one.value for part in await asyncio.gather(*waits) for one in part]
        assert found == list(range(1000))

    @facade_case(
        "result_batch_collect_budget", level="capability", needs=NEEDS, rationale="one budget for all, not one each"
    )
    async def test_result_batch_collect_budget(self, facade: FacadeContext) -> None:
        """Results in the order of the handles; who has not ended raises ResultTimeout, within one budget."""
        client = await facade.client()

        @task(name="kit.pause", queue="q")
        async def pause(number: int) -> int:
            await asyncio.sleep(number / 6)
            return number

        endless = pause.options(queue="nobody")
        await facade.work(pause)
        handles = [await client.submit(endless if number % 2 else pause, number) for number in range(6)]
        waiting = await client.submit_many(endless.call(number) for number in range(17))
        started = time.monotonic()
        found = await client.collect([*handles, handles[0], *waiting], timeout=1.0)
        elapsed = time.monotonic() - started
        # One budget each would be 20 s.
        assert 0.9 < elapsed < 10, f"{elapsed:.2f} s of a budget of 1 s"
        found = found[: len(handles) + 1]
        assert [one.id for one in found] == [handle.id for handle in [*handles, handles[0]]]
        assert [one.value for one in found if one.success] == [0, 2, 4, 0]
        for one in found[1:6:2]:
            assert isinstance(one.exception(), ResultTimeout)

    @facade_case(
        "result_as_completed", level="capability", needs=NEEDS, rationale="what is ready first is handled first"
    )
    async def test_result_as_completed(self, facade: FacadeContext) -> None:
        """In the order in which tasks end, each once; the rest raises ResultTimeout when the budget is up."""
        client = await facade.client()
        gates = [asyncio.Event() for _ in range(3)]

        @task(name="kit.gate", queue="q")
        async def gate(number: int) -> int:
            await gates[number].wait()
            return number

        await facade.work(gate)
        handles = await client.submit_many(gate.call(number) for number in range(3))
        order: list[int] = []
        gates[2].set()
        async for handle in client.as_completed(handles, facade.context.patience):
            order.append(await handle.result(0))
            if order == [2]:
                gates[0].set()
            elif order == [2, 0]:
                gates[1].set()
        assert order == [2, 0, 1]
        never = await client.submit(echo.options(queue="nobody"), 1)
        got = []
        try:
            async for handle in client.as_completed([*handles, never], 0.3):
                got.append(handle.id)  # noqa: PERF401 - the loop ends with an error
        except ResultTimeout:
            pass
        else:
            raise AssertionError("as_completed() ended well with a task that had not ended")
        assert sorted(got) == sorted(handle.id for handle in handles)

    @facade_case(
        "wait_cancelled_harms_nobody",
        level="capability",
        needs=NEEDS,
        rationale="one impatient request must not take another's result along",
    )
    async def test_wait_cancelled_harms_nobody(self, facade: FacadeContext) -> None:
        """Of several waiters for one result some give up: the others get it, and nobody is waited for in the end."""
        client = await facade.client()
        handle = await client.submit(echo, "x")
        patient = [facade.context.start(client.handle(handle.id).result(facade.context.patience)) for _ in range(3)]
        impatient = [facade.context.start(client.handle(handle.id).result(0.05 * number)) for number in range(1, 4)]
        hasty = [facade.context.start(client.handle(handle.id).result(facade.context.patience)) for _ in range(3)]
        for one in impatient:
            await raised(one, ResultTimeout)
        if not client.blocking:
            for one in hasty:
                one.cancel()
        await facade.work(echo)
        assert await asyncio.gather(*patient) == ["x"] * 3
        await asyncio.gather(*hasty, return_exceptions=True)
