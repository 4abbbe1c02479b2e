"""`tranship worker` as a process: signals, bursts, options, and modules that are not as they should be."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import APP, fails, finish, ran, started, until, url_of
from cli_kit import cli as in_process

from tranship import Client, TaskHandle, TaskState, Worker, named, task
from tranship.cli._load import ModuleFailedError, load_work
from tranship.cli._work import SWITCH_INTERVAL
from tranship.errors import ConfigurationError
from tranship.operations import Operator

BROKEN = {
    "raising": ("def f():\n    return 1 / 0\nf()\n", 1, "raising.py", "ZeroDivisionError: division by zero"),
    "syntax": ("def f(:\n", 1, "syntax.py", "SyntaxError"),
    "lacking": ("import no_such_dependency\n", 1, "lacking.py", "No module named 'no_such_dependency'"),
    "leaving": ("raise SystemExit(0)\n", 1, "leaving.py", "SystemExit"),
    "empty": ("x = 1\n", 2, "module 'empty' has no tasks"),
}


FORKING = """
import multiprocessing, os, select, signal, time
from tranship import task

def sleep(writer):
    os.close(2)
    os.write(writer, b"up")
    time.sleep(60)

@task
def child(how: str) -> int:
    reader, writer = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=sleep, args=(writer,))
    child.start()
    if how != "at once":
        os.read(reader, 2)
    os.kill(child.pid, signal.SIGINT if how == "interrupted" else signal.SIGTERM)
    child.join(10)
    code = child.exitcode
    child.kill()
    return code
"""
"""Starts a child by fork, sends it a signal, and returns its exit code."""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def client(directory: Path) -> Iterator[Client]:
    with Client(url_of(directory)) as client:
        yield client


def on_slow(client: Client, name: str, *args: object) -> TaskHandle[Any]:
    """Submit a task of the user's module to the queue it is in."""
    return client.submit(named(name, queue="slow"), *args)


def test_log_lines_are_json_by_option(client: Client, directory: Path) -> None:
    good, bad = client.submit(named("app.add"), 1, 2), client.submit(named("app.fail"))
    code, _, err = ran(["worker", "app", "--burst", "--log-format", "json"], directory)
    assert code == 0, err
    lines = [json.loads(line) for line in err.splitlines()]
    ends = {line["id"]: line for line in lines if "outcome" in line}
    assert {name: ends[good.id][name] for name in ("task", "attempt", "queue", "outcome")} == {
        "task": "app.add",
        "attempt": 0,
        "queue": "default",
        "outcome": "succeeded",
    }
    assert (ends[bad.id]["outcome"], ends[bad.id]["level"]) == ("failed", "WARNING")
    assert 0 <= ends[good.id]["duration"] < 20


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_the_running_task_end(self, client: Client, directory: Path, number: signal.Signals) -> None:
        with started(["worker", "app"], directory) as worker:
            slow = on_slow(client, "app.sleep", 0.7)
            until(lambda: slow.state() is TaskState.STARTED)
            worker.send_signal(number)
            code, _, err = finish(worker)
            assert code == 0, err
            assert "Traceback" not in err
            assert slow.result(5) == "slept"

    def test_a_second_signal_hurries(self, client: Client, directory: Path) -> None:
        slow = on_slow(client, "app.sleep", 60.0)
        with started(["worker", "app", "--shutdown-timeout", "60"], directory) as worker:
            until(lambda: slow.state() is TaskState.STARTED)
            begun = time.monotonic()
            worker.terminate()
            until(lambda: not client.probe("slow", timeout=0.3).ok)
            worker.terminate()
            code, _, err = finish(worker, 30)
            assert code == 0, err
            assert "stopping at once" in err
            assert time.monotonic() - begun < 20
            assert slow.state() is not TaskState.SUCCESS

    def test_a_thread_that_hangs_does_not_keep_the_process(self, client: Client, directory: Path) -> None:
        stuck = on_slow(client, "app.stuck")
        with started(["worker", "app", "--shutdown-timeout", "0.2"], directory) as worker:
            until(lambda: stuck.state() is TaskState.STARTED)
            worker.terminate()
            code, _, err = finish(worker, 30)
            assert code == 0, err

    def test_a_burst_can_be_stopped(self, client: Client, directory: Path) -> None:
        slow = on_slow(client, "app.sleep", 60.0)
        with started(["worker", "app", "--burst", "--shutdown-timeout", "0.2"], directory) as worker:
            until(lambda: slow.state() is TaskState.STARTED)
            worker.terminate()
            assert finish(worker, 30)[0] == 0

    def test_a_signal_for_a_forked_child_is_the_childs(self, client: Client, directory: Path) -> None:
        (directory / "forking.py").write_text(FORKING)
        with started(["worker", "forking"], directory) as worker:
            handles = [client.submit("forking.child", how) for how in ("at once", "later", "interrupted")]
            assert [handle.result(20) for handle in handles] == [-15, -15, 1]
            # It has not heard of it.
            assert client.submit("forking.child", "at once").result(20) == -15
            assert worker.poll() is None
            worker.terminate()
            code, _, err = finish(worker)
            assert code == 0, err
            assert err.count("stopping") == 1, err


class TestAway:
    """Nobody answers."""

    NOBODY = "redis://127.0.0.1:1/0"

    @pytest.mark.parametrize("options", [("--wait-for-broker", "0"), ("--wait-for-broker", "0.3"), ("--burst",)])
    def test_it_waits_as_long_as_it_is_told_to(self, directory: Path, options: tuple[str, ...]) -> None:
        pytest.importorskip("tranship_redis")
        code, out, err = ran(["worker", "app", "-u", self.NOBODY, *options], directory)
        assert (code, out) == (3, ""), err
        assert "error: cannot connect to 127.0.0.1:1" in err
        assert err.count("waiting for the broker") == (1 if "0.3" in options else 0), err

    def test_it_waits_without_end_and_a_signal_ends_that(self, directory: Path) -> None:
        pytest.importorskip("tranship_redis")
        with started(["worker", "app", "-u", self.NOBODY], directory) as worker:
            assert worker.stderr is not None
            first = worker.stderr.readline()
            while "waiting for the broker" not in first:
                assert worker.poll() is None, first
                first = worker.stderr.readline()
            worker.terminate()
            code, _, err = finish(worker)
            assert code == 0, err
            assert "stops: SIGTERM; it was not at work yet" in err


class TestRunning:
    def test_a_burst_ends_when_everything_is_done(self, client: Client, directory: Path) -> None:
        handles = [client.submit("app.add", number) for number in range(20)]
        code, out, err = ran(["worker", "app", "--burst"], directory)
        assert (code, out) == (0, ""), err
        assert [handle.result(10) for handle in handles] == list(range(1, 21))
        assert "20 deliveries done" in err
        assert "tranship.worker: worker " in err

    def test_quiet_says_nothing(self, client: Client, directory: Path) -> None:
        client.submit("app.add", 1)
        assert ran(["worker", "app", "--burst", "--quiet"], directory) == (0, "", "")

    def test_several_modules(self, client: Client, directory: Path) -> None:
        (directory / "more.py").write_text("from tranship import task\n@task\ndef three() -> int:\n    return 3\n")
        handles = [client.submit("app.fact"), client.submit("more.three")]
        assert ran(["worker", "app", "more", "--burst"], directory)[0] == 0
        assert [handle.result(10) for handle in handles] == [42, 3]

    def test_a_worker_object_that_is_passed_over_is_told(self, client: Client, directory: Path) -> None:
        (directory / "more.py").write_text("from tranship import task\n@task\ndef three() -> int:\n    return 3\n")
        _, _, err = ran(["worker", "app", "more", "--burst"], directory)
        assert err.count("is not run") == 1
        assert "app:worker is not run, its module's tasks are: `tranship worker app:worker` runs it" in err
        _, _, err = ran(["worker", "app:worker", "-u", url_of(directory), "--burst"], directory)
        assert "is not run" not in err

    def test_options_go_over_those_of_a_worker_object(self, client: Client, directory: Path) -> None:
        options = ["-u", url_of(directory), "-n", "chosen", "-c", "7", "-q", "a,b", "-q", "c"]
        with started(["worker", "app:worker", *options], directory) as worker:
            operator = Operator(url_of(directory))
            try:
                until(lambda: bool(operator.workers()))
                (beat,) = operator.workers()
                assert (beat.worker, beat.limit, list(beat.queues)) == ("chosen", 7, ["a", "b", "c"])
            finally:
                operator.close()
                worker.terminate()
                assert finish(worker)[0] == 0

    def test_the_users_own_logging_stays(self, client: Client, directory: Path) -> None:
        module = "import logging\nlogging.basicConfig(format='mine %(message)s', level=logging.INFO)\n" + APP
        (directory / "logging_app.py").write_text(module)
        client.submit("logging_app.fact")
        _, _, err = ran(["worker", "logging_app", "--burst"], directory)
        assert "mine task " in err

    def test_a_broker_that_cannot_be_used_ends_it(self, directory: Path) -> None:
        (directory / "tasks.db").write_bytes(b"no database at all, just text" * 50)
        code, _, err = ran(["worker", "app"], directory)
        assert code == 1
        assert "error: the database" in err
        assert "Traceback" not in err


class TestModules:
    @pytest.mark.parametrize("name", BROKEN)
    def test_what_is_broken_is_told_with_the_users_frames(self, directory: Path, name: str) -> None:
        text, code, *expected = BROKEN[name]
        (directory / f"{name}.py").write_text(text)
        ended, _, err = ran(["worker", name], directory)
        assert ended == code
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert "importlib" not in err
        assert "tranship/cli" not in err
        for part in expected:
            assert part in err

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("no_such_module", "there is no module 'no_such_module'"),
            ("ap", "did you mean 'app'"),
            ("app.py", "give the module's name: 'app'"),
            ("pkg/app.py", "give the module's name: 'pkg.app'"),
            ("app.nothing", "there is no module 'app.nothing'"),
            ("app:wrker", "'app' has no 'wrker'; did you mean 'worker'"),
            ("app:", "names no object"),
            ("app:number", "is an int; expected a Worker"),
            ("9app", "is no module name"),
            (":worker", "is no module name"),
        ],
    )
    def test_what_is_not_there_is_told(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
    ) -> None:
        monkeypatch.syspath_prepend(str(directory))
        with pytest.raises(ConfigurationError) as caught:
            load_work([target])
        assert message in str(caught.value)

    def test_options_that_make_no_sense(self) -> None:
        here = "tranship.cli._demo_tasks"
        fails(in_process("worker", here, "-c", "0"), 2, "max_concurrent_tasks is 0")
        fails(in_process("worker", here, "--shutdown-timeout", "-1"), 2, "shutdown_timeout is -1.0")
        fails(in_process("worker", here, "-q", ","), 2, "queues is []")
        fails(in_process("worker"), 2, "MODULE[:OBJECT]")

    def test_workers_and_tasks_are_found(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / "found.py").write_text(APP)
        monkeypatch.syspath_prepend(str(directory))
        assert isinstance(load_work(["found:worker"]), Worker)
        tasks = load_work(["found"])
        assert isinstance(tasks, list)
        assert {one.name for one in tasks} == {f"found.{name}" for name in ("add", "fail", "sleep", "stuck", "fact")}
        single = load_work(["found:fact"])
        assert isinstance(single, list)
        assert [one.name for one in single] == ["found.fact"]
        with pytest.raises(ConfigurationError, match="runs alone"):
            load_work(["found:worker", "found"])

    def test_the_native_error_is_the_cause(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (directory / "raises_here.py").write_text("1 / 0\n")
        monkeypatch.syspath_prepend(str(directory))
        with pytest.raises(ModuleFailedError) as caught:
            load_work(["raises_here"])
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_switch_interval_is_lowered_for_the_worker_only(tmp_path: Path) -> None:
    import sys

    before, seen = sys.getswitchinterval(), []

    @task(name="cli.look")
    def look() -> None:
        seen.append(sys.getswitchinterval())

    sys.modules["cli_look"] = module = type(sys)("cli_look")
    module.look = look
    try:
        with Client(url_of(tmp_path)) as client:
            client.submit(look)
        assert in_process("worker", "cli_look", "--burst", "-u", url_of(tmp_path)).exit_code == 0
    finally:
        del sys.modules["cli_look"]
    assert seen == [pytest.approx(SWITCH_INTERVAL)]
    assert sys.getswitchinterval() == before


def test_a_replaced_worker_keeps_what_is_not_given() -> None:
    @task(name="cli.nothing", queue="own")
    def nothing() -> None: ...

    worker = Worker("memory://", tasks=[nothing], max_concurrent_tasks=3, name="w")
    other = worker.replace(name="v", max_deliveries=9, broker_url=None)
    assert (other.name, other.queues, other.settings.max_concurrent_tasks, other.settings.max_deliveries) == (
        "v",
        ["own"],
        3,
        9,
    )
    assert worker.settings.max_deliveries == 5


class TestLookingOn:
    """`tranship workers` and `tranship tasks`."""

    def test_workers_and_what_they_run(self, client: Client, directory: Path) -> None:
        at = ["-u", url_of(directory)]
        said = in_process("workers", *at)
        assert (said.exit_code, said.stdout) == (0, "")
        assert "no worker was heard of" in said.stderr
        assert json.loads(in_process("workers", *at, "--json").stdout) == []
        with started(["worker", "app", "-n", "chosen", "-c", "7"], directory) as worker:
            slow = on_slow(client, "app.sleep", 60.0)
            until(lambda: slow.state() is TaskState.STARTED)
            until(lambda: bool(json.loads(in_process("tasks", *at, "--json").stdout)))
            (task,) = json.loads(in_process("tasks", *at, "--json").stdout)
            assert (task["id"], task["task"], task["queue"], task["worker"]) == (slow.id, "app.sleep", "slow", "chosen")
            assert 0 <= time.time() - task["since"] < 60
            shown = in_process("tasks", *at).stdout
            assert slow.id in shown
            assert "app.sleep" in shown
            (beat,) = json.loads(in_process("workers", *at, "--json").stdout)
            assert (beat["worker"], beat["limit"], beat["busy"], beat["free"]) == ("chosen", 7, 1, 6)
            assert beat["pid"] == worker.pid
            shown = in_process("workers", *at).stdout
            assert "chosen" in shown
            assert "1/7" in shown
            worker.kill()
