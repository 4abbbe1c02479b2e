"""`tranship demo`: ends by itself, says what happened, and never hangs."""

import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cli_kit import cli, fails, finish, ran, started

from tranship.cli import _demo_run
from tranship.cli.demo import _program


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def program(directory: Path, text: str) -> str:
    """A program that stands in for Python, in which the worker would run."""
    path = directory / "stand-in"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_it_ends_by_itself_and_what_it_prints_can_be_pasted(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, out, err = ran(["demo"], tmp_path, 40)
    assert code == 0, err
    assert time.monotonic() - begun < 20
    for text in ("What happened", "SUCCESS", "CANCELLED", "DEAD_LETTERED", "round trip", "tasks/s", "high", "low"):
        assert text in out
    assert "1 task running, 1 waiting" in err
    commands = [line.strip() for line in out.splitlines() if line.startswith("  ") and "-m tranship " in line]
    assert len(commands) == 6
    said = [
        subprocess.run(shlex.split(line), capture_output=True, text=True, cwd="/", check=False) for line in commands
    ]
    assert [done.returncode for done in said] == [0] * 6, [done.stderr for done in said]
    assert "retries-exhausted" in said[0].stdout
    assert "ValueError: this task fails every time" in said[1].stdout


def test_a_broker_of_ones_own_is_left_as_it_was(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/mine.db"
    assert cli("submit", "x.y", "--queue", "demo", "-u", url).exit_code == 0
    code, out, err = ran(["demo", "-u", url, "--quiet"], tmp_path, 40)
    assert (code, err) == (0, "")
    assert "--namespace demo-" in out
    assert '"normal": 1' in cli("queues", "-u", url, "--json").stdout


def test_a_broker_that_cannot_be_shared_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    fails(cli("demo", "-u", "memory://", "--quiet"), 2, "cross-process")
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_ends_at_once_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "echo no interpreter here; exit 7"))
    fails(cli("demo", "--quiet"), 1, "the worker ended with exit code 7", "no interpreter here")


def test_a_worker_that_does_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))
    monkeypatch.setattr(_demo_run, "BOUND", 0.5)
    begun = time.monotonic()
    fails(cli("demo", "--quiet"), 1, "not done within 0.5 s: 0 of 183 tasks ended")
    assert time.monotonic() - begun < 15


def test_what_ends_otherwise_than_it_should_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo_run, "EXPECTED", {})
    fails(cli("demo", "--quiet"), 1, "tasks ended as 2 CANCELLED, 1 DEAD_LETTERED, 180 SUCCESS")


def test_a_configured_broker_is_not_used_unasked(tmp_path: Path) -> None:
    configured = {"TRANSHIP_BROKER_URL": "nosuch://host", "TRANSHIP_RESULT_URL": "nosuch://host"}
    code, _, err = ran(["demo"], tmp_path, 40, **configured)
    assert code == 0, err
    assert "the broker is sqlite:////" in err


def test_the_program_is_named_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/tranship/__main__.py"])
    assert _program() == f"{shlex.quote(sys.executable)} -m tranship"
    called = tmp_path / "tranship"
    called.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(called)])
    assert _program() == str(called)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _program() == "tranship"


def test_an_interrupt_ends_the_worker_too(tmp_path: Path) -> None:
    with started(["demo"], tmp_path) as demo:
        assert demo.stderr is not None
        line = next(line for line in demo.stderr if "started a worker" in line)
        demo.send_signal(signal.SIGINT)
        code, _, err = finish(demo)
    assert code == 130
    assert "Traceback" not in err
    assert not Path(f"/proc/{line.split()[-1]}").exists()
