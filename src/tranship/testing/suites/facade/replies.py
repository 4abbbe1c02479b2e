"""Clients of a broker that keeps no results: their own come back, others' are refused with what to do about it."""

from __future__ import annotations

from tranship.envelope import TaskState
from tranship.errors import TaskFailed, UnsupportedError
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised
from tranship.testing.suites.facade.submit import echo

__all__ = ["ReplyCases"]

PUSH = {Capability.RESULT_PUSH}


class ReplyCases:
    """Part of the facade's suite."""

    @facade_case(
        "results_come_to_submitter",
        level="capability",
        needs=PUSH,
        rationale="a broker alone is enough for who submits and waits",
    )
    async def test_results_come_to_submitter(self, facade: FacadeContext) -> None:
        """Value, failure, state, again, many at once and as they end; one that ended before anybody waited."""
        await _need_replies(facade)

        @task(name="kit.broken", queue="q")
        async def broken() -> None:
            raise ValueError("out of paper")

        client = await facade.client()
        worker = await facade.work(echo, broken)
        handle = await client.submit(echo, {"a": [1]})
        assert await handle.result(facade.context.patience) == {"a": [1]}
        assert await handle.state() is TaskState.SUCCESS
        assert await client.handle(handle.id).result(facade.context.patience) == {"a": [1]}
        error = await raised((await client.submit(broken)).result(facade.context.patience), TaskFailed)
        assert "out of paper" in str(error)
        many = await client.submit_many([echo.call(number) for number in range(50)])
        await facade.until(lambda: worker.status().done >= 52, "all have ended")
        assert [one.value for one in await client.collect(many, facade.context.patience)] == list(range(50))
        again = await client.submit_many([echo.call(number) for number in range(50)])
        ended = {one.id async for one in client.as_completed(again, facade.context.patience)}
        assert ended == {one.id for one in again}

    @facade_case(
        "results_of_others_are_refused",
        level="capability",
        needs=PUSH,
        rationale="waiting for what can never come is worse than an error",
    )
    async def test_results_of_others_are_refused(self, facade: FacadeContext) -> None:
        """Asked for from elsewhere, while it is queued and when it has ended: UnsupportedError that names the cure."""
        await _need_replies(facade)
        # A client of the other kind shares no connection with the first.
        client = await facade.client()
        other = await facade.client(kind="async" if facade.kind == "blocking" else "blocking")
        handle = await client.submit(echo, 1)
        for call in (other.handle(handle.id).result(1), other.handle(handle.id).state()):
            error = await raised(call, UnsupportedError)
            assert "TRANSHIP_RESULT_URL" in str(error)
        await facade.work(echo)
        assert await handle.result(facade.context.patience) == 1
        await raised(other.handle(handle.id).wait(1), UnsupportedError)
        await raised(other.collect([other.handle(handle.id)], 1), UnsupportedError)


async def _need_replies(facade: FacadeContext) -> None:
    if await facade.context.has(Capability.RESULTS):
        facade.context.skip("results are kept, and any client can read them")
