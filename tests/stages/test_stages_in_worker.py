"""A plan as the body of a worker's task: one deadline and one cancel for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from tranship import Client, Reject, RetryPolicy, TaskHandle, TaskState, Worker, current, task
from tranship.errors import DeadlineExceeded, TaskCancelled, TaskFailed
from tranship.retry import FixedBackoff
from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction, cancelled, wait_cancelled
from tranship.testing.background import BackgroundWorker

PATIENCE = 20.0

Submit = Callable[..., TaskHandle[str]]


class Site:
    """What a task and its test share."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.begun = threading.Event()
        self.cleaned = threading.Event()
        self.left: list[float | None] = []
        self.failures: list[BaseException] = []

    async def work(self, ctx) -> None:
        self.log.append("work")
        self.left.append(current().remaining())
        self.begun.set()
        if self.failures:
            raise self.failures.pop(0)
        if ctx == "wait":
            await asyncio.Event().wait()

    def wait(self, ctx) -> None:
        self.log.append("wait")
        self.left.append(current().remaining())
        self.begun.set()
        wait_cancelled(PATIENCE)
        self.log.append(f"asked {cancelled()}")

    async def clean(self, ctx) -> None:
        self.log.append("clean")
        assert current().task.endswith("stages.build")
        self.cleaned.set()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def submit(site: Site, tmp_path) -> Iterator[Submit]:
    processor = (
        AsyncTaskProcessor[str]
        .builder()
        .add_task(AsyncTask("site", pre_execute=TaskFunction(lambda ctx: None), post_execute=TaskFunction(site.clean)))
        .add_task(AsyncTask("work", execute=TaskFunction(site.work)))
        .build()
    )
    threaded = (
        AsyncTaskProcessor[str]
        .builder()
        .add_task(AsyncTask("wait", execute=TaskFunction(site.wait), post_execute=TaskFunction(site.clean)))
        .build()
    )

    @task(name="stages.build", retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0), retry_on=[ConnectionError]))
    async def build(kind: str) -> str:
        await (threaded if kind == "thread" else processor).process_tasks(kind)
        return "built"

    url = f"memory://{tmp_path.name}"
    with BackgroundWorker(Worker(url, tasks=[build])), Client(url) as client:
        yield lambda kind, **options: client.submit(build.options(**options), kind)


def test_it_runs_and_the_cleanup_knows_the_task(submit: Submit, site: Site) -> None:
    handle = submit("plain")
    assert handle.result(timeout=PATIENCE) == "built"
    assert site.log == ["work", "clean"]
    assert site.left == [None]


@pytest.mark.parametrize("kind", ["wait", "thread"])
def test_a_cancel_reaches_the_functions_and_the_cleanup_runs(submit: Submit, site: Site, kind: str) -> None:
    handle = submit(kind)
    assert site.begun.wait(PATIENCE)
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(timeout=PATIENCE)
    assert site.log[-1] == "clean"
    assert kind == "wait" or site.log == ["wait", "asked True", "clean"]


@pytest.mark.parametrize("kind", ["wait", "thread"])
def test_the_deadline_of_the_task_is_the_deadline_of_the_plan(submit: Submit, site: Site, kind: str) -> None:
    handle = submit(kind, deadline_in=1.0)
    with pytest.raises(DeadlineExceeded):
        handle.result(timeout=PATIENCE)
    assert site.cleaned.wait(PATIENCE)
    assert site.log.count("clean") == 1
    (left,) = site.left
    assert left is not None
    assert 0 < left <= 1.0


def test_a_failure_has_the_type_of_what_failed_and_is_retried_for_it(submit: Submit, site: Site) -> None:
    site.failures += [ConnectionResetError("once"), ConnectionResetError("twice")]
    assert submit("plain").result(timeout=PATIENCE) == "built"
    assert site.log == ["work", "clean"] * 3
    site.failures.append(KeyError("for good"))
    with pytest.raises(TaskFailed) as caught:
        submit("plain").result(timeout=PATIENCE)
    assert "KeyError" in str(caught.value.type)


def test_what_a_function_rejects_is_rejected(submit: Submit, site: Site) -> None:
    site.failures.append(Reject("unwanted"))
    handle = submit("plain")
    assert handle.wait(timeout=PATIENCE).state is TaskState.DEAD_LETTERED
    assert site.log == ["work", "clean"]
