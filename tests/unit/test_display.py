"""Strangers' text on a terminal and in logs: nothing but printable characters, and no line of its own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cli_kit import ran, url_of
from hypothesis import given
from hypothesis import strategies as st

from tranship.client import AsyncClient
from tranship.codec import JSON
from tranship.display import guard_loggers, visible, visible_lines
from tranship.envelope import Envelope
from tranship.protocol import Message
from tranship.task import task
from tranship.worker import Worker

NASTY = "\x1b]0;owned\x07\x1b[2J\r\nok \u202e[bold]\u200f\x9b31m\x7f\ud800"


def is_harmless(text: str, kept: str = "") -> bool:
    return all(one in kept or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in text)


@given(st.text())
def test_what_is_visible_is_harmless_and_stays_as_it_is(text: str) -> None:
    assert is_harmless(visible(text))
    assert visible(visible(text)) == visible(text)
    assert is_harmless(visible_lines(text), "\n\t")
    assert visible_lines(text).count("\n") == text.count("\n")


def test_what_can_be_printed_is_not_touched() -> None:
    for text in ("", "a b", "naïve 日本語 🙂", "C:\\x", "[red]"):
        assert visible(text) is text


@pytest.fixture
def logged() -> Any:
    """What a user's own handler with a format of its own writes for the logger ``tranship.test-display``."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log = logging.getLogger("tranship.test-display")
    log.addHandler(handler)
    guard_loggers()
    yield log, stream
    log.removeHandler(handler)


def test_no_record_is_forged(logged: Any) -> None:
    log, stream = logged
    log.warning("task %s of queue %r failed", NASTY, NASTY)
    log.warning("task %s", f"{NASTY}\nERROR forged\n\nERROR forged\n  \nERROR forged")
    assert is_harmless(stream.getvalue(), "\n")
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["WARNING", "WARNING", "\\nERROR"]


def test_a_traceback_forges_no_record(logged: Any) -> None:
    log, stream = logged
    try:
        raise ValueError(f"{NASTY}\nERROR forged") from KeyError("\x1b[2J")
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert is_harmless(stream.getvalue(), "\n")
    assert [line for line in lines if line.startswith("ERROR")] == ["ERROR failed"]
    assert lines[1] == "Traceback (most recent call last):" or lines[1].startswith("KeyError")


def test_what_is_clean_is_left_to_the_handlers(logged: Any) -> None:
    log, _ = logged
    seen: list[logging.LogRecord] = []
    keeping = logging.Handler()
    keeping.emit = seen.append  # type: ignore[method-assign]  # a handler made for this test
    log.addHandler(keeping)
    try:
        raise ValueError("plain")
    except ValueError:
        log.exception("task %s failed", "a")
    log.warning("blocked:\n  File x\n    y\n\n  The above exception")
    log.removeHandler(keeping)
    assert (seen[0].msg, seen[0].args) == ("task %s failed", ("a",))
    assert seen[1].getMessage() == "blocked:\n  File x\n    y\n\n  The above exception"
    # One that cannot be formatted is its handler's to complain about.
    broken = log.makeRecord(log.name, logging.WARNING, "x.py", 1, "%d", ("no number",), None)
    assert log.filter(broken)
    assert broken.args == ("no number",)


WORK = """
import asyncio, logging
from tranship import AsyncClient, Worker, task

@task
async def work(): pass

async def main():
    async with AsyncClient("memory://x") as client:
        handle = await client.submit(work)
        await Worker("memory://x", tasks=[work]).serve_until_idle()
        await handle.result(timeout=5)

asyncio.run(main())
loggers = logging.root.manager.loggerDict
ours = [name for name in loggers if name.startswith("tranship") and isinstance(loggers[name], logging.Logger)]
assert "tranship.worker" in ours
print([name for name in ours if not loggers[name].filters])
"""


def test_every_logger_is_guarded_once_something_runs() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@task(name="other")
async def other() -> None:
    pass


async def bury(url: str) -> None:
    """A stranger's message, as it comes through a broker: every text that it may choose is nasty."""
    deep = "[" * 900 + "]" * 900
    headers = json.dumps({"task": NASTY[:-1], "id": f"id-{NASTY[:-1]}", "x": NASTY}).encode()
    body = f"[[{json.dumps(NASTY)}, {deep}], {{}}, {{}}]".encode()
    unreadable = json.dumps({"task": NASTY, "id": "lone"}).encode()
    async with AsyncClient(url) as client:
        link = await client._connector.link()
        for number, one in enumerate((headers, unreadable, b"junk")):
            message = Message(Envelope(id=f"m{number}", task="t"), one, body, JSON, "utf-8")
            await link.submission.submit([message])
        await Worker(url, tasks=[other]).serve_until_idle(timeout=20)


def test_dead_letters_of_strangers_are_shown_harmlessly(tmp_path: Path) -> None:
    asyncio.run(bury(url_of(tmp_path)))
    code, out, _ = ran(["dead", "list", "--json"], tmp_path)
    assert code == 0
    listed = json.loads(out)
    assert len(listed) == 3
    shows = [["show", one["id"], *more] for one in listed for more in ([], ["--json"])]
    for arguments in (["list"], *shows):
        code, out, err = ran(["dead", *arguments], tmp_path)
        assert code == 0, err
        assert is_harmless(out + err, "\n")
