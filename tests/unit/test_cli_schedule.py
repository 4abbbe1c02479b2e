"""``tranship schedule`` and ``tranship worker --schedule``: what they say, and mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tranship import Client, Schedule, named
from tranship.operations import Operator
from unit.cli_kit import cli, own_directory, url_of

APP = """
from datetime import timedelta
from tranship import task

@task(every=0.5)
def tick() -> str:
    return "ticked"

@task(cron="0 3 * * *", timezone="Europe/Berlin", queue="reports")
def nightly(kind: str = "daily") -> str:
    return kind

BEAT = {"from-beat": {"task": "foreign.task", "schedule": timedelta(minutes=5), "options": {"queue": "theirs"}}}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with own_directory(tmp_path, monkeypatch):
        (tmp_path / "periodic.py").write_text(APP)
        yield


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "TRANSHIP_BROKER_URL": url_of(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "tranship", *arguments],
        cwd=folder,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def shown(folder: Path) -> dict:
    with Operator(url_of(folder)) as operator:
        return {one.name: one for one in operator.schedules()}


def until(true, what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_a_worker_with_schedule_runs_what_is_due(tmp_path):
    process = started(tmp_path, "worker", "periodic", "--schedule")
    try:
        until(lambda: "periodic.tick" in shown(tmp_path) and shown(tmp_path)["periodic.tick"].last, "a tick was sent")
        listed = json.loads(cli("schedule", "list", "--json").stdout)
        assert [(one["name"], one["state"], one["when"]) for one in listed] == [
            ("periodic.nightly", "active", "0 3 * * * Europe/Berlin"),
            ("periodic.tick", "active", "every 0.5 s"),
        ]
        table = cli("schedule", "list").stdout
        assert "periodic.nightly" in table
        assert "reports" in table
        assert cli("schedule", "pause", "periodic.tick").stdout == "periodic.tick is paused\n"
        assert shown(tmp_path)["periodic.tick"].state == "paused"
        assert cli("schedule", "resume", "periodic.tick").stdout == "periodic.tick is active\n"
        refused = cli("schedule", "remove", "periodic.tick")
        assert (refused.exit_code, "declared in code" in refused.stderr) == (2, True)
        task_id = cli("schedule", "trigger", "periodic.nightly").stdout.strip()
        with Client(url_of(tmp_path)) as client:
            assert client.handle(task_id).result(20) == "daily"
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    assert "this scheduler leads" in said
    assert "Traceback" not in said


def test_a_scheduler_alone_takes_a_beat_schedule(tmp_path):
    process = started(tmp_path, "schedule", "run", "periodic", "--beat", "periodic:BEAT")
    try:
        until(lambda: len(shown(tmp_path)) == 3, "all are known")
        found = shown(tmp_path)["from-beat"]
        assert (found.origin, found.task, found.queue) == ("beat", "foreign.task", "theirs")
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_what_was_added_is_removed(tmp_path):
    assert "no schedules" in cli("schedule", "list").stderr
    with Operator(url_of(tmp_path)) as operator:
        operator.add_schedule(Schedule("mine", named("foreign.task", queue="x"), every=60))
    assert cli("schedule", "remove", "mine").stdout == "mine is removed\n"
    assert not shown(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["schedule", "pause", "nobody"], "schedule 'nobody' is unknown"),
        (["schedule", "trigger", "nobody"], "has a scheduler been started?"),
        (["schedule", "run", "nowhere"], "there is no module 'nowhere'"),
        (["schedule", "run", "periodic", "--beat", "periodic:tick"], "beat_schedule is"),
        (["schedule", "run", "periodic", "-u", "memory://"], "is in the memory of one process"),
        (["worker", "periodic", "--schedule", "--burst"], "with --schedule there is always more"),
    ],
)
def test_mistakes(arguments, said):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
