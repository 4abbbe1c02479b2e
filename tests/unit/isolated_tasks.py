"""Tasks that run in a process of their own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tranship.errors import TaskError
from tranship.outcomes import Outcome, Snooze
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import TaskClass, current, task


class OddError(Exception):
    """Can be pickled, and not be read."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


class PairError(Exception):
    """The same, with two arguments."""

    def __init__(self, tray: str) -> None:
        super().__init__(tray, 2)


class Local:
    def __reduce__(self) -> Any:
        raise TypeError("never leaves")


@task(isolation="process")
def where() -> tuple[int, str, int]:
    """Where it runs, and what it knows of itself."""
    return os.getpid(), current().id, current().attempt


@task(isolation="process")
async def later(value: int) -> int:
    return value


class Repeat(TaskClass, isolation="process"):
    @dataclass
    class Args:
        text: str
        times: int = 2

    def __init__(self) -> None:
        self.made_in = os.getpid()

    def run(self, args: Args) -> tuple[str, bool, int]:
        """What it is told, whether its object was made here, and where that is."""
        return args.text * args.times, self.made_in == os.getpid(), os.getpid()


class RepeatOnce(Repeat, task_type="cpu"):
    """Inherits where it runs."""


@task(isolation="process", run_timeout=60)
def compute(path: str, how: str = "") -> None:
    """Compute for ever, and say when it is ended."""
    if how == "with a child":
        child = subprocess.Popen(["sleep", "600"])
        Path(path).write_text(str(child.pid))
    else:
        Path(path).write_text(str(os.getpid()))
    try:
        while True:
            if how == "stubborn":
                with contextlib.suppress(BaseException):
                    while True:
                        pass
    finally:
        Path(path).with_suffix(".closed").touch()


@task(isolation="process")
def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "raise":
        sys.exit("enough")
    os.kill(os.getpid(), signal.Signals[how])
    time.sleep(60)


@task(isolation="process", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
def die_once() -> int:
    if not current().attempt:
        os.kill(os.getpid(), signal.SIGKILL)
    return current().attempt


@task(isolation="process")
def speak() -> str:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    os.system("echo said by a child")
    sys.stdout.write("without an end")
    return "spoken"


@task(isolation="process")
def silence(how: str) -> int:
    """Leave nothing to print to behind."""
    if how == "descriptors":
        os.close(1)
        os.close(2)
    elif how == "streams":
        sys.stdout.close()
        sys.stderr.close()
    elif how == "elsewhere":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = io.StringIO()
    else:
        print("audible")
    return os.getpid()


@task(isolation="process")
def fail(how: str) -> Any:
    if how == "odd":
        raise OddError(1, 2)
    if how == "pair":
        raise PairError("tray")
    if how == "value":
        raise ValueError("on purpose")
    if how == "cache":
        return list(current().hot_cache)
    if how == "step":
        return current().step("one", str, 1)
    return Local() if how == "local" else bytes(300_000_000)


@task(isolation="process")
def put_off(path: str, how: str) -> Any:
    """Come again once, then leave a status; or fail as a TaskError says."""
    if how == "error":
        raise TaskError("gone", error_code="GONE", error_type="Gone", retryable=False, shelf=7)
    if not Path(path).exists():
        Path(path).touch()
        if how == "raise":
            raise Snooze(0.05, "not yet")
        return Snooze(0.05)
    return Outcome("reviewed", current().attempt)
