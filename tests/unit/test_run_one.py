"""One call in this process, with no broker: from code and as a command."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import cli, fails, finish, own_directory, ran, started

from tranship import FixedBackoff, RetryPolicy, TaskState, Worker, current, named, task
from tranship.errors import ConfigurationError, InvalidArgumentsError

MODULE = """
import os, sys, time
from tranship import FixedBackoff, RetryPolicy, Worker, current, task

@task
def add(a: int, b: int = 1) -> int:
    print("from a handler")
    os.system("echo from a program")
    return a + b

@task(retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.05)), queue="other queue")
async def flaky() -> int:
    if current().attempt < 2:
        raise ConnectionError("not yet")
    return current().attempt

@task
def slow() -> None:
    print("begun", file=sys.stderr, flush=True)
    current().wait_cancelled(60)

worker = Worker("redis://127.0.0.1:1/0", tasks=[add, flaky, slow], result_url="redis://127.0.0.1:1/1", shutdown_timeout=0.2)
"""


@task(name="one.double", store_result=False)
async def double(number: int) -> int:
    return 2 * number


@task(name="one.flaky", retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.05)))
async def flaky() -> int:
    if current().attempt < 2:
        raise ConnectionError("not yet")
    return current().attempt


@task(name="one.hold")
def hold() -> None:
    current().wait_cancelled(30)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(tmp_path, monkeypatch):
        (tmp_path / "jobs.py").write_text(MODULE)
        yield


class TestFromCode:
    def worker(self) -> Worker:
        # Nobody is at this broker.
        return Worker("redis://127.0.0.1:1/0", tasks=[double, flaky, hold])

    def test_its_result_is_returned_and_no_broker_is_asked(self) -> None:
        result = self.worker().run_one(double.call(4))
        assert (result.state, result.value) == (TaskState.SUCCESS, 8)

    def test_it_is_tried_again_as_it_says(self) -> None:
        result = self.worker().run_one(flaky.call())
        assert (result.value, result.attempt) == (2, 2)

    async def test_on_a_running_loop(self) -> None:
        assert (await self.worker().serve_one(double.options(task_id="mine").call(1))).id == "mine"
        with pytest.raises(ConfigurationError, match="serve_one"):
            self.worker().run_one(double.call(1))

    def test_one_that_takes_too_long_has_not_ended(self) -> None:
        result = self.worker().replace(shutdown_timeout=0.1).run_one(hold.call(), timeout=0.3)
        assert result.state is TaskState.PENDING

    @pytest.mark.parametrize("call", [named("other").call(), "one.double", None])
    def test_what_is_no_call_of_its_tasks_is_refused(self, call) -> None:
        with pytest.raises(ConfigurationError, match=r"no task 'other'|expected what task\.call"):
            self.worker().run_one(call)

    def test_arguments_that_do_not_fit_are_refused_before(self) -> None:
        with pytest.raises(InvalidArgumentsError):
            double.call()  # type: ignore[call-arg]


class TestCommand:
    def test_only_the_result_is_on_stdout(self, tmp_path: Path) -> None:
        code, out, err = ran(
            ["run-one", "jobs:worker", '{"task": "jobs.add", "args": [1], "kwargs": {"b": 4}}'], tmp_path
        )
        assert code == 0, err
        found = json.loads(out)
        assert (found["task"], found["state"], found["value"]) == ("jobs.add", "SUCCESS", 5)
        assert "from a handler" in err
        assert "from a program" in err

    def test_from_stdin_by_module_with_id_and_retries(self, tmp_path: Path) -> None:
        said = cli("run-one", "jobs", input='{"task": "jobs.flaky", "id": "mine", "headers": {"a": "b"}}')
        assert said.exit_code == 0, said.stderr
        assert json.loads(said.stdout)["id"] == "mine"
        assert json.loads(said.stdout)["attempt"] == 2

    def test_one_task_needs_no_name(self) -> None:
        assert json.loads(cli("run-one", "jobs:flaky", "{}").stdout)["value"] == 2

    def test_a_failure_is_told_by_the_exit_code(self) -> None:
        said = cli("run-one", "app:fail", "{}")
        assert said.exit_code == 4
        found = json.loads(said.stdout)
        assert (found["state"], found["error"]["message"]) == ("FAILURE", "on purpose")

    @pytest.mark.parametrize("args", ["[1, 2, 3]", '["x"]', "[]"])
    def test_arguments_that_do_not_fit_are_a_failure(self, args: str) -> None:
        said = cli("run-one", "jobs:add", f'{{"args": {args}}}')
        assert said.exit_code == 4, said.stderr
        found = json.loads(said.stdout)
        assert (found["state"], found["error"]["code"]) == ("FAILURE", "INVALID_ARGUMENTS")

    def test_arguments_are_data_that_has_arrived(self) -> None:
        assert json.loads(cli("run-one", "jobs:add", '{"args": ["1"], "kwargs": {"b": 2.0}}').stdout)["value"] == 3

    def test_out_of_time_it_has_not_ended(self) -> None:
        said = cli("run-one", "jobs:slow", "{}", "--timeout", "0.3")
        assert said.exit_code == 4
        assert json.loads(said.stdout)["state"] == "PENDING"
        assert "has not ended" in said.stderr

    def test_a_signal_ends_it(self, tmp_path: Path) -> None:
        with started(["run-one", "jobs:worker", '{"task": "jobs.slow"}'], tmp_path) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            code, out, err = finish(process)
            assert code == 4, err
            assert json.loads(out)["state"] == "PENDING"
            assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("", "it is empty"),
            ("{", "it is no JSON"),
            ("[" * 100_000, "it is no JSON"),
            ("[]", "it is no JSON object"),
            ('{"tsk": 1}', "did you mean 'task'"),
            ("{}", 'it has no "task"; there is jobs.add'),
            ('{"task": "jobs.ad"}', "did you mean 'jobs.add'"),
            ('{"task": 7}', "there is no task 7"),
            ('{"task": "jobs.add", "args": 1}', "args is 1; expected a list"),
            ('{"task": "jobs.add", "kwargs": []}', "kwargs is []; expected an object"),
            ('{"task": "jobs.add", "args": [1], "id": 3}', "task_id is 3"),
        ],
    )
    def test_a_call_that_makes_no_sense_is_told(self, call: str, message: str) -> None:
        fails(cli("run-one", "jobs", call), 2, message)

    def test_other_mistakes(self) -> None:
        fails(cli("run-one", "jobs", '{"task": "jobs.slow"}', "--timeout", "0"), 2, "--timeout is 0")
        fails(cli("run-one", "nothing", "{}"), 2, "no module 'nothing'")
