"""What the tests of the command line share."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tranship.cli._app import app

APP = """
import asyncio
import time
from tranship import Worker, current, named, task

@task
def add(a: int, b: int = 1) -> int:
    return a + b

@task
async def fail() -> None:
    raise ValueError("on purpose")

@task(queue="slow")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"

@task(queue="slow")
async def stuck() -> None:
    await asyncio.to_thread(time.sleep, 600)

@task
def fact() -> int:
    return 6 * 7

elsewhere = named("foreign.task")
number = 3
worker = Worker("memory://", tasks=[add], max_concurrent_tasks=3)
"""
"""A user's module."""


def url_of(directory: Path) -> str:
    return f"sqlite:///{directory / 'tasks.db'}"


@contextmanager
def own_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory with a user's module, a broker of its own, and imports as they were afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    (directory / "app.py").write_text(APP)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("TRANSHIP_BROKER_URL", url_of(directory))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(directory)):
            del sys.modules[name]


def cli(*arguments: str, **options: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, list(arguments), prog_name="tranship", **options)


def fails(result: Result, code: int, *texts: str) -> str:
    """Check that a command failed as it should, and return what it said."""
    said = result.stderr
    assert result.exit_code == code, (result.exit_code, said, result.stdout)
    assert "Traceback" not in said + result.stdout
    assert said.startswith("error: "), said
    for text in texts:
        assert text in said
    return said


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """The environment of a process of its own, with the broker in ``directory``."""
    return {**os.environ, "TRANSHIP_BROKER_URL": url_of(directory), **variables}


@contextmanager
def started(arguments: Sequence[str], directory: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process of its own, in ``directory``; it does not outlive the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tranship", *arguments],
        cwd=directory,
        env=environment(directory, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ran(arguments: Sequence[str], directory: Path, timeout: float = 60.0, **variables: str) -> tuple[int, str, str]:
    """Run a command in a process of its own to its end; return its exit code and what it printed."""
    with started(arguments, directory, **variables) as process:
        return finish(process, timeout)


def finish(process: subprocess.Popen[str], timeout: float = 60.0) -> tuple[int, str, str]:
    """Wait for the end of a process; kill it rather than wait for ever."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end within {timeout} s: {out} {err}") from None
    return process.returncode, out, err


def until(condition: Callable[[], bool], timeout: float = 40.0) -> None:
    """Wait for ``condition``, with a bound."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)
