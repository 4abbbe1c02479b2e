"""Workflows: calls one after the other and side by side, submitted whole."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tranship.canvas import chords_of
from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.errors import (
    BatchSubmitError,
    StorageFull,
    TaskCancelled,
    TaskDeadLettered,
    TaskFailed,
    TranshipError,
    UnsupportedError,
)
from tranship.ports import Capability, StoredResult
from tranship.protocol import Message, encode_result
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, gather, named, task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case
from tranship.testing.facades import FacadeHandle, raised
from tranship.testing.suites.facade.submit import add, echo

__all__ = ["WorkflowCases"]

RESULTS = {Capability.RESULTS}
CANCELS = {Capability.RESULTS, Capability.CONTROL}


@task(name="kit.total", queue="q")
async def total(numbers: list[int]) -> int:
    """Add what came."""
    return sum(numbers)


@task(name="kit.refuse", queue="q")
async def refuse(value: int) -> int:
    """Fail."""
    raise ValueError(f"no {value}")


async def counting(facade: FacadeContext) -> None:
    """Skip the case where nothing counts the members of a gathering."""
    if chords_of(await facade.context.open_results()) is None:
        facade.context.skip("nothing counts the members of a gathering")


def full(message: Message) -> StorageFull:
    """The error of a broker that has no room for it."""
    return StorageFull("no room left", task_id=message.envelope.id)


def failed_now(task_id: str, content_type: str) -> StoredResult:
    """The result of a task that has failed, as a worker stores it."""
    error = ErrorInfo(type="builtins.ValueError", message="no 1")
    result = TaskResult(id=task_id, state=TaskState.FAILURE, error=error, finished_at=time.time())
    document = encode_result(result, content_type=content_type)
    return StoredResult(id=task_id, state=TaskState.FAILURE, document=document)


class WorkflowCases:
    """Part of the facade's suite."""

    @facade_case(
        "workflow_chain_runs",
        level="capability",
        needs=RESULTS,
        rationale="what follows a step must run, with its result",
    )
    async def test_workflow_chain_runs(self, facade: FacadeContext) -> None:
        """Each step gets what the one before returned, but for a call with all its arguments; each has a handle."""
        client = await facade.client()
        await facade.work(add, echo)
        handle = await client.submit(add.call(1, 2).then(add, 3).then(echo.call("done")).then(echo))
        assert await handle.result(facade.context.patience) == "done"
        values = [await each.result(facade.context.patience) for each in children(handle, client)]
        assert values == [3, 6, "done", "done"]
        info: Any = await handle.info()
        assert (info.state, info.value, handle.id) == (TaskState.SUCCESS, "done", info.steps[-1].id)
        assert [(one.task, one.value) for one in info.steps[:2]] == [("kit.add", 3), ("kit.add", 6)]
        assert [one.state for one in info.steps] == [TaskState.SUCCESS] * 4

    @worker_case(
        "workflow_gather_lists",
        level="capability",
        needs=RESULTS,
        rationale="results side by side are told apart by order",
    )
    async def test_workflow_gather_lists(self, facade: FacadeContext) -> None:
        """Alone, behind a step, and of no members: the list of results in the order of the members."""
        client = await facade.client()
        await facade.work(add, echo)
        alone = await client.submit(gather([add.call(number, 1).then(add, 1) for number in range(5)]))
        behind = await client.submit(add.call(1, 1).then(gather([add.step(1), add.step(0), add.call(0, 0)])))
        empty = await client.submit(gather([]))
        last = await client.submit(echo.call(1).then(gather([])))
        patience = facade.context.patience
        assert await alone.result(patience) == [2, 3, 4, 5, 6]
        assert await behind.result(patience) == [3, 2, 0]
        assert (await empty.result(patience), await last.result(patience)) == ([], [])
        assert {await one.state() for one in (alone, behind, empty, last)} == {TaskState.SUCCESS}
        fresh = await client.submit(gather([add.call(1, 1).then(add, 1)]))
        assert await fresh.state() in (TaskState.PENDING, TaskState.STARTED, TaskState.SUCCESS)
        assert [await each.result(patience) for each in children(alone, client)] == [2, 3, 4, 5, 6]
        found = await client.collect([alone, empty, await client.submit(gather([add.call(1, 1)]))], patience)
        assert [one.value for one in found] == [[2, 3, 4, 5, 6], [], [2]]
        again = FacadeHandle(alone.native.children[1], client.call)
        assert [one.value for one in await client.collect([again], 0)] == [3]

    @facade_case(
        "workflow_gather_is_followed",
        level="capability",
        needs=RESULTS,
        rationale="many results become one, or nothing does",
    )
    async def test_workflow_gather_is_followed(self, facade: FacadeContext) -> None:
        """What follows gets the list: at the beginning, in the middle, in each other, and of no members."""
        await counting(facade)
        client = await facade.client()
        await facade.work(add, echo, total)
        first = gather([add.call(1, 1), add.call(2, 2).then(add, 10)]).then(total)
        middle = first.then(gather([add.step(1), add.step(2)])).then(total).then(add, 100)
        nested = gather([gather([add.call(1, 1), gather([])]), first]).then(echo)
        twice = gather([add.call(1, 1)]).then(gather([total.step(), total.step()]))
        handles = [await client.submit(one) for one in (first, middle, nested, twice, gather([]).then(total))]
        found = await client.collect(handles, 2 * facade.context.patience)
        assert [one.value for one in found] == [16, 135, [[2, []], 16], [2, 2], 0]

    @worker_case(
        "workflow_failure_ends_it",
        level="capability",
        needs=RESULTS,
        rationale="who waits for the end must hear that it fails",
    )
    async def test_workflow_failure_ends_it(self, facade: FacadeContext) -> None:
        """A step fails, for good: the handler is told which, what follows does not run, and who waits is told why."""
        told: list[str] = []

        @task(name="kit.alert", queue="q")
        async def alert(task_id: str) -> None:
            told.append(task_id)

        client = await facade.client()
        await facade.work(add, refuse, alert)
        handle = await client.submit(add.call(1, 1).then(refuse).then(add, 1).on_error(alert))
        error = await raised(handle.result(facade.context.patience), TaskFailed)
        assert (error.type, str(error)) == ("builtins.ValueError", "no 2")
        steps = (await handle.info()).steps  # type: ignore[attr-defined]
        assert [one.state for one in (steps[0], steps[2])] == [TaskState.SUCCESS, TaskState.FAILURE]
        await facade.until_long(told, 1)
        assert told == [steps[1].id]

    @worker_case(
        "workflow_member_failure_is_told",
        level="capability",
        needs=RESULTS,
        rationale="a member's own error says more than that there was one",
    )
    async def test_workflow_member_failure_is_told(self, facade: FacadeContext) -> None:
        """A member fails: what follows the gathering does not run, and who waits is told the member's own error."""
        await counting(facade)
        client = await facade.client()
        await facade.work(add, refuse, total)
        handle = await client.submit(gather([add.call(1, 1), refuse.call(7)]).then(total).then(add, 1))
        error = await raised(handle.result(facade.context.patience), TaskFailed)
        assert (error.type, str(error)) == ("builtins.ValueError", "no 7")

    @worker_case(
        "workflow_step_nobody_knows",
        level="capability",
        needs={*RESULTS, Capability.DEAD_LETTERS},
        rationale="a step that nobody knows must not be waited for in vain",
    )
    async def test_workflow_step_nobody_knows(self, facade: FacadeContext) -> None:
        """The step is a dead letter, and the workflow has failed."""
        client = await facade.client()
        await facade.work(add)
        handle = await client.submit(add.call(1, 1).then(named("kit.nowhere", queue="q")).then(add, 1))
        error: TranshipError
        try:
            raise AssertionError(await handle.result(facade.context.patience))
        except (TaskFailed, TaskDeadLettered) as found:
            error = found
        assert "kit.nowhere" in str(error)

    @worker_case(
        "workflow_retries_a_step",
        level="capability",
        needs={*RESULTS, Capability.DELAY},
        rationale="a step that fails once must not end the workflow",
    )
    async def test_workflow_retries_a_step(self, facade: FacadeContext) -> None:
        """A later step fails, and succeeds when it is tried again, with the policy that it was submitted with."""

        @task(name="kit.once", queue="q")
        async def once(value: int) -> int:
            if current().attempt == 0:
                raise ValueError("not yet")
            return value

        client = await facade.client()
        await facade.work(add, once)
        patient = once.options(retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
        handle = await client.submit(add.call(1, 1).then(patient).then(add, 1))
        assert await handle.result(facade.context.patience) == 3

    @facade_case(
        "workflow_cancelled_by_key", level="capability", needs=CANCELS, rationale="one key must stop all of it"
    )
    async def test_workflow_cancelled_by_key(self, facade: FacadeContext) -> None:
        """By its key while its second step runs: that is told to stop, and what follows does not run."""
        begun: list[str] = []

        @task(name="kit.linger", queue="q")
        async def linger(value: int) -> int:
            begun.append(current().id)
            await asyncio.sleep(60)
            return value

        client = await facade.client()
        await facade.work(add, linger)
        key = f"key-{time.time_ns()}"
        workflow = add.call(1, 1).then(linger).then(linger)
        handle = await client.submit(workflow.options(cancel_key=key))
        await facade.until_long(begun, 1)

        async def under_way() -> bool:
            return (await handle.info()).state is TaskState.STARTED

        # A step may begin before the result of the one before it is stored.
        await facade.context.eventually(under_way, "the workflow is told to have begun")
        await client.cancel(key)
        await raised(handle.result(facade.context.patience), TaskCancelled)
        assert begun == [(await handle.info()).steps[1].id]  # type: ignore[attr-defined]

    @worker_case(
        "workflow_cancelled_whole", level="capability", needs=CANCELS, rationale="what is cancelled must not run later"
    )
    async def test_workflow_cancelled_whole(self, facade: FacadeContext) -> None:
        """By its handle while a member of a gathering runs: that is told to stop, and nothing else is run."""
        await counting(facade)
        begun: list[int] = []

        @task(name="kit.hold", queue="q")
        async def hold(value: int) -> int:
            begun.append(value)
            await asyncio.sleep(60)
            return value

        client = await facade.client()
        await facade.work(hold, total, max_concurrent_tasks=1)
        handle = await client.submit(gather([hold.call(1), hold.call(2)]).then(total).then(hold))
        await facade.until_long(begun, 1)
        await handle.cancel()
        await raised(handle.result(facade.context.patience), TaskCancelled)
        assert len(begun) == 1

    @worker_case(
        "workflow_partial_submit",
        level="capability",
        needs=CANCELS,
        rationale="half a workflow is no use, and must not run as if it were one",
    )
    async def test_workflow_partial_submit(self, facade: FacadeContext) -> None:
        """The broker refuses one of the messages that it begins with: the error says so, and the others do not run."""
        ran: list[int] = []

        @task(name="kit.run", queue="q")
        async def run(number: int) -> int:
            ran.append(number)
            return number

        client = await facade.client()
        facade.client_faults.refused = lambda message: full(message) if message.envelope.args[0] == 1 else None
        error = await raised(client.submit(gather(run.call(number) for number in range(3))), BatchSubmitError)
        assert list(error.errors) == [1]
        assert "1 of 3 messages were refused, and the others are cancelled" in str(error)
        facade.client_faults.refused = lambda _message: None
        await facade.work(run)
        last = await client.submit(run, 7)
        assert await last.result(facade.context.patience) == 7
        assert ran == [7]

    @facade_case(
        "workflow_failure_in_order",
        level="capability",
        needs=RESULTS,
        rationale="who looks in the moment between the two must not be told a failure without its reason",
    )
    async def test_workflow_failure_in_order(self, facade: FacadeContext) -> None:
        """What a failed step keeps from running is stored before its own failure, and is not shown before it."""
        client, store = await facade.client(), await facade.context.open_results()
        handle: Any = await client.submit(add.call(1, 1).then(add, 1).then(echo))
        ids = [one.id for one in handle.native.children]
        first, *later = (failed_now(one, store.capabilities.result_type) for one in ids)
        await store.results().put(later)
        info: Any = await handle.info()
        assert not info.state.terminal
        assert not [one.state for one in info.steps if one.state.terminal]
        assert not await handle.ready()
        await store.results().put([first])
        info = await handle.info()
        assert [info.state, *(one.state for one in info.steps)] == [TaskState.FAILURE] * 4
        await raised(handle.result(facade.context.patience), TaskFailed)

    @worker_case(
        "workflow_options_travel",
        level="capability",
        needs=RESULTS,
        rationale="what was said of a step must hold when its turn comes",
    )
    async def test_workflow_options_travel(self, facade: FacadeContext) -> None:
        """Each later step has its own options and those of the whole, in a chain and in a gathering."""
        seen: dict[str, Any] = {}

        @task(name="kit.look", queue="q")
        async def look(name: str) -> str:
            seen[name] = current().envelope
            return name

        client = await facade.client()
        await facade.work(look)
        own = look.options(run_timeout=50, headers={"colour": "red"}, persistent_output=True, result_ttl=600)
        brief = look.options(deadline_in=60)
        until = round(time.time() + 500, 3)
        workflow = look.call("a").then(own.call("b")).then(gather([own.call("c"), brief.call("d")]))
        handle = await client.submit(workflow.options(cancel_key="all", deadline=until))
        assert await handle.result(facade.context.patience) == ["c", "d"]
        assert {seen[name].cancel_key for name in "abcd"} == {"all"}
        assert {seen[name].deadline for name in "abc"} == {until}
        assert time.time() < seen["d"].deadline < time.time() + 60
        for name in "bc":
            found = seen[name]
            assert (found.run_timeout, found.headers["colour"], found.persistent_output) == (50, "red", True)
            assert found.result_ttl == 600
        assert seen["b"].parent_id == seen["a"].id
        assert {seen[name].root_id or seen[name].id for name in "abcd"} == {seen["a"].id}
        assert seen["c"].group_id == seen["d"].group_id == handle.id

    @worker_case(
        "workflow_needs_counting",
        level="core",
        rationale="a workflow that can never end must be refused before it begins",
    )
    async def test_workflow_needs_counting(self, facade: FacadeContext) -> None:
        """Where nothing counts the members of a gathering, what follows one is refused, and nothing was sent."""
        client = await facade.client()
        workflow = gather([add.call(1, 1)]).then(total)
        if chords_of(await facade.context.open_results()) is not None:
            await client.submit(workflow)
            return
        error = await raised(client.submit(workflow), UnsupportedError)
        assert "result_url" in str(error)
        assert facade.client_faults.calls["submit"] == 0


def children(handle: FacadeHandle, client: Any) -> list[FacadeHandle]:
    """Return the handles of its steps."""
    return [FacadeHandle(one, client.call) for one in handle.native.children]
