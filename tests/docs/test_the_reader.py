"""The reader of pages notices when a page is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from snippets import Background, Reader, blocks


def follow(text: str, directory: Path) -> None:
    with Reader(directory, dict(os.environ)) as reader:
        for block in blocks(text):
            reader.follow(block)


def page(info: str, *lines: str, before: str = "") -> str:
    return "\n".join([before, f"```{info}", *lines, "```", ""])


def test_files_are_appended_and_run(tmp_path: Path) -> None:
    follow(page('python title="a.py"', "x = 1") + page('python title="a.py"', "print(x)"), tmp_path)
    follow(page("console", "$ cat a.py", "x = 1", "print(x)"), tmp_path)


def test_a_python_block_needs_a_title_or_a_mark(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line 2: a python block without"):
        follow(page("python", "x = 1"), tmp_path)


@pytest.mark.parametrize(
    ("command", "printed"), [("$ echo one", "two"), ("$ printf 'a\\nb\\n'", "b\na"), ("$ exit 3", "...")]
)
def test_a_command_must_print_what_the_page_says(tmp_path: Path, command: str, printed: str) -> None:
    with pytest.raises(AssertionError, match="line 3"):
        follow(page("console", command, printed), tmp_path)


def test_three_dots_stand_for_anything(tmp_path: Path) -> None:
    follow(page("console", "$ echo one two three; echo end", "one ... three", "...", "end"), tmp_path)


def test_a_marked_block_runs_or_does_not(tmp_path: Path) -> None:
    follow(page("python", "raise SystemExit(1)", before="<!-- not run: an example -->"), tmp_path)
    with pytest.raises(AssertionError, match="exit code 1"):
        follow(page("python", "raise SystemExit(1)", before="<!-- run -->"), tmp_path)


def test_a_block_that_is_not_run_must_be_python_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError):
        follow(page("python", "x = ", before="<!-- not run: an example -->"), tmp_path)


def test_what_runs_in_the_background_is_ended_and_its_output_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Background, "patience", 1.0)
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit()); print('up', flush=True); signal.pause()"
    follow(page("console", f'$ python3 -c "{script}" &', "up"), tmp_path)
    with pytest.raises(AssertionError, match="did not print 'down'"):
        follow(page("console", f'$ python3 -c "{script}" &', "down"), tmp_path)


def test_an_export_holds_for_the_rest_of_the_page(tmp_path: Path) -> None:
    follow(page("console", "$ export GREETING='good day'") + page("console", "$ echo $GREETING", "good day"), tmp_path)


def test_jobs_have_the_numbers_a_shell_gives_them(tmp_path: Path) -> None:
    script = "import signal, sys; signal.signal(15, lambda *_: sys.exit()); print('{}', flush=True); signal.pause()"
    jobs = [f'$ python3 -c "{script.format(name)}" &' for name in ("one", "two")]
    follow(page("console", jobs[0], "one", jobs[1], "two", "$ kill %1", jobs[0], "one", "$ kill %2"), tmp_path)


def test_the_redis_of_a_page_is_its_own(tmp_path: Path) -> None:
    text = page("console", "$ echo redis://me:secret@localhost/0?lease=5", "redis://me:secret@localhost/0?lease=5")
    started: list[str] = []

    def redis() -> str:
        started.append("redis://127.0.0.1:7001/0")
        return started[-1]

    with Reader(tmp_path, dict(os.environ), redis) as reader:
        for block in blocks(page("console", "$ echo redis://other.example/0", "redis://other.example/0")):
            reader.follow(block)
        assert not started
        for block in blocks(text + page("console", "$ echo redis://localhost/0 > url")):
            reader.follow(block)
    assert (tmp_path / "url").read_text() == "redis://127.0.0.1:7001/0\n"
    assert len(started) == 2


def test_a_page_that_needs_a_redis_is_not_run_without_one(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line 2: nobody here has a Redis"):
        follow(page("console", "$ redis-cli ping", "PONG"), tmp_path)
