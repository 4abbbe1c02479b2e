"""What handlers are given by their worker, on every broker: scopes, attempts, clean-ups."""

# Annotations are evaluated where they stand: providers are local to their case.

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

from tranship.envelope import TaskState
from tranship.errors import TaskFailed
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import PROVIDED, Depends, current, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.worker.runs import ended

__all__ = ["DependencyCases"]

RESULTS: Final = {Capability.RESULTS}


class DependencyCases:
    """Part of the worker's suite: dependencies."""

    @worker_case(
        "dependencies_by_scope",
        level="capability",
        needs=RESULTS,
        rationale="a pool is made once, and a transaction belongs to one attempt",
    )
    async def test_dependencies_by_scope(self, facade: FacadeContext) -> None:
        """What is for the worker is made once and closed when it ends; what is for the task is made for each attempt,
        and cleaned up when that ends, knowing why: ``async def`` and ``def``, and who submits knows nothing of it.
        """
        seen: list[str] = []

        async def pool() -> AsyncIterator[str]:
            seen.append("pool")
            yield "pool"
            seen.append("pool closed")

        def session(of: Annotated[str, Depends(pool, scope="worker")]) -> Iterator[str]:
            seen.append(f"session {current().attempt}")
            try:
                yield f"session of {of}"
            except ConnectionError:
                seen.append("rolled back")
                raise
            seen.append("committed")

        retry = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.05))

        @task(name="kit.provided", queue="q", retry=retry)
        async def provided(number: int, db: Annotated[str, Depends(session)] = PROVIDED) -> Any:
            if not current().attempt:
                raise ConnectionError("once")
            return [number, db]

        @task(name="kit.provided_thread", queue="q")
        def provided_thread(number: int, *, db: Annotated[str, Depends(session)] = PROVIDED) -> Any:
            return [number, db]

        client = await facade.client()
        worker = await facade.work(provided, provided_thread, max_concurrent_tasks=1)
        assert await (await client.submit(provided, 1)).result(facade.context.patience) == [1, "session of pool"]
        assert await (await client.submit(provided_thread, 2)).result(facade.context.patience) == [2, "session of pool"]
        await facade.stop(worker)
        attempts = ["session 0", "rolled back", "session 1", "committed", "session 0", "committed"]
        assert seen == ["pool", *attempts, "pool closed"]

    @worker_case(
        "dependencies_fail", level="capability", needs=RESULTS, rationale="a database that is away is an answer, too"
    )
    async def test_dependencies_fail(self, facade: FacadeContext) -> None:
        """A provider that raises: the handler is not called, the error is the task's, and the worker goes on."""
        called: list[int] = []

        def account(number: Annotated[int, Depends(_attempt)]) -> str:
            if current().headers.get("tenant") is None:
                raise LookupError(f"no tenant in attempt {number}")
            return str(current().headers["tenant"])

        @task(name="kit.of_tenant", queue="q")
        async def of_tenant(number: int, tenant: Annotated[str, Depends(account)] = PROVIDED) -> str:
            called.append(number)
            return tenant

        client = await facade.client()
        await facade.work(of_tenant)
        error = await ended(await client.submit(of_tenant, 1), facade, TaskFailed)
        assert (error.type, str(error)) == ("builtins.LookupError", "no tenant in attempt 0")
        handle = await client.submit(of_tenant.options(headers={"tenant": "a"}), 2)
        assert await handle.result(facade.context.patience) == "a"
        assert called == [2]

    @worker_case(
        "dependencies_cleaned_up",
        level="capability",
        needs=RESULTS | {Capability.CONTROL},
        rationale="a cancelled task must not keep its connection for ever",
    )
    async def test_dependencies_cleaned_up(self, facade: FacadeContext) -> None:
        """A cancel and a run timeout clean up what the handler was given, once."""
        seen: list[str] = []

        async def connection() -> AsyncIterator[str]:
            seen.append("open")
            try:
                yield "connection"
            finally:
                seen.append("closed")

        @task(name="kit.connected", queue="q")
        async def connected(of: Annotated[str, Depends(connection)] = PROVIDED) -> str:
            seen.append("runs")
            await asyncio.Event().wait()
            return of

        client = await facade.client()
        await facade.work(connected, max_concurrent_tasks=1)
        handle = await client.submit(connected)
        await facade.until_long(seen, 2)
        await handle.cancel()
        assert (await handle.wait(facade.context.patience)).state is TaskState.CANCELLED
        handle = await client.submit(connected.options(run_timeout=0.1))
        assert (await handle.wait(facade.context.patience)).state is TaskState.FAILURE
        await facade.until_long(seen, 6)
        assert seen == ["open", "runs", "closed"] * 2


def _attempt() -> int:
    return current().attempt
