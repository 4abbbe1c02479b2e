"""The worker where the document says less: reporting, what cannot be run, the command's errors."""

from __future__ import annotations

import logging

import pytest

from tranship import AsyncClient
from tranship import Worker as CoreWorker
from tranship.cli._load import load_work
from tranship.compat.azolla import Task, TaskExecutionOutcome, Worker, WorkerInvocation, azolla_task, exceptions
from tranship.compat.azolla.cli import worker_main
from tranship.errors import InvalidOptionError, UnsupportedError


@azolla_task
async def half(number: int) -> float:
    if number % 2:
        raise exceptions.TaskError("it is odd", error_code="ODD", retryable=False, number=number)
    return number / 2


WORKER = Worker.builder().register_task(half).build()


def invocation(number, task_id="demo", name="half", endpoint="memory://unused"):
    return WorkerInvocation.from_json(task_id, name, f"[{number}]", "", endpoint)


async def test_execute_returns_what_the_task_did():
    done = await WORKER.execute(invocation(4))
    assert (done.task_id, done.outcome, done.value, done.error) == ("demo", TaskExecutionOutcome.SUCCESS, 2.0, None)
    assert done.task_result.success
    failed = await WORKER.execute(invocation(3))
    assert not failed.is_success()
    assert failed.error.to_dict() == {
        "message": "it is odd",
        "error_code": "ODD",
        "error_type": "TaskError",
        "retryable": False,
        "number": 3,
    }
    assert (await WORKER.execute(invocation('"4"'))).value == 2.0  # converted, as pydantic does it
    wrong = await WORKER.execute(invocation('"x"'))
    assert (wrong.error.error_code, wrong.error.retryable) == ("VALIDATION_ERROR", False)


async def test_a_task_that_is_not_registered_fails():
    missing = await WORKER.execute(invocation(4, name="third"))
    assert (missing.error.error_type, missing.error.retryable) == ("TaskNotFound", False)
    assert "third" in str(missing.error)
    assert "half" in str(missing.error)
    assert not (await Worker().execute(invocation(4))).is_success()


async def test_run_invocation_reports_to_whoever_waits(tranship_url):
    async with AsyncClient(tranship_url) as client:
        for number, expected in ((4, 2.0), (3, "ODD")):
            handle = await client.submit("half", number)
            await WORKER.run_invocation(invocation(number, handle.id, endpoint=tranship_url))
            result = await handle.wait(20)
            assert expected == (result.value if result.success else result.error.code)
            with pytest.raises(exceptions.WorkerError, match="had a result already"):
                await WORKER.run_invocation(invocation(8, handle.id, endpoint=tranship_url))
            assert (await client.handle(handle.id).wait(20)).value == result.value
        # The queue has them still: a worker of the broker answers them, and runs none again.
        worker = WORKER.worker(tranship_url)
        assert await worker.serve_until_idle(20) == 2


async def test_a_report_needs_a_broker():
    with pytest.raises(InvalidOptionError, match="spoken without TLS"):
        await WORKER.run_invocation(invocation(4, endpoint="https://127.0.0.1:50052"))
    with pytest.raises(exceptions.ConnectionError):
        await WORKER.run_invocation(invocation(4, endpoint="sqlite:////proc/no/such/folder.db"))


async def test_a_report_needs_a_result_store(tranship_service):
    pytest.importorskip("tranship_rabbitmq")
    url = tranship_service("rabbitmq").url
    with pytest.raises(UnsupportedError):
        await WORKER.run_invocation(invocation(4, endpoint=url))


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [("[1", "{}", "args is '\\[1'; expected JSON"), ("[]", "[1]", "kwargs is \\[1\\]; expected a JSON object")],
)
def test_json_that_cannot_be_read_is_named(args, kwargs, match):
    with pytest.raises(exceptions.WorkerError, match=match):
        WorkerInvocation.from_json("demo", "half", args, kwargs, "memory://")
    assert WorkerInvocation.from_json("demo", "half", "5", "", "memory://").args == [5]


def test_what_is_no_task_is_refused():
    class Forgotten(Task):
        async def execute(self, args): ...

    with pytest.raises(InvalidOptionError, match=r"make an object of it: Forgotten\(\)"):
        Worker.builder().register_task(Forgotten)
    with pytest.raises(InvalidOptionError, match="decorated with @azolla_task"):
        Worker().register_task(print)


def test_tranship_worker_finds_them(tmp_path, monkeypatch):
    (tmp_path / "azolla_module.py").write_text(
        "from tranship.compat.azolla import Worker, azolla_task\n"
        "@azolla_task\nasync def one(): ...\n"
        "worker = Worker.builder().register_task(one).build()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRANSHIP_BROKER_URL", "memory://")
    assert [one.name for one in load_work(["azolla_module"])] == ["one"]
    made = load_work(["azolla_module:worker"])
    assert isinstance(made, CoreWorker)
    assert list(made.tasks) == ["one"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--args", "[4]"], "completed successfully"),
        (["--args", "[3]"], "task demo failed: it is odd"),
        (["--args", "[4"], "args is '[4'; expected JSON"),
        (["--args", "$NOT_SET"], "args is '$NOT_SET'; expected JSON"),
        (["--name", "third"], "No implementation found for task: third; registered: half"),
        (["--task-modules", "no_such_module"], "module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (["--shepherd-endpoint", "https://127.0.0.1:50052"], "spoken without TLS"),
    ],
)
async def test_the_command_says_what_is_wrong(more, said, caplog, tranship_url):
    caplog.set_level(logging.INFO)
    given = ["--task-id", "demo", "--name", "half", "--shepherd-endpoint", tranship_url, "--task-modules", __name__]
    code = await worker_main([*given, *more])
    assert said in caplog.text
    assert not any(one.exc_info for one in caplog.records)  # of a task that failed the worker logs where
    assert code == (0 if "completed" in said else 1)


async def test_the_command_s_help_has_the_defaults_that_there_are(capsys):
    with pytest.raises(SystemExit):
        await worker_main(["--help"])
    said = capsys.readouterr().out
    assert "JSON array (default: [])" in " ".join(said.split())
    assert "default: None" not in said
