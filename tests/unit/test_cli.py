"""The commands that look and act, and mistakes on purpose: one clear line, never a traceback."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import cli, environment, fails, own_directory, url_of

from tranship import Client, FixedBackoff, Outcome, RetryPolicy, TaskState, Worker, named, task
from tranship.cli._errors import ExitCode
from tranship.envelope import Envelope, new_id
from tranship.errors import Reject
from tranship.protocol import Encoder
from tranship.registry import Registry
from tranship.testing.background import BackgroundWorker


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(tmp_path, monkeypatch):
        yield


@task(name="cli.double")
def double(number: int) -> int:
    return 2 * number


@task(name="cli.refuse")
def refuse() -> None:
    raise Reject("no-thanks")


@task(name="cli.review", store_result=False)
def review() -> Outcome[str]:
    return Outcome("needs_manual_review", "blurred")


@task(name="cli.fail")
def fail() -> None:
    raise ValueError("on purpose")


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as client:
        yield client


def work() -> None:
    Worker(tasks=[double, refuse, review, fail]).run_until_idle(20)


class TestProgram:
    def test_help_names_every_command(self) -> None:
        said = cli("--help").stdout
        for name in [
            "demo",
            "worker",
            "submit",
            "result",
            "cancel",
            "queues",
            "dead",
            "plugins",
            "doctor",
            "config",
            "--url",
            "--json",
        ]:
            assert name in said

    def test_nothing_is_help(self) -> None:
        assert "Usage" in cli().output

    def test_the_version_is_printed(self) -> None:
        assert cli("--version").stdout.startswith("tranship ")

    def test_help_loads_nothing_heavy(self) -> None:
        heavy = ["asyncio", "sqlite3", "pluggy", "pydantic", "tranship.client", "tranship.worker", "tranship.sync"]
        code = f"import sys; import tranship.cli._app; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_shell_completion(self) -> None:
        words = {"_TRANSHIP_COMPLETE": "complete_bash", "COMP_WORDS": "tranship qu", "COMP_CWORD": "1"}
        assert cli(env=words).stdout.split() == ["queues"]

    def test_global_options_stand_before_or_behind_the_command(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/other.db"
        for arguments in (("-u", url, "--json", "config"), ("config", "--json", "-u", url)):
            rows = {row["name"]: row for row in json.loads(cli(*arguments).stdout)}
            assert (rows["broker_url"]["value"], rows["broker_url"]["origin"]) == (url, "argument")

    def test_debug_shows_the_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRANSHIP_DEBUG", "1")
        assert "Traceback" in cli("queues", "-u", "nonsense").stderr

    def test_a_reader_that_has_gone_is_no_error(self, tmp_path: Path) -> None:
        code = f"'{sys.executable}' -m tranship config | true"
        done = subprocess.run(
            ["bash", "-c", code], check=False, env=environment(tmp_path), capture_output=True, text=True
        )
        assert done.stderr == ""


class TestSubmitAndResult:
    def test_submit_prints_the_id(self, client: Client) -> None:
        done = cli("submit", "cli.double", "21")
        assert done.exit_code == 0
        work()
        task_id = done.stdout.strip()
        assert client.handle(task_id).result(5) == 42
        assert cli("result", task_id).stdout == "42\n"
        shown = json.loads(cli("result", task_id, "--json").stdout)
        assert (shown["id"], shown["state"], shown["value"]) == (task_id, "SUCCESS", 42)

    def test_options_and_keywords(self, client: Client) -> None:
        options = "--queue q --priority high --delay 100 --deadline-in 200 --cancel-key k --id chosen"
        done = cli("submit", "x.y", "text", "--kwarg", "a=[1]", "--kwargs", '{"a": 0, "b": null}', *options.split())
        assert done.stdout == "chosen\n"
        assert client.handle("chosen").state() is TaskState.SCHEDULED
        assert json.loads(cli("queues", "--json").stdout)[0]["delayed"] == 1
        assert json.loads(cli("cancel", "k", "--json").stdout) == {"removed": ["chosen"]}
        fails(cli("result", "chosen"), ExitCode.TASK, "chosen is CANCELLED")

    def test_a_cancel_says_what_is_true(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        task_id = cli("submit", "cli.double", "1", "--cancel-key", "k").stdout.strip()
        recorded = f"the cancel of task {task_id} is recorded; "
        assert cli("cancel", "--id", task_id).stdout == f"{recorded}it has ended as CANCELLED\n"
        assert json.loads(cli("cancel", "--id", "nope", "--json").stdout) == {"removed": [], "state": "UNKNOWN"}
        assert "there is no such task now: one that is submitted under" in cli("cancel", "--id", "nope").stdout
        done = client.submit("cli.double", 1)
        work()
        assert "it had ended before: SUCCESS" in cli("cancel", "--id", done.id).stdout
        said = "the cancel of key 'k' is recorded; 0 tasks have ended at once, workers end the rest\n"
        assert cli("cancel", "k").stdout == said
        monkeypatch.setenv("TRANSHIP_RESULT_URL", f"sqlite:///{Path.cwd()}/results.db")
        assert "whether there is such a task, this broker cannot tell" in cli("cancel", "--id", "nope").stdout

    def test_a_taken_dedup_key_is_told(self) -> None:
        first = json.loads(cli("submit", "x.y", "--dedup-key", "k", "--json").stdout)
        again = json.loads(cli("submit", "x.y", "--dedup-key", "k", "--json").stdout)
        assert again == {"id": first["id"], "duplicate": True}

    def test_a_task_by_module_has_its_own_options_and_its_arguments_checked(self) -> None:
        assert cli("submit", "app:sleep", "0.5").exit_code == 0
        assert json.loads(cli("queues", "--json").stdout)[0]["name"] == "slow"
        fails(cli("submit", "app:add", "1", "2", "3"), ExitCode.USAGE, "app.add(a: int, b: int = 1)", "too many")

    def test_waiting_too_long(self) -> None:
        fails(
            cli("submit", "cli.double", "1", "--wait", "0.05", "--quiet"), ExitCode.TASK, "had not ended within 0.05 s"
        )

    def test_what_is_pending_has_no_result_yet(self) -> None:
        task_id = cli("submit", "cli.double", "1").stdout.strip()
        fails(cli("result", task_id), ExitCode.FAILURE, "is PENDING", "--wait")

    def test_a_failure_is_told(self, client: Client) -> None:
        task_id = client.submit(fail).id
        work()
        fails(cli("result", task_id), ExitCode.TASK, "FAILURE: builtins.ValueError: on purpose")
        assert 'raise ValueError("on purpose")' in cli("result", task_id, "-v").stderr

    def test_waiting_without_a_number_waits(self, client: Client) -> None:
        task_id = client.submit(double, 4).id
        work()
        assert cli("result", "--wait", task_id).stdout == "8\n"
        assert cli("result", task_id, "-w").stdout == "8\n"

    def test_an_unknown_id_is_no_success(self) -> None:
        fails(cli("result", "nope"), ExitCode.FAILURE, "nope is UNKNOWN")
        fails(cli("result", "nope", "--wait", "5"), ExitCode.FAILURE, "nope is UNKNOWN")

    def test_a_status_of_its_own_is_told_beside_the_value(self, client: Client) -> None:
        handle = client.submit(named("cli.review", store_result=True))
        work()
        shown = cli("result", handle.id)
        assert (shown.stdout, shown.stderr) == ("blurred\n", "status: needs_manual_review\n")
        assert cli("result", handle.id, "--quiet").stderr == ""

    def test_who_waits_says_that_the_result_is_wanted(self) -> None:
        with BackgroundWorker(Worker(tasks=[review])):
            assert cli("submit", "cli.review", "--wait", "20").stdout == "blurred\n"

    def test_an_unknown_task_ends_among_the_dead_letters(self) -> None:
        task_id = cli("submit", "cli.nobody").stdout.strip()
        work()
        fails(cli("result", task_id), ExitCode.TASK, "DEAD_LETTERED", "cli.nobody")


class TestOperating:
    def test_queues(self, client: Client) -> None:
        assert "no queues" in cli("queues").stderr
        client.submit(double.options(priority="low"), 1)
        assert "default" in cli("queues").stdout
        (queue,) = json.loads(cli("queues", "--json").stdout)
        assert queue["ready"] == {"high": 0, "normal": 0, "low": 1, "very_low": 0}

    def test_dead_letters(self, client: Client) -> None:
        assert "no dead letters" in cli("dead", "list").stderr
        handle = client.submit(refuse)
        work()
        (letter,) = json.loads(cli("dead", "list", "--json").stdout)
        assert (letter["task_id"], letter["reason"]) == (handle.id, "no-thanks")
        assert letter["id"] in cli("dead", "list").stdout
        assert (letter["attempt"], letter["deliveries"]) == (0, 1)
        shown = cli("dead", "show", handle.id).stdout
        assert "no-thanks" in shown
        assert "Reject" in shown
        assert json.loads(cli("dead", "show", letter["id"], "--json").stdout)["args"] == []
        assert cli("dead", "replay", letter["id"]).stdout == "1 replayed\n"
        work()
        assert json.loads(cli("dead", "purge", "--all", "--yes", "--json").stdout) == {"purged": 1}

    def test_a_dead_letter_says_which_attempt_it_died_in_and_how_often_that_came_again(self, client: Client) -> None:
        client.submit(fail.options(retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01))))
        work()
        (letter,) = json.loads(cli("dead", "list", "--json").stdout)
        assert (letter["reason"], letter["attempt"], letter["deliveries"]) == ("retries-exhausted", 1, 1)
        head, _, row = cli("dead", "list").stdout.strip().split("\n")
        assert head.split() == ["id", "task", "queue", "reason", "age", "attempt", "redelivered", "detail"]
        assert row.endswith("on purpose")
        assert row.split()[-9:-5] == ["2", "0", "attempt", "2"]
        shown = cli("dead", "show", letter["id"])
        assert "attempt     2\n" in shown.stdout
        assert "redelivered 0\n" in shown.stdout
        assert json.loads(cli("dead", "show", letter["id"], "--json").stdout)["attempt"] == 1

    def test_purge_asks_first(self, client: Client) -> None:
        client.submit(refuse)
        work()
        for answer in ("n\n", ""):
            said = cli("dead", "purge", "--all", input=answer)
            assert said.exit_code == ExitCode.FAILURE
            assert "Delete 1 dead letter(s)" in said.stderr
            assert "error: nothing was deleted" in said.stderr
        assert cli("dead", "purge", "--all", input="y\n").stdout == "1 purged\n"

    def test_purge_and_replay_want_to_know_what(self) -> None:
        for action in ("purge", "replay"):
            fails(cli("dead", action), ExitCode.USAGE, "--all")
            fails(cli("dead", action, "x", "--all"), ExitCode.USAGE, "--all")
            assert "not found" in cli("dead", action, "nope", *(["--yes"] if action == "purge" else [])).stderr

    async def test_an_unreadable_dead_letter_is_shown_with_its_reason(self, tmp_path: Path) -> None:
        message = Encoder().encode(Envelope(id=new_id(), task="cli.broken"))
        message.body = b"\xff\xfe no JSON"
        backend = Registry(entry_points=False).create(url_of(tmp_path))
        await backend.open()
        await backend.submitter().submit([message])
        await backend.aclose()
        await asyncio.to_thread(work)
        letter = json.loads((await asyncio.to_thread(cli, "dead", "list", "--json")).stdout)[0]
        shown = (await asyncio.to_thread(cli, "dead", "show", letter["id"])).stdout
        assert "unreadable" in shown
        assert "no JSON" in shown

    def test_plugins(self) -> None:
        assert "sqlite://" in cli("plugins").stdout
        builtin = json.loads(cli("plugins", "--json").stdout)[0]
        assert {backend["name"] for backend in builtin["backends"]} == {"memory", "routing", "sqlite"}

    def test_a_plugin_that_is_missing_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRANSHIP_LOAD_PLUGINS", "nosuch")
        assert "missing" in cli("plugins").stdout
        assert "nosuch" in cli("doctor").stdout

    def test_config_names_value_origin_and_variable(self) -> None:
        rows = {row["name"]: row for row in json.loads(cli("config", "--json").stdout)}
        assert rows["broker_url"]["origin"] == "environment TRANSHIP_BROKER_URL"
        assert rows["shutdown_timeout"] == {
            "name": "shutdown_timeout",
            "value": "30.0",
            "origin": "default",
            "variable": "TRANSHIP_SHUTDOWN_TIMEOUT",
        }
        assert "TRANSHIP_MAX_DELIVERIES" in cli("config").stdout

    def test_doctor(self, client: Client) -> None:
        client.submit(double, 1)
        done = cli("doctor")
        assert done.exit_code == 0
        for text in ("connected in", "fused-settle", "native", "no worker consumes it", "TRANSHIP_BROKER_URL"):
            assert text in done.stdout
        shown = json.loads(cli("doctor", url_of(Path.cwd()), "--json").stdout)
        assert shown["ok"]
        assert shown["reached"][0]["capabilities"]["priority"]["support"] == "native"
        assert "members" not in shown["reached"][0]

    def test_doctor_of_several_brokers(self, tmp_path: Path) -> None:
        (tmp_path / "bad.db").write_bytes(b"this is no database" * 100)
        several = f"memory://cli-several {url_of(Path.cwd())} sqlite:///{tmp_path}/bad.db"
        done = cli("doctor", several)
        assert done.exit_code == 0
        rows = [line for line in done.stdout.splitlines() if line.strip().startswith(("memory://", "sqlite://"))]
        assert len(rows) == 3
        assert "durable, cross-process" in rows[0]
        assert "not reached" in rows[2]
        shown = json.loads(cli("doctor", several, "--json").stdout)
        assert [one["error"] is None for one in shown["reached"][0]["members"]] == [True, True, False]


def test_run_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tranship", "config", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, cwd=tmp_path, check=True)
    assert json.loads(done.stdout)
