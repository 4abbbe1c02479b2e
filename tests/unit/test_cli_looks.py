"""What the command line looks like: narrow terminals, watching, completion, help."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from cli_kit import APP, cli, environment, fails, finish, own_directory, started, until, url_of
from rich.console import Console
from rich.text import Text

from tranship import Client, TaskState, Worker, named, task
from tranship.cli._output import Output
from tranship.errors import Reject
from tranship.operations import Operator
from tranship.testing.background import BackgroundWorker


@task(name="cli.refuse")
def refuse() -> None:
    raise Reject("no-thanks")


@task(name="cli.add")
def add(a: int) -> int:
    return a + 1


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with own_directory(tmp_path, monkeypatch):
        yield


def shown(width: int, columns: list[str], rows: list[list[object]], **options: str) -> str:
    output = Output()
    output.out = Console(file=io.StringIO(), width=width, highlight=False)
    output.table(columns, rows, **options)
    assert isinstance(output.out.file, io.StringIO)
    return output.out.file.getvalue()


class TestTables:
    COLUMNS: ClassVar = ["id", "task", "#running for", "note"]
    ROW: ClassVar = ["01a22b1d-b28b-79b2-8cad-0d907b824839", "app.a_rather_long_name", "12 min", "page 4 of 10"]

    @pytest.mark.parametrize("width", range(20, 130, 3))
    def test_no_word_is_broken_and_no_number_leaves_its_unit(self, width: int) -> None:
        text = shown(width, self.COLUMNS, [self.ROW, [self.ROW[0], "b", None, None]])
        assert all(len(line.rstrip()) <= width for line in text.splitlines())
        if width > 60:
            assert text.count(str(self.ROW[0])) == 2
            for whole in ("app.a_rather_long_name", "12 min"):
                assert whole in text

    def test_below_the_width_of_its_words_each_row_is_lines(self) -> None:
        lines = [line.rstrip() for line in shown(60, self.COLUMNS, [self.ROW, ["x", "y", None, None]]).splitlines()]
        assert lines == [
            "id           01a22b1d-b28b-79b2-8cad-0d907b824839",
            "task         app.a_rather_long_name",
            "running for  12 min",
            "note         page 4 of 10",
            "",
            "id    x",
            "task  y",
            "",
        ]

    def test_a_small_table_stays_one_in_a_narrow_terminal(self) -> None:
        lines = [line.rstrip() for line in shown(30, ["queue", "#high"], [["default", 3]]).splitlines()]
        assert lines == ["queue    high", "─────────────", "default     3", ""]

    def test_titles_and_colours_stay(self) -> None:
        text = shown(20, ["name", "value"], [["a", Text("x" * 40, "red")]], title="These")
        assert text.startswith("These\n")
        assert text.count("x") == 40

    def test_where_nobody_looks_a_row_is_a_line(self) -> None:
        with Client() as client:
            client.submit(add.options(queue="a" * 200), 1)
        assert "a" * 200 in cli("queues").stdout.splitlines()[2]


class TestWatching:
    def test_a_line_of_json_each_time_until_ctrl_c(self, tmp_path: Path) -> None:
        with started(["queues", "--json", "--watch", "0.1"], tmp_path) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline()) == []
            with Client() as client:
                client.submit(add, 1)
            found: list[object] = []
            while not found:
                found = json.loads(watching.stdout.readline())
            watching.send_signal(signal.SIGINT)
            code, _, err = finish(watching)
            assert (code, err) == (0, "")

    def test_on_a_terminal_the_screen_is_painted_anew(self, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "tranship", "workers", "-w", "0.1"]
        variables = {"COLUMNS": "100", "TERM": "xterm"}
        with (
            BackgroundWorker(Worker(url_of(tmp_path), tasks=[add], name="seen")),
            Operator(url_of(tmp_path)) as operator,
        ):
            until(lambda: bool(operator.workers()))
            with subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment(tmp_path, **variables),
                stdout=theirs,
                stderr=theirs,
                stdin=theirs,
            ) as watching:
                os.close(theirs)
                said = b""
                while said.count(b"seen") < 3:
                    part = os.read(ours, 65536)
                    assert part, said
                    said += part
                watching.send_signal(signal.SIGINT)
                assert watching.wait(10) == 0
            os.close(ours)
        assert b"every 0.1 s; Ctrl-C ends it" in said
        assert b"\x1b[2J" in said
        assert b"Traceback" not in said

    @pytest.mark.parametrize("every", ["0", "-1", "nan"])
    def test_what_is_no_interval_is_refused(self, every: str) -> None:
        fails(cli("queues", "--watch", every), 2, "--watch is")

    def test_a_broker_that_is_not_there_ends_it_at_once(self) -> None:
        pytest.importorskip("tranship_redis")
        fails(cli("tasks", "-u", "redis://127.0.0.1:1/0", "--watch"), 3, "cannot connect")


class TestCompletion:
    def offers(self, directory: Path, typed: str, **variables: str) -> list[str]:
        """What is offered; on a busy machine there may be nothing in time, and who wants it presses Tab again."""
        return next(filter(None, (self.offers_once(directory, typed, **variables) for _ in range(5))), [])

    def offers_once(self, directory: Path, typed: str, **variables: str) -> list[str]:
        words = {
            "_TRANSHIP_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-m", "tranship"],
            cwd=directory,
            env=environment(directory, **words, **variables),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.split()

    def test_dead_letters_by_their_ids_and_queues(self, tmp_path: Path) -> None:
        with Client() as client:
            client.submit(refuse.options(queue="one"))
        Worker(tasks=[refuse], queues=["one"]).run_until_idle(20)
        with Operator() as operator:
            (letter,) = operator.dead_letters()
        assert self.offers(tmp_path, "tranship dead show ") == [letter.id]
        assert self.offers(tmp_path, f"tranship dead replay {letter.id[:5]}") == [letter.id]
        assert self.offers_once(tmp_path, "tranship dead purge zzz") == []
        assert self.offers(tmp_path, "tranship dead list --queue o") == ["one"]
        assert self.offers(tmp_path, "tranship worker app --queues two,o") == ["two,one"]

    def test_tasks_that_live_workers_have(self, tmp_path: Path) -> None:
        with BackgroundWorker(Worker(url_of(tmp_path), tasks=[add, refuse])), Operator(url_of(tmp_path)) as operator:
            until(lambda: bool(operator.workers()))
            at = f"--url {url_of(tmp_path)}"
            assert self.offers(tmp_path, "tranship submit ") == ["cli.add", "cli.refuse"]
            assert self.offers(tmp_path, f"tranship submit {at} cli.a", TRANSHIP_BROKER_URL="memory://") == ["cli.add"]
            assert self.offers(tmp_path, f"tranship {at} submit cli.a", TRANSHIP_BROKER_URL="memory://") == ["cli.add"]

    def test_the_tasks_of_a_module(self, tmp_path: Path) -> None:
        assert self.offers(tmp_path, "tranship submit app:") == [
            "app:add",
            "app:fail",
            "app:sleep",
            "app:stuck",
            "app:fact",
            "app:elsewhere",
        ]
        assert self.offers_once(tmp_path, "tranship submit nothing:") == []
        assert self.offers(tmp_path, "tranship run-one app:f") == ["app:fail", "app:fact"]
        assert self.offers(tmp_path, "tranship worker app:sl") == ["app:sleep"]
        assert self.offers_once(tmp_path, "tranship describe ap") == []

    def test_tasks_that_are_classes(self, tmp_path: Path) -> None:
        (tmp_path / "classes.py").write_text(
            "from dataclasses import dataclass\nfrom tranship import TaskClass\nclass Resize(TaskClass):\n"
            "    @dataclass\n    class Args:\n        width: int\n    def run(self, args): ...\n"
        )
        assert self.offers(tmp_path, "tranship submit classes:") == ["classes:Resize"]

    def test_a_broker_that_is_away_offers_nothing_and_says_nothing(self, tmp_path: Path) -> None:
        for url in ("redis://127.0.0.1:1/0", "nonsense://", "sqlite:////no/such/directory/t.db"):
            assert self.offers_once(tmp_path, "tranship dead show ", TRANSHIP_BROKER_URL=url) == []


class TestHelp:
    def test_defaults_are_shown_as_they_are(self) -> None:
        said = " ".join(cli("worker", "--help", env={"COLUMNS": "200"}).stdout.split())
        for text in ("(10, or the setting max_concurrent_tasks)", "(30, or the setting shutdown_timeout)", "127.0.0.1"):
            assert text in said


class TestReload:
    def test_a_change_begins_anew_and_what_runs_ends_first(self, tmp_path: Path) -> None:
        with Client() as client, started(["worker", "app", "--reload"], tmp_path) as watching:
            assert client.submit("app.fact").result(30) == 42
            slow = client.submit(named("app.sleep", queue="slow"), 1.5)
            until(lambda: slow.state() is TaskState.STARTED)
            (tmp_path / "app.py").write_text(APP.replace("6 * 7", "6 * 7 + 1"))
            until(lambda: client.submit("app.fact").result(20) == 43)
            assert slow.ready()
            assert slow.result(5) == "slept"
            (tmp_path / "app.py").write_text("raise ValueError('a mistake')\n")
            assert watching.stderr is not None
            said = ""
            while "waiting for a change" not in said:
                line = watching.stderr.readline()
                assert line, said
                said += line
            assert "app.py changed; the worker begins anew" in said
            assert "a mistake" in said
            waiting = client.submit("app.fact")
            (tmp_path / "app.py").write_text(APP)
            assert waiting.result(30) == 42
            watching.terminate()
            code, _, err = finish(watching, 30)
            assert code == 0, err
            assert err.count("stopping (SIGTERM)") == 1, err
            with Operator() as operator:
                assert operator.workers() == [], "no child is left behind"

    def test_a_directory_that_is_not_there_is_told(self) -> None:
        fails(cli("worker", "app", "--reload", "--reload-dir", "nowhere"), 2, "'nowhere' is no directory")

    def test_what_is_hidden_or_installed_is_not_looked_at(self, tmp_path: Path) -> None:
        from tranship.cli._reload import changed, snapshot

        for name in (
            "a.py",
            "b.txt",
            "pkg/c.py",
            ".hidden/d.py",
            "env/pyvenv.cfg",
            "env/lib/e.py",
            "node_modules/f.py",
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        before = snapshot([tmp_path])
        assert sorted(str(path.relative_to(tmp_path)) for path in before) == ["a.py", "app.py", "pkg/c.py"]
        (tmp_path / "pkg/c.py").write_text("x = 1")
        (tmp_path / "a.py").unlink()
        (tmp_path / "g.py").write_text("")
        assert [path.name for path in changed(before, snapshot([tmp_path]))] == ["a.py", "g.py", "c.py"]
