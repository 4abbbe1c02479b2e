"""What handlers say of themselves, as those see it who wait: errors as they were given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tranship.envelope import TaskState
from tranship.error_codes import PERMANENT_ERROR, TRANSIENT_ERROR
from tranship.errors import (
    ResourceError,
    TaskDeadLettered,
    TaskError,
    TaskFailed,
    TaskTimeoutError,
    TaskValidationError,
)
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import current, task
from tranship.testing.desk import Desk, facade_case
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
    async def test_task_error_as_given(self, desk: Desk) -> None:
        """Message, code, type, verdict and data of a TaskError arrive; other exceptions are wrapped, retryable."""

        @task(name="kit.says", queue="q")
        def says(which: str) -> None:
            make, _ = _GIVEN[which]
            raise make()

        client = await desk.client()
        await desk.work(says)
        for which, (_, told) in _GIVEN.items():
            handle = await client.submit(says, which)
            error = await raised(handle.result(desk.lab.patience), TaskFailed)
            seen = (str(error), error.error_code, error.error_type, error.retryable, error.details)
            assert seen == told, f"{which}: {seen}"
            info = (await handle.wait(desk.lab.patience)).error
            assert info is not None
            assert (info.code, info.error_type, info.retryable) == told[1:4]

    @facade_case(
        "error_codes_decide", level="capability", needs=DELAY, rationale="a code says whether another attempt is of use"
    )
    async def test_error_codes_decide(self, desk: Desk) -> None:
        """Under one policy: what is permanent or invalid, or has a code to stop on, runs once; the others again."""
        runs: dict[str, int] = {}

        @task(name="kit.codes", queue="q", retry=_TWICE)
        async def codes(which: str) -> None:
            runs[which] = current().attempt + 1
            make, _ = _CODED[which]
            raise make()

        client = await desk.client()
        await desk.work(codes)
        handles = {which: await client.submit(codes, which) for which in _CODED}
        for which, (_, attempts) in _CODED.items():
            kind = TaskDeadLettered if attempts == 2 else TaskFailed
            assert type(await raised(handles[which].result(desk.lab.patience), TaskFailed)) is kind, which
            state = await handles[which].state()
            assert state is (TaskState.DEAD_LETTERED if attempts == 2 else TaskState.FAILURE), which
        assert runs == {which: attempts for which, (_, attempts) in _CODED.items()}


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
