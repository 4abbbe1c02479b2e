"""Calls that are handled many at once: gathered, each with its own outcome, and none left behind."""

from __future__ import annotations

from typing import Final

from tranship.envelope import TaskState
from tranship.errors import TaskCancelled, TaskFailed, TaskValidationError
from tranship.outcomes import Outcome
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import BatchCall, task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.suites.worker.runs import ended

__all__ = ["BatchCases"]

RESULTS: Final = {Capability.RESULTS}
NEVER: Final = 600.0
"""Seconds within which nothing of a case is to happen."""


class BatchCases:
    """Part of the worker's suite."""

    @worker_case(
        "batch_members_end_by_themselves",
        level="capability",
        needs=RESULTS,
        rationale="one bad row must not fail the ninety-nine beside it, or have them written twice",
    )
    async def test_batch_members_end_by_themselves(self, facade: FacadeContext) -> None:
        """A full batch is handled at once: of its members one returns, one has a status, one fails and one is tried
        again, in a later batch.
        """
        batches: list[list[str]] = []

        @task(name="kit.rows", batch=4, within=NEVER, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.05)))
        async def rows(calls: list[BatchCall[str]]) -> list[str | Outcome[str] | Exception]:
            batches.append([one.argument for one in calls])
            return [_row(one.argument, one.context.attempt) for one in calls]

        client, patience = await facade.client(), facade.context.patience
        handles = [await client.submit(rows, word) for word in ("fine", "odd", "bad", "later")]
        await facade.work(rows, max_concurrent_tasks=1)
        assert await handles[0].result(patience) == "FINE"
        found = await handles[1].wait(patience)
        assert (found.value, found.status) == ("ODD", "odd")
        error = await ended(handles[2], facade, TaskFailed)
        assert "bad" in str(error)
        assert [sorted(one) for one in batches] == [["bad", "fine", "later", "odd"]]
        handles += [await client.submit(rows, "fine") for _ in range(3)]
        assert [await one.result(patience) for one in handles[3:]] == ["LATER", "FINE", "FINE", "FINE"]
        assert [sorted(one) for one in batches[1:]] == [["fine", "fine", "fine", "later"]]

    @worker_case(
        "batch_is_not_left_behind",
        level="capability",
        needs={*RESULTS, Capability.CONTROL},
        rationale="a worker that stops must not sit on calls that it has only gathered",
    )
    async def test_batch_is_not_left_behind(self, facade: FacadeContext) -> None:
        """One that is gathered is cancelled; the others are handled when the worker stops."""
        batches: list[list[int]] = []

        @task(name="kit.gathered", batch=100, within=NEVER)
        def gathered(numbers: list[int]) -> list[int]:
            batches.append(sorted(numbers))
            return [-one for one in numbers]

        client, patience = await facade.client(), facade.context.patience
        worker = await facade.work(gathered)
        handles = [await client.submit(gathered, number) for number in range(3)]
        await facade.until(lambda: len(worker.status().running) == 3, "they are gathered")
        await handles[1].cancel()
        await ended(handles[1], facade, TaskCancelled)
        await facade.stop(worker)
        assert [await handles[place].result(patience) for place in (0, 2)] == [0, -2]
        assert batches == [[0, 2]]

    @worker_case(
        "batch_of_bad_results_fails",
        level="capability",
        needs=RESULTS,
        rationale="results that cannot be told apart must not reach the wrong callers",
    )
    async def test_batch_of_bad_results_fails(self, facade: FacadeContext) -> None:
        """Too few results fail every member, by name and count; a call that does not fit fails alone; the worker goes
        on.
        """

        @task(name="kit.short", queue="q", batch=3, within=0.05)
        async def short(numbers: list[int]) -> list[int]:
            return [one for one in numbers if one >= 0]

        client, patience = await facade.client(), facade.context.patience
        handles = [await client.submit(short, number) for number in (-1, 1)]
        message = facade.context.message(task="kit.short", args=("many",))
        (wrong,) = await facade.context.submit(await facade.context.open(), message)
        await facade.work(short)
        codes = [(await ended(one, facade, TaskFailed)).code for one in (handles[0], client.handle(wrong))]
        assert codes == ["BATCH_RESULTS", "INVALID_ARGUMENTS"]
        # Where it came in a batch of its own, it went well.
        found = await handles[1].wait(patience)
        assert found.state is TaskState.SUCCESS or "1 results for a batch of 2 calls" in str(found.error)
        assert await (await client.submit(short, 5)).result(patience) == 5


def _row(word: str, attempt: int) -> str | Outcome[str] | Exception:
    if word == "bad":
        return TaskValidationError(word)
    if word == "later" and not attempt:
        return ValueError(word)
    return Outcome("odd", "ODD") if word == "odd" else word.upper()
