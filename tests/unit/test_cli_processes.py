"""`tranship worker --processes`: several processes, replaced when they end, and none left behind."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import APP, cli, fails, finish, ran, started, until, url_of

from tranship import Client, TaskHandle, TaskState, named
from tranship.cli._invocation import Invocation
from tranship.cli._work import WorkerOptions, _worker
from tranship.operations import Operator

MODULE = (
    APP
    + """
import os

held = []

@task
def pid() -> int:
    return os.getpid()

@task
def grow() -> int:
    held.append(b"x" * 200_000_000)
    return os.getpid()
"""
)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    (tmp_path / "app.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    with Client(url_of(tmp_path)) as client:
        yield client


def at_work(directory: Path, amount: int) -> dict[str, int]:
    """Wait for so many workers, and return their process ids by name."""
    with Operator(url_of(directory)) as operator:
        until(lambda: len(operator.workers()) == amount, 30)
        return {one.worker: one.pid or 0 for one in operator.workers()}


def running(client: Client, seconds: float) -> TaskHandle[Any]:
    """A task that has begun."""
    slow = client.submit(named("app.sleep", queue="slow"), seconds)
    until(lambda: slow.state() is TaskState.STARTED)
    return slow


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


class TestSignals:
    def test_a_signal_is_passed_on_once_and_what_runs_ends(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--processes", "2", "-n", "pair"], tmp_path) as parent:
            pids = at_work(tmp_path, 2)
            assert pids.keys() == {"pair-1", "pair-2"}
            assert parent.pid not in pids.values()
            slow = running(client, 0.7)
            parent.terminate()
            code, _, err = finish(parent)
            assert code == 0, err
            assert err.count("stopping (SIGTERM): finishing what runs") == 2, err
            assert "stopping at once" not in err
            assert slow.result(10) == "slept"
            assert not any(map(runs, pids.values()))

    def test_a_second_one_is_hard(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--processes", "2", "--shutdown-timeout", "60"], tmp_path) as parent:
            slow = running(client, 60.0)
            begun = time.monotonic()
            parent.send_signal(signal.SIGINT)
            until(lambda: not client.probe("slow", timeout=0.3).ok)
            parent.send_signal(signal.SIGINT)
            code, _, err = finish(parent, 30)
            assert code == 0, err
            assert "stopping at once" in err
            assert time.monotonic() - begun < 20
            assert slow.state() is not TaskState.SUCCESS


class TestNobodyIsLeft:
    def test_a_parent_that_is_killed_leaves_no_child_and_what_runs_ends(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--processes", "2"], tmp_path) as parent:
            pids = at_work(tmp_path, 2)
            slow = running(client, 1.0)
            parent.kill()
            assert slow.result(20) == "slept"
            until(lambda: not any(map(runs, pids.values())))

    def test_a_child_that_imports_still_ends_too(self, client: Client, tmp_path: Path) -> None:
        module = "import os, pathlib, time\npathlib.Path('new').write_text(str(os.getpid()))\n"
        (tmp_path / "long.py").write_text(module + "os.rename('new', 'pid')\ntime.sleep(600)\n")
        with started(["worker", "long", "--processes", "1"], tmp_path) as parent:
            until((tmp_path / "pid").exists)
            pid = int((tmp_path / "pid").read_text())
            parent.kill()
            until(lambda: not runs(pid))

    def test_neither_does_one_that_reloads(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--processes", "2", "--reload"], tmp_path) as watching:
            pids = at_work(tmp_path, 2)
            (tmp_path / "app.py").write_text(MODULE.replace("6 * 7", "6 * 7 + 1"))
            until(lambda: client.submit("app.fact").result(20) == 43)
            assert not any(map(runs, pids.values()))
            pids = at_work(tmp_path, 2)
            watching.kill()
            until(lambda: not any(map(runs, pids.values())))


class TestReplacing:
    def test_a_child_that_is_killed_is_replaced(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--processes", "1"], tmp_path) as parent:
            first = client.submit("app.pid").result(20)
            os.kill(first, signal.SIGKILL)
            assert client.submit("app.pid").result(20) != first
            parent.terminate()
            code, _, err = finish(parent)
            assert code == 0, err
            assert f"process 1 (pid {first}) has ended: SIGKILL; another takes its place in 0.5 s" in err

    def test_nothing_is_lost_where_processes_are_recycled(self, client: Client, tmp_path: Path) -> None:
        handles = [client.submit("app.pid") for _ in range(100)]
        line = ["worker", "app", "--processes", "2", "--max-tasks-per-process", "10", "-c", "2", "--burst"]
        code, _, err = ran(line, tmp_path, 60)
        assert code == 0, err
        done = Counter(handle.result(10) for handle in handles)
        assert sum(done.values()) == 100
        # What had been taken when the tenth ended is run, too.
        assert max(done.values()) <= 10 + 2 * 2, done
        assert err.count("tasks have ended; another process takes its place): finishing") == sum(
            count >= 10 for count in done.values()
        )

    def test_a_process_that_has_grown_is_replaced(self, client: Client, tmp_path: Path) -> None:
        with started(["worker", "app", "--max-memory-per-process", "200M"], tmp_path) as parent:
            small = client.submit("app.pid").result(20)
            assert client.submit("app.pid").result(20) == small
            assert client.submit("app.grow").result(20) == small
            until(lambda: not runs(small))
            assert client.submit("app.pid").result(20) != small
            parent.terminate()
            code, _, err = finish(parent)
            assert code == 0, err
            assert "stopping (its process occupies" in err


class TestMistakes:
    def test_a_crash_loop_ends_with_a_message(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "crash.py").write_text("import os\nos._exit(9)\n")
        code, out, err = ran(["worker", "crash", "--processes", "5"], tmp_path)
        assert (code, out) == (1, ""), err
        assert "exit code 9. It is the 5th in a row that ended before it consumed anything" in err
        assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("text", "code", "said"),
        [("1 / 0\n", 1, "error: importing module 'wrong' failed"), ("x = 1\n", 2, "module 'wrong' has no tasks")],
    )
    def test_what_is_wrong_with_all_is_told_once(
        self, client: Client, tmp_path: Path, text: str, code: int, said: str
    ) -> None:
        (tmp_path / "wrong.py").write_text(text)
        ended, _, err = ran(["worker", "wrong", "--processes", "4"], tmp_path)
        assert (ended, err.count(said)) == (code, 1), err

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--processes", "2", "-u", "memory://"], "is in the memory of one process"),
            (["--max-memory-per-process", "1M"], "--max-memory-per-process is 1.0 MiB, and a process occupies"),
        ],
    )
    def test_what_only_a_process_knows(self, client: Client, tmp_path: Path, options: list[str], said: str) -> None:
        code, _, err = ran(["worker", "app", *options], tmp_path)
        assert (code, err.count(said)) == (2, 1), err

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--processes", "0", "'0' is no whole number from 1 to"),
            ("--processes", "-1", "'-1' is no whole number"),
            ("--processes", "1001", "'1001' is no whole number from 1 to 1000"),
            ("--processes", "many", "'many' is no whole number"),
            ("--max-tasks-per-process", "0", "'0' is no whole number from 1 to"),
            ("--max-tasks-per-process", "2.5", "'2.5' is no whole number"),
            ("--max-memory-per-process", "0M", "'0M' is no size above 0"),
            ("--max-memory-per-process", "-5G", "'-5G' is no size above 0"),
            ("--max-memory-per-process", "512", "with a unit of K, M, G or T"),
            ("--max-memory-per-process", "much", "'much' is no size"),
        ],
    )
    def test_values_that_make_no_sense(self, option: str, value: str, said: str) -> None:
        assert option in fails(cli("worker", "app", f"{option}={value}"), 2, said)

    def test_other_options_are_checked_before_anything_is_started(self) -> None:
        fails(cli("worker", "app", "--processes", "2", "-c", "0"), 2, "max_concurrent_tasks is 0")

    def test_what_a_child_is_started_with_is_not_for_people(self) -> None:
        fails(cli("worker", "app", "--as-child"), 2, "--as-child", "see --processes")
        assert "--as-child" not in cli("worker", "--help").stdout


def made(**options: Any) -> Any:
    return _worker(Invocation(), WorkerOptions(processes=3, number=3, family="host-1", **options))


def test_each_process_has_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(tmp_path))
    here = ["tranship.cli._demo_tasks"]
    assert made(targets=here).name == "host-1-3"
    assert made(targets=here, name="mail").name == "mail-3"
    assert made(targets=here).settings.health_port is None
