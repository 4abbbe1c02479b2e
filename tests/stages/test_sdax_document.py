"""The code of sdax's own description runs on tranship, with nothing but the import changed.

By heading; what cannot run as it stands is said to be so, and why.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tranship.compat import sdax
from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction

BLOCKS = dict(
    re.findall(
        r"^## (.*?)\n\n```python\n(.*?)^```$",
        (Path(__file__).parent / "sdax_document.md").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)

WHOLE = {"Quick Start"}
FRAGMENTS = {
    "Example: Safe Resource Management": "takes imports and some_lock for granted",
    "Per-Task Configuration": "one expression; takes call_external_api for granted",
    "Shared Context": "takes imports for granted",
    "Example - Safe Concurrent Execution": "calls its builder `processor`; takes imports and db_pool for granted",
    "Example - UNSAFE Concurrent Execution": "what not to do; takes fetch_data for granted",
    "Concurrent Execution": "awaits outside of a function, and `AsyncTask(...)` stands for some task",
    "High-Throughput API Server": "`AsyncTask(name, ...)` stands for some task; takes app for granted",
}
NOT_PYTHON = {
    "Complex API Endpoints": "a list in words",
    "Data Pipeline Steps": "a list in words",
    "Build/Deploy Systems": "a list in words",
    "Error Handling": "except and except* on one try",
}


def changed(block: str) -> str:
    return block.replace("from sdax import", "from tranship.compat.sdax import")


async def nothing(ctx: Any) -> None:
    await asyncio.sleep(0)


def any_task(name: Any = ..., *_: Any, **phases: Any) -> AsyncTask[Any]:
    """What ``AsyncTask(...)`` stands for, where three dots were written."""
    phases = phases or {"pre_execute": TaskFunction(nothing)}
    return AsyncTask("any" if name is ... else name, **phases)


def granted(**more: Any) -> dict[str, Any]:
    """The names that fragments take for granted."""
    names = {"asyncio": asyncio, "dataclass": dataclass, "field": field, "Any": Any, "__name__": __name__}
    names |= {name: getattr(sdax, name) for name in sdax.__all__}
    return names | more


def run_fragment(heading: str, **more: Any) -> dict[str, Any]:
    names = granted(**more)
    exec(compile(changed(BLOCKS[heading]), heading, "exec", dont_inherit=True), names)
    return names


def test_every_block_is_listed() -> None:
    assert set(BLOCKS) == WHOLE | set(FRAGMENTS) | set(NOT_PYTHON)
    for heading, block in BLOCKS.items():
        if heading in NOT_PYTHON:
            with pytest.raises(SyntaxError):
                compile(block, heading, "exec")
        else:
            compile(block, heading, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_quick_start(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(changed(BLOCKS["Quick Start"]), "quick_start.py", "exec", dont_inherit=True), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == [
        "Level 1: Checking authentication...",
        "Level 1: Loading feature flags...",
        "Auth successful.",
        "Flags loaded.",
        "Level 2: Fetching user data...",
        "User data fetched.",
        "Tearing down db connection...",
        "Connection closed.",
        "",
        "Workflow completed successfully!",
    ]


class Lock:
    """A lock whose acquire() returns it, as the example takes for granted."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.stall = False

    async def acquire(self) -> Lock:
        self.log.append("acquired")
        if self.stall:
            await asyncio.Event().wait()
        return self

    async def release(self) -> None:
        self.log.append("released")


@pytest.mark.parametrize("stall", [False, True])
async def test_safe_resource_management(stall: bool) -> None:
    lock = Lock()
    lock.stall = stall
    names = run_fragment("Example: Safe Resource Management", some_lock=lock)
    task = AsyncTask(
        "lock",
        pre_execute=TaskFunction(names["acquire_lock"], timeout=0.02 if stall else None),
        post_execute=TaskFunction(names["release_lock"]),
    )
    processor = AsyncTaskProcessor.builder().add_task(task, level=1).build()
    if stall:
        with pytest.raises(ExceptionGroup):
            await processor.process_tasks(names["TaskContext"]())
        assert lock.log == ["acquired"]  # never had, so the example has nothing to release
    else:
        await processor.process_tasks(names["TaskContext"]())
        assert lock.log == ["acquired", "released", "released"]  # the example shows both ways, one after the other


async def test_per_task_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    calls: list[Any] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    async def call_external_api(ctx: Any) -> None:
        calls.append(ctx)
        raise ConnectionError

    source = BLOCKS["Per-Task Configuration"]
    task = eval(
        compile(source, "configuration", "eval", dont_inherit=True), granted(call_external_api=call_external_api)
    )
    processor = AsyncTaskProcessor.builder().add_task(task, level=1).build()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(ExceptionGroup):
        await processor.process_tasks("ctx")
    assert calls == ["ctx"] * 4
    assert [0.5 <= slept[0] <= 1.0, 1.0 <= slept[1] <= 2.0, 2.0 <= slept[2] <= 4.0] == [True] * 3


async def test_shared_context() -> None:
    names = run_fragment("Shared Context")
    first = AsyncTask("a", pre_execute=TaskFunction(names["task_a"]))
    second = AsyncTask("b", pre_execute=TaskFunction(names["task_b"]))
    processor = AsyncTaskProcessor.builder().add_task(first, level=1).add_task(second, level=2).build()
    ctx = names["TaskContext"]()
    await processor.process_tasks(ctx)
    assert ctx.user_id == 123


class Connection:
    def __init__(self) -> None:
        self.closed = 0

    async def fetch_user(self, user: int) -> str:
        return f"user {user}"

    async def close(self) -> None:
        self.closed += 1


class Pool:
    def __init__(self) -> None:
        self.given: list[Connection] = []

    async def acquire(self) -> Connection:
        self.given.append(Connection())
        return self.given[-1]


async def test_safe_concurrent_execution() -> None:
    pool, builder = Pool(), AsyncTaskProcessor.builder()
    names = run_fragment("Example - Safe Concurrent Execution", db_pool=pool, processor=builder)
    builder.add_task(AsyncTask("user", execute=TaskFunction(names["fetch_user_data"])), level=2)
    processor = builder.build()
    contexts = [names["RequestContext"](user_id=number) for number in range(20)]
    await asyncio.gather(*(processor.process_tasks(ctx) for ctx in contexts))
    assert [ctx.api_results["user"] for ctx in contexts] == [f"user {number}" for number in range(20)]
    assert [one.closed for one in pool.given] == [1] * 20


async def test_unsafe_concurrent_execution_runs_all_the_same() -> None:
    async def fetch_data(user: int) -> int:
        return user

    names = granted(fetch_data=fetch_data)
    names["RequestContext"] = Any
    exec(compile(BLOCKS["Example - UNSAFE Concurrent Execution"], "unsafe", "exec", dont_inherit=True), names)
    processor = AsyncTaskProcessor.builder().add_task(any_task(execute=TaskFunction(names["unsafe_task"])), 1).build()
    await processor.process_tasks(types.SimpleNamespace(user_id=3))
    assert names["SHARED_CACHE"] == {3: 3}


async def test_concurrent_execution() -> None:
    seen: list[int] = []

    async def see(ctx: Any) -> None:
        seen.append(ctx)

    names = granted(AsyncTask=lambda _: any_task(execute=TaskFunction(see)), RequestContext=lambda user_id: user_id)
    code = compile(
        BLOCKS["Concurrent Execution"], "concurrent", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
    )
    await eval(code, names)
    assert sorted(seen) == [123, 456, 789]


async def test_high_throughput_api_server() -> None:
    routes: dict[str, Any] = {}

    class App:
        def post(self, path: str) -> Any:
            return lambda handler: routes.setdefault(path, handler)

    def context(user_id: int) -> Any:
        return types.SimpleNamespace(user_id=user_id, results=[user_id])

    names = run_fragment("High-Throughput API Server", app=App(), AsyncTask=any_task, RequestContext=context)
    assert await asyncio.gather(*map(routes["/api/endpoint"], range(50))) == [[number] for number in range(50)]
    assert inspect.iscoroutinefunction(names["handle_request"])


def test_the_names_are_those_of_stages() -> None:
    assert sdax.AsyncTask is AsyncTask
    assert sdax.TaskFunction is TaskFunction
    assert sdax.AsyncTaskProcessor is AsyncTaskProcessor
