"""Mistakes on purpose: each one clear line and an exit code, never a traceback, never a password."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_kit import cli, fails, own_directory, url_of

from tranship import Client
from tranship.cli._errors import ClickException, ExitCode, exit_code, hint, without_secrets
from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidArgumentsError,
    InvalidURLError,
    ResultsDisabled,
    ResultTimeout,
    SubmitTimeout,
    TaskDeadLettered,
    TaskFailed,
    TaskNotFound,
    UnknownSchemeError,
)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(tmp_path, monkeypatch):
        yield


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "code", "text"),
        [
            (["quues"], 2, "Did you mean 'queues'"),
            (["queues", "--nope"], 2, "--nope"),
            (["queues", "-u", "nosuch://h"], 2, "no plugin serves the scheme 'nosuch'"),
            (
                ["queues", "-u", "mine://h"],
                2,
                "Install a plugin that serves it, or write one: docs/how-to/write-a-backend.md",
            ),
            (["queues", "-u", "nonsense"], 2, "'nonsense' cannot be read"),
            (["queues", "-u", "sqlite:////no/such/directory/x.db"], 1, "does not exist"),
            (["queues", "-u", "sqlite:////tmp/x.db?lease=-1"], 2, "lease is -1.0"),
            (["queues", "-u", "sqlite:////tmp/x.db?lesae=1"], 2, "did you mean lease?"),
            (["submit", "x.y", "--kwargs", "{bad"], 2, "'{bad' is no JSON"),
            (["submit", "x.y", "--kwargs", "[1]"], 2, "no JSON object"),
            (["submit", "x.y", "--kwarg", "novalue"], 2, "no key=value"),
            (["submit", "x.y", "--priority", "urgent"], 2, "priority 'urgent' is unknown"),
            (["submit", "x.y", "--deadline-in", "-1"], 2, "deadline_in is -1.0"),
            (["submit", "x.y", "--delay", "soon"], 2, "--delay"),
            (["submit", "x.y", "--wait", "-1"], 2, "--wait is -1.0"),
            (["submit", "x.y", "-5"], 2, "-5"),
            (["submit", "app:nope"], 2, "'app' has no 'nope'"),
            (["submit", "app:number"], 2, "expected a function decorated with @task"),
            (["submit", ""], 2, "name is ''"),
            (["cancel"], 2, "KEY or --id"),
            (["cancel", "k", "--ttl", "-1"], 2, "ttl is -1.0"),
            (["cancel", ""], 2, "not empty"),
            (["dead", "list", "--limit", "0"], 2, "limit is 0"),
            (["dead", "show", "nope"], 1, "no dead letter 'nope'"),
            (["doctor", "--timeout", "0"], 2, "timeout is 0.0"),
            (["submit", "x.y", "-u", "memory://"], 2, "memory:// is in the memory of this process, which ends"),
            (["cancel", "k", "-u", "memory://"], 2, "name a broker that others can reach"),
            (["demo", "-u", "memory://", "--quiet"], 2, "the demo needs a broker with cross-process"),
        ],
    )
    def test_are_told_in_one_line(self, arguments: list[str], code: int, text: str) -> None:
        said = fails(cli(*arguments), code, text)
        assert len([line for line in said.splitlines() if not line.startswith("hint: ")]) == 1

    def test_a_corrupt_file(self, tmp_path: Path) -> None:
        (tmp_path / "bad.db").write_bytes(b"no database at all, just text" * 50)
        fails(cli("queues", "-u", f"sqlite:///{tmp_path}/bad.db"), ExitCode.FAILURE, "bad.db", "not an SQLite database")

    @pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a directory that root cannot write to either")
    def test_an_unwritable_directory(self) -> None:
        fails(cli("submit", "x.y", "-u", "sqlite:////sys/tranship.db"), ExitCode.FAILURE, "/sys/tranship.db", "rights")

    def test_a_broker_that_does_not_answer(self, tmp_path: Path) -> None:
        with Client() as client:
            client.ping()
        locker = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
        try:
            locker.execute("BEGIN IMMEDIATE")
            url = url_of(tmp_path) + "?busy_timeout=0.1"
            fails(cli("cancel", "k", "-u", url), ExitCode.UNREACHABLE, "locked by another program", "tranship doctor")
        finally:
            locker.close()

    def test_an_environment_that_makes_no_sense(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRANSHIP_SUBMIT_TIMEOUT", "soon")
        fails(cli("queues"), ExitCode.USAGE, "TRANSHIP_SUBMIT_TIMEOUT")

    @pytest.mark.parametrize(
        "arguments", [["queues", "-u"], ["queues"], ["doctor"], ["config", "-u"], ["submit", "-u"]]
    )
    def test_no_password_is_ever_shown(self, arguments: list[str]) -> None:
        done = cli(*arguments, "nosuch://user:se-same@host/0?password=se-same")
        assert "se-same" not in done.output
        assert "se-same" not in done.stderr

    def test_passwords_in_the_environment_are_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRANSHIP_BROKER_URL", "nosuch://user:se-same@host/0")
        for arguments in (["config"], ["config", "--json"], ["doctor"], ["doctor", "--json"], ["queues", "-vv"]):
            done = cli(*arguments)
            assert "se-same" not in done.output + done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidURLError("x"), 2),
        (UnknownSchemeError("x"), 2),
        (InvalidArgumentsError("x"), 2),
        (BrokerRefused("x"), 1),
        (TaskNotFound("x"), 1),
        (ResultsDisabled("x"), 1),
        (RuntimeError("x"), 1),
        (BrokerUnreachable("x"), 3),
        (SubmitTimeout("x"), 3),
        (ResultTimeout("x"), 4),
        (TaskFailed("x"), 4),
        (TaskDeadLettered("x"), 4),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://u:pw@h:1/0, then", "at redis://***@h:1/0, then"),
        ("('amqp://:p@ss@h')", "('amqp://***@h')"),
        ("x://h?token=abc&y=1 mail a@b", "x://h?token=***&y=1 mail a@b"),
    ],
)
def test_passwords_in_texts_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_an_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("with redis://u:secret@h in it")

    monkeypatch.setattr("tranship.operations.Operator.queues", broken)
    said = fails(cli("queues"), 1, "unexpected RuntimeError", "TRANSHIP_DEBUG=1")
    assert "secret" not in said


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tranship.operations.Operator.queues", interrupted)
    done = cli("queues")
    assert (done.exit_code, done.stderr) == (130, "")


def test_a_command_of_a_plugin_that_is_not_installed_says_where_it_comes_from() -> None:
    assert hint(ClickException("No such command 'dashboard'.")).endswith("pip install ./plugins/tranship-dashboard")
    assert "pip" not in hint(ClickException("No such command 'dashbord'."))
