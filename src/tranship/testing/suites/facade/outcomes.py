"""What handlers say of themselves, as those see it who wait: errors as they were given, a status, or *later*."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

from tranship.envelope import TaskState
from tranship.error_codes import PERMANENT_ERROR, TRANSIENT_ERROR
from tranship.errors import (
    DeadlineExceeded,
    ResourceError,
    ResultTimeout,
    TaskDeadLettered,
    TaskError,
    TaskFailed,
    TaskNotFound,
    TaskTimeoutError,
    TaskValidationError,
    TranshipError,
)
from tranship.outcomes import Outcome, Snooze
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, named, task
from tranship.testing.facade_context import FacadeContext, facade_case
from tranship.testing.facades import raised

__all__ = ["OutcomeCases"]

RESULTS = {Capability.RESULTS}
DELAY = {Capability.RESULTS, Capability.DELAY}


class DatabaseError(TaskError):
    """A kind of error of a user's own."""

    def __init__(self, message: str, **extra: Any) -> None:
        super().__init__(message, error_code="DATABASE_ERROR", error_type="Database", retryable=True, **extra)


class OutcomeCases:
    """Part of the facade's suite: what a handler has to say."""

    @facade_case(
        "task_error_as_given", level="capability", needs=RESULTS, rationale="programs decide by what a handler says"
    )
    async def test_task_error_as_given(self, facade: FacadeContext) -> None:
        """Message, code, type, verdict and data of a TaskError arrive; other exceptions are wrapped, retryable."""

        @task(name="kit.says", queue="q")
        def says(which: str) -> None:
            make, _ = _GIVEN[which]
            raise make()

        client = await facade.client()
        await facade.work(says)
        for which, (_, told) in _GIVEN.items():
            handle = await client.submit(says, which)
            error = await raised(handle.result(facade.context.patience), TaskFailed)
            seen = (str(error), error.error_code, error.error_type, error.retryable, error.details)
            assert seen == told, f"{which}: {seen}"
            info = (await handle.wait(facade.context.patience)).error
            assert info is not None
            assert (info.code, info.error_type, info.retryable) == told[1:4]

    @facade_case(
        "error_codes_decide", level="capability", needs=DELAY, rationale="a code says whether another attempt is of use"
    )
    async def test_error_codes_decide(self, facade: FacadeContext) -> None:
        """Under one policy: what is permanent or invalid, or has a code to stop on, runs once; the others again."""
        runs: dict[str, int] = {}

        @task(name="kit.codes", queue="q", retry=_TWICE)
        async def codes(which: str) -> None:
            runs[which] = current().attempt + 1
            make, _ = _CODED[which]
            raise make()

        client = await facade.client()
        await facade.work(codes)
        handles = {which: await client.submit(codes, which) for which in _CODED}
        for which, (_, attempts) in _CODED.items():
            kind = TaskDeadLettered if attempts == 2 else TaskFailed
            assert type(await raised(handles[which].result(facade.context.patience), TaskFailed)) is kind, which
            state = await handles[which].state()
            assert state is (TaskState.DEAD_LETTERED if attempts == 2 else TaskState.FAILURE), which
        assert runs == {which: attempts for which, (_, attempts) in _CODED.items()}

    @facade_case(
        "outcome_status", level="capability", needs=RESULTS, rationale="what comes next may depend on more than success"
    )
    async def test_outcome_status(self, facade: FacadeContext) -> None:
        """``Outcome(status, data)`` is a SUCCESS with a status, from both kinds of handlers; a bad one is a failure."""

        @task(name="kit.reviewed", queue="q")
        async def reviewed(status: Any) -> Outcome[dict[str, Any]]:
            return Outcome(status, {"reason": "low"})

        @task(name="kit.reviewed-thread", queue="q")
        def reviewed_thread(size: int) -> Any:
            return Outcome("odd", "x" * size if size else object())

        client = await facade.client()
        await facade.work(reviewed, reviewed_thread, plain)
        handle = await client.submit(reviewed, "needs_manual_review")
        result = await handle.wait(facade.context.patience)
        assert (result.state, result.status, result.value) == (
            TaskState.SUCCESS,
            "needs_manual_review",
            {"reason": "low"},
        )
        assert await handle.result(facade.context.patience) == {"reason": "low"}
        assert (await client.handle(handle.id).info()).status == "needs_manual_review"
        result = await (await client.submit(reviewed_thread, 3)).wait(facade.context.patience)
        assert (result.status, result.value) == ("odd", "xxx")
        assert (await (await client.submit(plain)).wait(facade.context.patience)).status is None
        for bad in (7, None, "", ["x"], "x" * 256):
            error = await raised((await client.submit(reviewed, bad)).result(facade.context.patience), TaskFailed)
            assert error.code == "INVALID_OPTION"
            assert "status" in str(error)
        limit = (await facade.context.open()).submitter().max_message_size
        for size, code in ((0, "ENCODE"), (limit + 1, "MESSAGE_TOO_LARGE")):
            failed = await client.submit(reviewed_thread, size)
            assert (await raised(failed.result(facade.context.patience), TaskFailed)).code == code
            assert (await failed.info()).status is None

    @facade_case("snooze", level="capability", needs=DELAY, rationale="not yet is neither a failure nor an attempt")
    async def test_snooze(self, facade: FacadeContext) -> None:
        """Raised and returned, it comes again no sooner, as the same attempt, without a retry policy."""
        runs: dict[str, list[tuple[int, int, float]]] = {}

        @task(name="kit.snoozes", queue="q")
        async def snoozes(how: str) -> Any:
            seen = runs.setdefault(how, [])
            seen.append((current().attempt, current().delivery_count, time.monotonic()))
            if len(seen) == 4:
                return how
            if how == "return":
                return Snooze(timedelta(seconds=0.2))
            raise Snooze(0.2)

        @task(name="kit.snoozes-thread", queue="q", retry=_TWICE)
        def snoozes_thread() -> str:
            seen = runs.setdefault("thread", [])
            seen.append((current().attempt, current().delivery_count, time.monotonic()))
            if len(seen) < 4:
                raise Snooze(0.2)
            return "thread"

        client = await facade.client()
        await facade.work(snoozes, snoozes_thread)
        handles = [await client.submit(snoozes, how) for how in ("raise", "return")]
        handles.append(await client.submit(snoozes_thread))
        assert [await one.result(facade.context.patience) for one in handles] == ["raise", "return", "thread"]
        for seen in runs.values():
            assert [one[:2] for one in seen] == [(0, 1)] * 4
            gaps = [after[2] - before[2] for before, after in pairwise(seen)]
            assert all(0.14 < gap < 3.2 for gap in gaps), gaps
        assert (await handles[0].info()).attempt == 0

    @facade_case("snooze_bounded", level="capability", needs=RESULTS, rationale="nothing is put off for ever, or hot")
    async def test_snooze_bounded(self, facade: FacadeContext) -> None:
        """Beyond the deadline: EXPIRED at once. Zero, negative, no number: a failure that names it, run once."""
        runs: list[Any] = []

        @task(name="kit.puts-off", queue="q")
        async def puts_off(delay: Any) -> None:
            runs.append(delay)
            raise Snooze(delay)

        client = await facade.client()
        await facade.work(puts_off)
        late = await client.submit(puts_off.options(deadline_in=20.0), 60)
        assert "60 s" in str(await raised(late.result(10.0), DeadlineExceeded))
        for bad in (0, -1, "soon", None):
            error = await raised((await client.submit(puts_off, bad)).result(facade.context.patience), TaskFailed)
            assert error.code == "INVALID_OPTION"
            assert repr(bad) in str(error)
        assert runs == [60, 0, -1, "soon", None]

    @facade_case(
        "own_options_hold", level="capability", needs=DELAY, rationale="a policy that is silently ignored is none"
    )
    async def test_own_options_hold(self, facade: FacadeContext) -> None:
        """A handler's retry, run_timeout and result_ttl hold for a submit by name; what it sets itself counts."""
        runs: dict[str, int] = {}

        @task(name="kit.owned", queue="q", retry=_TWICE, run_timeout=0.3, result_ttl=600)
        async def owned(name: str) -> None:
            runs[name] = runs.get(name, 0) + 1
            own = current().envelope
            assert own.result_ttl == (60 if name == "said" else 600)
            if name == "slow":
                await asyncio.sleep(30)
            raise ValueError(name)

        client = await facade.client()
        await facade.work(owned)
        by_name = named("kit.owned", queue="q")
        said = by_name.options(retry=RetryPolicy(max_attempts=1), result_ttl=60, run_timeout=20)
        handles = [await client.submit(by_name, name) for name in ("fails", "slow")]
        handles.append(await client.submit(said, "said"))
        for handle in handles:
            await raised(handle.result(facade.context.patience), TranshipError)
        assert runs == {"fails": 2, "slow": 2, "said": 1}

    @facade_case(
        "own_store_result_holds", level="capability", needs=RESULTS, rationale="nobody keeps what nobody may ask for"
    )
    async def test_own_store_result_holds(self, facade: FacadeContext) -> None:
        """A handler's store_result=False holds for a submit by name; who says that he waits gets his result."""
        seen: list[bool | None] = []

        @task(name="kit.secret", queue="q", store_result=False)
        async def secret() -> str:
            seen.append(current().envelope.store_result)
            return "hush"

        client = await facade.client()
        await facade.work(secret)
        by_name = named("kit.secret", queue="q")
        unsaid = await client.submit(by_name)
        await facade.until(lambda: seen == [False], "the task runs")
        said = await client.submit(by_name.options(store_result=True))
        assert await said.result(facade.context.patience) == "hush"
        assert seen == [False, True]
        # What was settled before has not come by now, and does not come.
        assert not await unsaid.ready()
        error = await raised(unsaid.wait(0.2), TranshipError)
        # A store that knows its ids knows that there is nothing to wait for.
        assert isinstance(error, ResultTimeout | TaskNotFound)


@task(name="kit.plain", queue="q")
async def plain() -> dict[str, str]:
    return {"status": "mine"}


_Raised = Callable[[], BaseException]

_GIVEN: dict[str, tuple[_Raised, tuple[str, str, str, bool, dict[str, Any]]]] = {
    "plain": (lambda: TaskError("no"), ("no", "TASK_ERROR", "TaskError", True, {})),
    "all of it": (
        lambda: TaskError("away", error_code="DOWN", error_type="my.Away", retryable=False, shelf=[7], at=None),
        ("away", "DOWN", "my.Away", False, {"shelf": [7], "at": None}),
    ),
    "validation": (
        lambda: TaskValidationError("no email", field="email"),
        ("no email", "VALIDATION_ERROR", "TaskValidationError", False, {"field": "email"}),
    ),
    "timeout": (lambda: TaskTimeoutError("slow"), ("slow", "TIMEOUT_ERROR", "TaskTimeoutError", True, {})),
    "resource": (lambda: ResourceError("full"), ("full", "RESOURCE_ERROR", "ResourceError", True, {})),
    "own": (
        lambda: DatabaseError("gone", database="users", tries=3),
        ("gone", "DATABASE_ERROR", "Database", True, {"database": "users", "tries": 3}),
    ),
    "ValueError": (lambda: ValueError("bad"), ("bad", "TASK_FAILED", "ValueError", True, {})),
    "ConnectionError": (lambda: ConnectionError("cut"), ("cut", "TASK_FAILED", "ConnectionError", True, {})),
    "TypeError": (lambda: TypeError("odd"), ("odd", "TASK_FAILED", "TypeError", True, {})),
}
"""Message, code, type, verdict and data of what is raised."""

_TWICE = RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01), stop_on_codes=["STOP"])

_CODED: dict[str, tuple[_Raised, int]] = {
    "transient": (lambda: TaskError("x", error_code=TRANSIENT_ERROR), 2),
    "permanent": (lambda: TaskError("x", error_code=PERMANENT_ERROR), 1),
    "permanent, but": (lambda: TaskError("x", error_code=PERMANENT_ERROR, retryable=True), 2),
    "stop": (lambda: TaskError("x", error_code="STOP"), 1),
    "validation": (lambda: TaskValidationError("x"), 1),
    "timeout": (lambda: TaskTimeoutError("x"), 2),
    "wrapped": (lambda: ValueError("x"), 2),
}
"""How often each is tried."""
