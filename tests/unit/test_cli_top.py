"""`tranship top` in a terminal: it shows what there is, and its keys do what they say."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_kit import APP, environment, ran, until, url_of
from rich.console import Console

from tranship import Client, TaskState, Worker, task
from tranship.cli._top_screen import Look, Screen
from tranship.operations import Operator, Percentiles, QueueReport
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

if sys.platform != "win32":
    import pty

GO = threading.Event()


@task(name="top.hold")
def hold() -> None:
    from tranship import current

    while not GO.wait(0.02):
        current().raise_if_cancelled()


@task(name="top.fail", retry=None)
def fail() -> None:
    from tranship import Reject

    if not GO.is_set():
        raise Reject("no luck")


class Terminal:
    """A command in a terminal of its own, of which everything that it writes is kept."""

    def __init__(self, arguments: list[str], directory: Path) -> None:
        self.own, its = pty.openpty()
        variables = {**environment(directory), "TERM": "xterm", "COLUMNS": "180", "LINES": "40"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tranship", *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=directory,
            env=variables,
        )
        os.close(its)
        self.written = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self.own, 65536):
                self.written += data
        except OSError:
            return  # it has ended

    def press(self, keys: str) -> None:
        os.write(self.own, keys.encode())

    def sees(self, text: str) -> None:
        """Wait until it writes ``text``, anew."""
        start = len(self.written)
        until(lambda: text.encode() in self.written[start:] or self.process.poll() is not None)
        assert text.encode() in self.written[start:], self.written.decode(errors="replace")


def test_it_shows_what_there_is_and_its_keys_work(tmp_path: Path) -> None:
    GO.clear()
    url = url_of(tmp_path)
    remembering = Settings.load(broker_url=url, history=100, heartbeat_interval=0.5)
    with (
        BackgroundWorker(Worker(settings=remembering, tasks=[hold, fail], name="busy")),
        Client(url) as client,
        Operator(url) as operator,
    ):
        assert client.submit(fail).wait(timeout=10).state is TaskState.DEAD_LETTERED
        held = client.submit(hold)
        until(lambda: any(one.running for one in operator.workers()))
        top = Terminal(["top", "--every", "0.2"], tmp_path)
        try:
            top.sees("slots 1/")
            top.press("2")
            top.sees("top.hold")
            top.press("c")
            top.sees("Cancel task")
            top.press("y")
            until(lambda: held.state() is TaskState.CANCELLED)
            top.press("1")
            top.sees("p50/p95/p99")
            top.press("p")
            top.sees("pause default: 1 of 1")
            top.press("u")
            top.sees("resume default: 1 of 1")
            GO.set()
            top.press("4")
            top.sees("no luck")
            top.press("r")
            top.sees("Replay")
            top.press("y")
            until(lambda: operator.count_dead_letters() == 0)
            top.press("q")
            assert top.process.wait(20) == 0
        finally:
            top.process.kill()
            top.process.wait()
            os.close(top.own)


def test_a_queue_has_percentiles_where_workers_remember() -> None:
    screen, console = Screen("memory://"), Console(width=180, record=True, file=io.StringIO())
    facts = {"ready": {}, "delayed": 0, "in_flight": 0, "oldest_age": 0.0, "dead": 0, "workers": 1}
    queues = [QueueReport(name=name, **facts) for name in ("default", "idle")]
    screen.see(Look(queues=queues))
    console.print(screen.render(24))
    assert "p95" not in console.export_text()
    screen.see(Look(queues=queues, run_times={"default": Percentiles(0.0123, 1.5, 240.4)}))
    console.print(screen.render(24))
    lines = console.export_text().splitlines()
    assert any("p50/p95/p99" in line for line in lines)
    assert ["0.012/1.5/240 s" in line for line in lines if "default" in line or "idle" in line] == [True, False]


def test_without_a_terminal_it_says_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    code, out, err = ran(["top"], tmp_path)
    assert (code, out) == (2, "")
    assert "top needs a terminal" in err


def test_an_empty_broker_has_a_screen_and_no_key_breaks_it() -> None:
    screen = Screen("memory://")
    console = Console(width=120, record=True, file=io.StringIO())
    for key in ["p", "c", "r", "up", "down", "\t", "c", "\t", "x", "\t", "r", "1", "é", "\x1b"]:
        assert screen.press(key) is None
        console.print(screen.render(24))
    assert "dead letters" in console.export_text()


@pytest.mark.parametrize("width", [60, 200])
def test_a_name_cannot_write_into_the_terminal(width: int) -> None:
    screen = Screen("memory://")
    screen.said = "task \x1b[2J[bold]x"
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(screen.render(24))
    assert "\x1b[2J" not in console.export_text()
