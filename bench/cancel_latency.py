"""How soon running work ends when it is cancelled, and how long a worker takes to stop and to be replaced.

``python bench/cancel_latency.py [--rounds 200]``: SQLite in a temporary directory, real processes. All clocks are the
machine's own monotonic one, which its processes share.

- ``async``: from the call of ``cancel()`` to where the handler's ``except CancelledError`` begins.
- ``thread``: to where ``current().cancelled`` is true for a handler in a thread, which looks each millisecond: it is
  told, and cannot be ended.
- ``process``: to where the ``finally`` of an isolated task that computes for ever begins, and to where its result is
  CANCELLED for whoever waits.
- ``drain``: from SIGTERM to the end of the process, with tasks running that have ended already (idle) or sleep on.
- ``restart``: from the death of a process of ``--processes 1`` to where its successor consumes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tranship import Client, TaskState, current, task
from tranship.operations import Operator

LONG = 60.0
PATIENCE = 30.0


def say(name: str) -> None:
    """Write down when this happened, where the measuring process looks for it."""
    now = time.monotonic()
    new = Path(f"{name}.new")
    new.write_text(repr(now))
    new.rename(name)


@task(name="bench.async")
async def on_loop(name: str) -> None:
    try:
        say(f"{name}.begun")
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        say(f"{name}.ended")
        raise


@task(name="bench.thread")
def in_thread(name: str) -> None:
    say(f"{name}.begun")
    end = time.monotonic() + LONG
    while not current().cancelled and time.monotonic() < end:
        time.sleep(0.001)
    say(f"{name}.ended")


@task(name="bench.process", isolation="process")
def in_process(name: str) -> None:
    try:
        say(f"{name}.begun")
        while True:
            pass
    finally:
        say(f"{name}.ended")


@task(name="bench.pid")
def pid() -> int:
    return os.getpid()


@task(name="bench.sleep")
def sleep(seconds: float) -> None:
    time.sleep(seconds)


def until(condition: Callable[[], object], every: float = 0.001) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(every)


@contextlib.contextmanager
def working(*options: str, tasks: str = "cancel_latency") -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; it does not outlive the measurement."""
    command = [sys.executable, "-m", "tranship", "worker", tasks, "--quiet", *options]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)


def cancels(client: Client, what, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds until the handler noticed, and until the waiting client knew; the first two are warm-up."""
    noticed, known = [], []
    for number in range(rounds + 2):
        name = str(Path.cwd() / f"{what.name}-{number}")
        begun, ended = Path(f"{name}.begun"), Path(f"{name}.ended")
        handle = client.submit(what, name)
        until(begun.exists)
        asked = time.monotonic()
        handle.cancel()
        # One in a thread may return all the same, as this one does, and what it returns counts.
        if handle.wait(PATIENCE).state not in (TaskState.CANCELLED, TaskState.SUCCESS):
            raise AssertionError(f"{what.name} has not ended")
        told = time.monotonic()
        until(ended.exists)
        noticed.append((float(ended.read_text()) - asked) * 1e3)
        known.append((told - asked) * 1e3)
        begun.unlink()
        ended.unlink()
    return noticed[2:], known[2:]


def stops(client: Client, rounds: int, seconds: float) -> list[float]:
    """Milliseconds from SIGTERM to the end of the process, with a task of ``seconds`` just begun; 0: with none."""
    took = []
    for _ in range(rounds):
        with working() as process:
            client.submit(pid).result(PATIENCE)
            if seconds:
                slow = client.submit(sleep, seconds)
                until(lambda: slow.state() is TaskState.STARTED)  # noqa: B023
            asked = time.monotonic()
            process.terminate()
            process.wait(PATIENCE)
            took.append((time.monotonic() - asked) * 1e3)
    return took


def restarts(client: Client, rounds: int, options: list[str], end: Callable[[int], object]) -> list[float]:
    """Milliseconds from the end of a process to the first task that its successor has run, which waited for it."""
    took = []
    for _ in range(rounds):
        with working("--processes", "1", *options):
            now = client.submit(pid).result(PATIENCE)
            asked = time.monotonic()
            end(now)
            while client.submit(pid).result(PATIENCE) == now:
                pass
            took.append((time.monotonic() - asked) * 1e3)
    return took


def row(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[math.ceil(len(ordered) * 0.99) - 1]
    return f"| {name} | {len(ordered)} | {statistics.median(ordered):,.1f} | {p99:,.1f} | {ordered[-1]:,.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    few = max(3, rounds // 20)
    with tempfile.TemporaryDirectory() as where, contextlib.chdir(where):
        os.environ["TRANSHIP_BROKER_URL"] = f"sqlite:///{where}/tasks.db"
        print("| milliseconds | n | median | p99 | most |\n|---|---:|---:|---:|---:|", flush=True)
        with Client() as client:
            with working():
                for what in (on_loop, in_thread, in_process):
                    noticed, known = cancels(client, what, rounds)
                    kind = what.name.removeprefix("bench.")
                    print(row(f"cancel, {kind}: the handler hears of it", noticed), flush=True)
                    print(row(f"cancel, {kind}: the client knows its end", known), flush=True)
            print(row("drain, idle: SIGTERM to the process's end", stops(client, few, 0)), flush=True)
            print(row("drain, a task of 500 ms just begun", stops(client, few, 0.5)), flush=True)
            recycled = restarts(client, few, ["--max-tasks-per-process", "1"], lambda _: None)
            print(row("restart, recycled: to the successor's first result", recycled), flush=True)
            killed = restarts(client, few, [], lambda one: os.kill(one, signal.SIGKILL))
            print(
                row("restart, killed young (a pause of 500 ms in it): to the successor's first result", killed),
                flush=True,
            )
        with Operator() as operator:
            left = [one.worker for one in operator.workers() if one.pid and Path(f"/proc/{one.pid}").exists()]
        if left:
            raise AssertionError(f"workers are left behind: {left}")


if __name__ == "__main__":
    # The tasks are found by the worker as cancel_latency.on_loop and so on, not as __main__.
    sys.path.insert(0, str(Path(__file__).parent))
    from cancel_latency import main as measured

    measured()
