"""Results kept somewhere else than at the broker: the same promises."""

import pytest

from tranship import Client, Reject, TaskState, Worker, task
from tranship.errors import InvalidArgumentsError, InvalidOptionError, TaskDeadLettered
from tranship.operations import Operator


@pytest.fixture
def urls(tmp_path):
    return {"url": f"memory://{tmp_path.name}", "result_url": f"sqlite:///{tmp_path}/results.db"}


@task(name="elsewhere.add")
async def add(a: int, b: int) -> int:
    return a + b


VERDICTS = []


@task(name="elsewhere.picky")
async def picky() -> str:
    if VERDICTS:
        raise Reject(VERDICTS.pop())
    return "fine"


def test_a_cancelled_task_that_was_queued_is_told_to_who_waits(urls):
    with Client(**urls) as client:
        handle = client.submit(add, 1, 2)
        handle.cancel()
        assert handle.wait(5).state is TaskState.CANCELLED


def test_a_replayed_task_gets_its_new_result(urls):
    VERDICTS[:] = ["not-today"]
    with Client(**urls) as client, Operator(**urls) as operator:
        worker = Worker(**urls, tasks=[picky])
        first = client.submit(picky)
        worker.run_until_idle(20)
        with pytest.raises(TaskDeadLettered) as caught:
            first.result(5)
        assert caught.value.details["reason"] == "not-today"
        assert operator.replay() != []
        worker.run_until_idle(20)
        assert client.handle(first.id).result(5) == "fine"


def test_remote_tracebacks_begin_in_the_handler(urls):
    @task(name="elsewhere.boom")
    def boom() -> None:
        raise ValueError("boom")

    with Client(**urls) as client:
        handle = client.submit(boom)
        Worker(**urls, tasks=[boom]).run_until_idle(20)
        error = handle.wait(5).error
        assert error is not None
        assert error.traceback is not None
        assert "tranship/worker" not in error.traceback
        assert error.traceback.splitlines()[-1] == "ValueError: boom"


def test_one_where_several_are_expected_is_said(urls):
    with pytest.raises(InvalidOptionError, match="tasks is"):
        Worker(**urls, tasks=add)
    with Client(**urls) as client:
        handle = client.submit(add, 1, 2)
        for call, value in (
            (client.submit_many, add.call(1, 2)),
            (client.collect, handle),
            (client.collect, [handle.id]),
            (client.forget, handle.id),
            (client.forget, [1]),
        ):
            with pytest.raises(InvalidArgumentsError):
                call(value)
