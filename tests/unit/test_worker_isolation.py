"""Tasks in processes of their own: they can be ended for certain, and what becomes of them is told."""

from __future__ import annotations

import asyncio
import errno
import logging
import multiprocessing.spawn
import multiprocessing.util
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import isolated_tasks as tasks
import pytest
from patience import until

from tranship.client import AsyncClient
from tranship.envelope import TaskState
from tranship.errors import ConfigurationError, InvalidOptionError, TaskFailed, TaskTimedOut
from tranship.middleware import Middleware, RunCall
from tranship.settings import BrokerURL, Settings
from tranship.task import Task, TaskClass, task, task_of
from tranship.testing.background import BackgroundWorker
from tranship.testing.faults import Faults, FaultyRegistry
from tranship.testing.harness import Harness
from tranship.worker import Worker

pytestmark = pytest.mark.xdist_group("isolation")
"""They share a worker."""

URL = "memory://isolation-of-all"
ALL: list[Task[..., Any]] = [one for one in map(task_of, vars(tasks).values()) if isinstance(one, Task)]


@asynccontextmanager
async def at_work(*middleware: Middleware, **settings: Any) -> AsyncIterator[tuple[AsyncClient, Worker]]:
    """A client and a worker that runs the isolated tasks."""
    settings = {"max_concurrent_tasks": 1, "shutdown_timeout": 0.1, **settings}
    made = Settings(broker_url=BrokerURL.parse("memory://"), **settings)
    registry = FaultyRegistry(Harness("memory://isolation").make_backend, Faults())
    worker = Worker(settings=made, registry=registry, tasks=ALL, middleware=list(middleware))
    serving = asyncio.ensure_future(worker.serve())
    async with AsyncClient(settings=made, registry=registry) as client:
        yield client, worker
        worker.stop()
        await asyncio.wait_for(serving, 20)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One worker for all that leave it as it was: its processes are started once."""
    worker = Worker(URL, tasks=ALL, max_concurrent_tasks=1, shutdown_timeout=0.1)
    with BackgroundWorker(worker):
        yield worker


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(URL) as client:
        yield client


async def test_it_runs_elsewhere_knows_itself_and_its_process_is_used_again() -> None:
    async with at_work() as (client, _):
        handles = [await client.submit(tasks.where) for _ in range(3)]
        results = [await handle.result(20) for handle in handles]
        assert [(one, attempt) for _, one, attempt in results] == [(handle.id, 0) for handle in handles]
        pids = {pid for pid, _, _ in results}
        assert len(pids) <= os.cpu_count()  # type: ignore[operator]
        assert os.getpid() not in pids
        assert await (await client.submit(tasks.later, 7)).result(20) == 7
    await until(lambda: not any(map(_runs, pids)))


async def test_a_class_runs_elsewhere_with_an_object_of_its_own(client: AsyncClient) -> None:
    for one in (tasks.Repeat, tasks.RepeatOnce):
        text, made_there, pid = await (await client.submit(one.task, one.Args("a", times=3))).result(20)
        assert (text, made_there) == ("aaa", True)
        assert pid != os.getpid()
    assert (tasks.RepeatOnce.task.isolation, tasks.RepeatOnce.task.task_type) == ("process", "cpu")
    assert tasks.Repeat.task.task_type is None


@pytest.mark.parametrize("how", ["", "stubborn", "with a child"])
async def test_a_cancel_ends_it_for_certain_and_frees_its_slot(
    tmp_path: Path, how: str, client: AsyncClient, worker: Worker
) -> None:
    path = tmp_path / "pid"
    handle = await client.submit(tasks.compute, str(path), how)
    await until(lambda: path.exists() and path.read_text(), 20)
    await handle.cancel()
    assert (await handle.wait(20)).state is TaskState.CANCELLED
    assert await (await client.submit(tasks.later, 1)).result(20) == 1
    await until(lambda: not _runs(int(path.read_text())), 20)
    assert path.with_suffix(".closed").exists() is (how != "stubborn"), "its own finally has run"
    assert worker.status().running == []


async def test_its_run_timeout_ends_it_for_certain_even_while_the_loop_is_blocked(tmp_path: Path) -> None:
    async with at_work() as (client, _):
        path = tmp_path / "pid"
        await (await client.submit(tasks.later, 1)).result(20)
        handle = await client.submit(tasks.compute.options(run_timeout=0.5), str(path))
        await until(path.exists, 20)
        # This is the handlers' loop, too.
        time.sleep(1.0)  # noqa: ASYNC251
        assert not _runs(int(path.read_text()))
        with pytest.raises(TaskTimedOut, match=r"0\.5 s"):
            await handle.result(20)


async def test_a_worker_that_stops_ends_it_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    async with at_work() as (client, _):
        handle = await client.submit(tasks.compute, str(path))
        await until(lambda: path.exists() and path.read_text(), 20)
    assert not _runs(int(path.read_text()))
    assert handle.id


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "it exited with code 3"),
        ("SIGKILL", "it was ended by SIGKILL (by hand, or because memory was short)"),
        ("SIGSEGV", "it was ended by SIGSEGV"),
    ],
)
async def test_a_process_that_dies_is_a_failure_and_the_worker_lives(how: str, said: str, client: AsyncClient) -> None:
    handle = await client.submit(tasks.die, how)
    with pytest.raises(TaskFailed) as caught:
        await handle.result(20)
    assert (caught.value.code, caught.value.retryable) == ("PROCESS_DIED", True)
    assert f"the process of task {handle.id} ended before its result was there: {said}" in str(caught.value)
    assert await (await client.submit(tasks.later, 1)).result(20) == 1


async def test_a_process_that_dies_is_tried_again_as_the_policy_says(client: AsyncClient) -> None:
    assert await (await client.submit(tasks.die_once)).result(20) == 1


async def test_what_it_prints_is_in_the_log_with_its_id(caplog: pytest.LogCaptureFixture, client: AsyncClient) -> None:
    caplog.set_level(logging.INFO, "tranship.worker")
    handle = await client.submit(tasks.speak)
    assert await handle.result(20) == "spoken"
    printed = {one.getMessage() for one in caplog.records if "printed" in one.getMessage()}
    said = ("said on stdout", "said on stderr", "said by a child", "without an end")
    assert printed == {f"task {handle.id} printed: {text}" for text in said}


@pytest.mark.parametrize("how", ["descriptors", "streams", "elsewhere"])
async def test_what_one_does_to_its_streams_is_not_the_next_one_s(
    how: str, caplog: pytest.LogCaptureFixture, client: AsyncClient
) -> None:
    caplog.set_level(logging.INFO, "tranship.worker")
    # Processes that are started meanwhile have their turn before it.
    for _ in range(5):
        first = await (await client.submit(tasks.silence, how)).result(20)
        handle = await client.submit(tasks.silence, "")
        if await handle.result(20) == first:
            break
    else:
        pytest.fail("another process ran it each time")
    assert f"task {handle.id} printed: audible" in caplog.messages


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("odd", "isolated_tasks.OddError", "1 and 2"),
        ("value", "builtins.ValueError", "on purpose"),
        ("local", "tranship.errors.TaskError", "the task returned a Local that cannot leave its process: never leaves"),
        ("large", "tranship.errors.TaskError", "the result is 300,000,"),
        ("cache", "tranship.errors.ConfigurationError", "hot_cache is the worker process's own"),
        ("step", "tranship.errors.UnsupportedError", "leave isolation off"),
    ],
)
async def test_what_it_raises_or_cannot_return_is_its_failure(
    how: str, kind: str, said: str, client: AsyncClient
) -> None:
    with pytest.raises(TaskFailed) as caught:
        await (await client.submit(tasks.fail, how)).result(30)
    assert caught.value.type == kind
    assert said in str(caught.value)
    assert how in ("local", "large") or "isolated_tasks.py" in (caught.value.traceback or "")
    sent = {"local": ("ENCODE", False), "large": ("MESSAGE_TOO_LARGE", False)}.get(how)
    assert sent in (None, (caught.value.code, caught.value.retryable))


async def test_what_cannot_be_read_in_another_process_keeps_its_arguments_apart(client: AsyncClient) -> None:
    with pytest.raises(TaskFailed) as caught:
        await (await client.submit(tasks.fail, "pair")).result(30)
    assert (caught.value.type, caught.value.arguments) == ("isolated_tasks.PairError", ("tray", 2))
    assert str(caught.value) == "('tray', 2)"


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_later_and_a_status_come_from_a_process_too(tmp_path: Path, how: str, client: AsyncClient) -> None:
    result = await (await client.submit(tasks.put_off, str(tmp_path / "been"), how)).wait(20)
    assert (result.state, result.status, result.value) == (TaskState.SUCCESS, "reviewed", 0)


async def test_a_task_error_from_a_process_is_as_it_was_given(client: AsyncClient) -> None:
    with pytest.raises(TaskFailed, match="gone") as failed:
        await (await client.submit(tasks.put_off, "", "error")).result(20)
    error = failed.value
    assert (error.error_code, error.error_type, error.retryable) == ("GONE", "Gone", False)
    assert error.details == {"shelf": 7}


async def test_leaving_the_interpreter_is_a_failure_like_any_other(client: AsyncClient) -> None:
    with pytest.raises(TaskFailed, match="enough"):
        await (await client.submit(tasks.die, "raise")).result(20)


class Around(Middleware):
    """Lets everything through."""

    async def run(self, call: RunCall, proceed: Any) -> Any:
        return await proceed(call)


async def test_middleware_is_around_it_and_its_limit_holds(tmp_path: Path) -> None:
    async with at_work(Around()) as (client, _):
        pid, *_ = await (await client.submit(tasks.where)).result(20)
        assert pid != os.getpid()
        with pytest.raises(TaskFailed, match="it was ended by SIGKILL"):
            await (await client.submit(tasks.die, "SIGKILL")).result(20)
        path = tmp_path / "pid"
        handle = await client.submit(tasks.compute.options(run_timeout=1.5), str(path))
        with pytest.raises(TaskTimedOut, match=r"1\.5 s"):
            await handle.result(20)
        assert not path.exists() or not _runs(int(path.read_text()))


def refuse(*_given: object) -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


async def eventually_refused(client: AsyncClient) -> TaskFailed:
    """Return why a task got no process, once those that are there, or were just being started, have died."""
    for _ in range(10):
        await (await client.submit(tasks.die, "exit")).wait(20)
        try:
            await (await client.submit(tasks.later, 2)).result(20)
        except TaskFailed as refused:
            return refused
    raise AssertionError("processes are started")


@pytest.mark.parametrize(
    ("where", "name", "what"),
    [
        pytest.param(multiprocessing.spawn, "_python_exe", b"/nowhere/python", id="no interpreter"),
        pytest.param(multiprocessing.util, "spawnv_passfds", refuse, id="no more processes"),
    ],
)
async def test_a_process_that_cannot_be_started_is_a_failure_too(
    monkeypatch: pytest.MonkeyPatch, where: ModuleType, name: str, what: object
) -> None:
    async with at_work() as (client, _):
        await (await client.submit(tasks.later, 1)).result(20)
        with monkeypatch.context() as away:
            away.setattr(where, name, what)
            refused = await eventually_refused(client)
        assert (refused.code, refused.retryable) == ("PROCESS_DIED", True)
        assert await (await client.submit(tasks.later, 3)).result(20) == 3


def test_a_worker_that_ends_while_they_start_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "brief.py").write_text(
        "from tranship import Worker, task\n"
        "@task(isolation='process')\n"
        "def one(): ...\n"
        "if __name__ == '__main__':\n"
        "    Worker('memory://', tasks=[one]).run_until_idle()\n"
    )
    for _ in range(3):
        command = [sys.executable, "brief.py"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_an_object_of_a_class_is_not_found_by_another_process() -> None:
    with pytest.raises(ConfigurationError, match="another process would not find its function"):
        Worker("memory://", tasks=[tasks.Repeat()])


def test_a_function_that_another_process_would_not_find_is_refused() -> None:
    @task(name="unit.hidden", isolation="process")
    def hidden() -> None: ...

    with pytest.raises(ConfigurationError, match=r"unit.hidden.*define it at the top level of a module"):
        Worker("memory://", tasks=[hidden])


def test_there_is_one_kind_of_isolation() -> None:
    wrong: Any = "thread"
    said = "isolation is 'thread'; expected one of 'process'"
    with pytest.raises(InvalidOptionError, match=said):
        task(isolation=wrong)
    with pytest.raises(InvalidOptionError, match=said):

        class Wrong(TaskClass, isolation=wrong): ...


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie of somebody else's does not run.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
