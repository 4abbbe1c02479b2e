"""Errors that are hard to write down, and what those who wait read of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from tranship.envelope import DeadLetter, TaskState
from tranship.errors import Reject, Retry, TaskError
from tranship.ports import Capability
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, worker_case

__all__ = ["WorkerErrorCases"]

RESULTS = {Capability.RESULTS}
ONCE: Final = RetryPolicy(max_attempts=1, backoff=FixedBackoff(0))
"""What fails under it is dead-lettered at once."""


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class _Numeric(Exception):
    def __str__(self) -> str:
        number: Any = 7
        text: str = number
        return text


class _Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class _Unmade(TaskError):
    """Its __init__ calls nobody's."""

    def __init__(self) -> None:
        self.args = ("unmade",)


class _OddKey:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class _OddMapping(dict[Any, Any]):
    def __iter__(self) -> NoReturn:
        raise RuntimeError("no items")


def _nested(depth: int) -> ExceptionGroup[Exception]:
    group = ExceptionGroup("innermost", [ValueError(1), KeyError(2)])
    for level in range(depth):
        group = ExceptionGroup(f"level {level}", [group, OSError(level)])
    return group


def _circular() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def _long_chain() -> Exception:
    last = error = ValueError("last")
    for number in range(5000):
        error.__cause__ = ValueError(number)
        error = error.__cause__
    return last


def _odd_details() -> Exception:
    error = TaskError("odd", deep=_OddKey(), kinds={_OddKey(): 1}, name="file-\udcff")
    error.code = 404  # type: ignore[assignment]  # the point
    return error


ERRORS: Final[dict[str, tuple[Callable[[], BaseException], str]]] = {
    "syntax": (lambda: SyntaxError("x", ("f", 1, "2", "t", 1, 2)), "builtins.SyntaxError"),  # type: ignore[arg-type]
    "mute": (_Mute, "_Mute"),
    "numeric": (_Numeric, "_Numeric"),
    "leaving": (_Leaving, "_Leaving"),
    "deep group": (lambda: _nested(1200), "builtins.ExceptionGroup"),
    "circular": (_circular, "builtins.ValueError"),
    "long chain": (_long_chain, "builtins.ValueError"),
    "surrogate": (lambda: FileNotFoundError(2, "none", "file-\udcff"), "builtins.FileNotFoundError"),
    "large arguments": (lambda: ValueError(["x" * 1000] * 1000, "y" * 10_000), "builtins.ValueError"),
    "details": (_odd_details, "tranship.errors.TaskError"),
    "unmade": (_Unmade, "_Unmade"),
    "mapping": (lambda: TaskError("odd", mapping=_OddMapping(a=1)), "tranship.errors.TaskError"),
}
"""What is raised, and how the type ends that is told."""


class WorkerErrorCases:
    """Part of the worker's suite: what becomes of errors."""

    @worker_case(
        "error_beyond_description",
        level="capability",
        needs=RESULTS,
        rationale="an error that cannot be written down must not run the task until it is dead",
    )
    async def test_error_beyond_description(self, facade: FacadeContext) -> None:
        """Exceptions whose text, arguments, causes or details break who looks: each is a failure after one run."""
        runs: list[str] = []

        @task(name="kit.raise", queue="q")
        def fail(name: str) -> None:
            runs.append(name)
            error = ERRORS[name][0]()
            raise error

        client = await facade.client()
        await facade.work(fail)
        handles = {name: await client.submit(fail, name) for name in ERRORS}
        for name, handle in handles.items():
            result = await handle.wait(facade.context.patience)
            assert result.state is TaskState.FAILURE, f"{name}: {result}"
            assert result.error is not None
            assert result.error.type.endswith(ERRORS[name][1]), f"{name}: {result.error.type}"
            assert "in fail" in (result.error.traceback or ""), f"{name}: {result.error.traceback}"
        assert sorted(runs) == sorted(ERRORS), "some ran more than once"

    @worker_case(
        "odd_signals_of_handlers",
        level="capability",
        needs=RESULTS | {Capability.DELAY, Capability.DEAD_LETTERS},
        rationale="what a handler says in an odd form must not run the task until it is dead",
    )
    async def test_odd_signals_of_handlers(self, facade: FacadeContext) -> None:
        """A Retry whose delay is no number is retried as the policy says; a Reject with any reason is a dead letter."""
        runs: list[str] = []
        reasons: list[Any] = [None, 7, "two\nlines", "x" * 5000, "file-\udcff"]

        @task(name="kit.signal", queue="q", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
        def signal(which: int) -> int:
            runs.append("signal")
            if which < len(reasons):
                raise Reject(reasons[which])
            if runs.count("signal") == len(reasons) + 1:
                raise Retry("soon")  # type: ignore[arg-type]  # the point
            return which

        client = await facade.client()
        await facade.work(signal)
        for which in range(len(reasons)):
            result = await (await client.submit(signal, which)).wait(facade.context.patience)
            assert result.state is TaskState.DEAD_LETTERED, f"{reasons[which]!r}: {result}"
        assert await (await client.submit(signal, 99)).result(facade.context.patience) == 99
        assert len(runs) == len(reasons) + 2
        letters = await _letters(facade, len(reasons))
        assert "two lines" in {letter.reason for letter in letters}

    @worker_case(
        "large_error_is_shortened",
        level="capability",
        needs=RESULTS | {Capability.DEAD_LETTERS},
        rationale="who looks for the cause must not find only that it was too long",
    )
    async def test_large_error_is_shortened(self, facade: FacadeContext) -> None:
        """Over the limit: type, beginning of the message and end of the traceback stay; a dead letter reads as one."""
        limit = (await facade.context.open()).submitter().max_message_size

        @task(name="kit.large", queue="q")
        def fail(size: int) -> None:
            raise TaskError("It begins here. " + "x" * size, code="LARGE", small=1, big="y" * 100_000)

        client = await facade.client()
        await facade.work(fail)
        for policy, state in ((None, TaskState.FAILURE), (ONCE, TaskState.DEAD_LETTERED)):
            result = await (await client.submit(fail.options(retry=policy), limit)).wait(2 * facade.context.patience)
            error = result.error
            assert error is not None
            assert (result.state, error.type, error.code) == (state, "tranship.errors.TaskError", "LARGE")
            assert error.message.startswith("It begins here. xxx")
            assert "shortened" in error.message
            assert 'raise TaskError("It begins here.' in (error.traceback or "")
            assert error.details["small"] == 1
            assert len(str(error)) < 200_000
        (letter,) = await _letters(facade, 1)
        assert (letter.reason, len(letter.detail) <= 1000) == ("retries-exhausted", True)


async def _letters(facade: FacadeContext, count: int) -> Sequence[DeadLetter]:
    """Return the dead letters once there are so many: a result is told before its message is settled."""
    inspector = (await facade.context.open()).inspector()

    async def found() -> Sequence[DeadLetter]:
        letters = await inspector.dead("q")
        assert len(letters) <= count, f"{len(letters)} dead letters instead of {count}"
        return letters if len(letters) == count else ()

    return await facade.context.eventually(found, f"there are {count} dead letters")
