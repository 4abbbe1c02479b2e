"""What workers run in a soak: one task for each kind, and every run written down from its start to its stop.

``tranship worker soak.tasks:worker`` runs all of it; each process appends to a file of its own in ``SOAK_EVENTS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tranship import FixedBackoff, RetryPolicy, Worker, current, task

EVENTS = "SOAK_EVENTS"
"""The directory for the files of events."""
OWN_FILE = "SOAK_OWN_FILE"
"""The file of this worker's process; the processes of its isolated tasks inherit it."""
LIMITS = {"video": 3, "mail": 2, "cpu": 2}
"""How many of a type run at once in one worker."""
CONCURRENCY = 20
DELIVERIES = 8
"""A task that is delivered more often than this without an end is given up."""
FOR_EVER = 300.0
"""Seconds after which a task that waits to be cancelled gives up: it would end as a success, which is a finding."""

MAIN, VIDEO, CPU, CRASH = "soak", "soak-video", "soak-cpu", "soak-crash"
"""Queues. What is limited has a queue of its own, but for mail, which shares the main one."""


def note(event: str, kind: str = "", task_id: str = "-", attempt: int = 0) -> None:
    """Append a line in one short write, which no kill can cut and no other writer can divide."""
    line = f"{event} {kind or '-'} {task_id} {attempt} {time.time():.6f}\n"
    with Path(os.environ[OWN_FILE]).open("ab", buffering=0) as file:
        file.write(line.encode())


@contextlib.contextmanager
def noted(kind: str) -> Iterator[None]:
    """Write down start and stop of one run. While a run is between them, it has its slot: it may have it longer."""
    run = current()
    note("start", kind, run.id, run.attempt)
    try:
        yield
    finally:
        note("stop", kind, run.id, run.attempt)


@task(name="soak.ok", queue=MAIN)
async def ok(number: int) -> int:
    with noted("ok"):
        return number


@task(name="soak.ok-thread", queue=MAIN)
def ok_thread(number: int) -> int:
    with noted("ok-thread"):
        return number


@task(name="soak.slow", queue=MAIN)
async def slow(number: int) -> int:
    with noted("slow"):
        await asyncio.sleep(0.1 + number % 5 * 0.1)
        return number


@task(name="soak.retry", queue=MAIN, retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.1)))
async def retry(number: int) -> int:
    """Fails once or twice."""
    with noted("retry"):
        if current().attempt <= number % 2:
            raise ConnectionError("not yet")
        return number


@task(name="soak.fail", queue=MAIN)
def fail(number: int) -> int:
    with noted("fail"):
        raise ValueError(f"{number} is not to my liking")


@task(name="soak.exhaust", queue=MAIN, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.1)))
async def exhaust(number: int) -> int:
    """Fails until it is given up."""
    with noted("exhaust"):
        raise ConnectionError(f"never {number}")


@task(name="soak.too-long", queue=MAIN, run_timeout=0.2)
async def too_long(number: int) -> int:
    with noted("too-long"):
        await asyncio.sleep(FOR_EVER)
        return number


@task(name="soak.cancel", queue=MAIN)
async def cancel(number: int) -> int:
    with noted("cancel"):
        await asyncio.sleep(FOR_EVER)
        return number


@task(name="soak.cancel-thread", queue=MAIN)
def cancel_thread(number: int) -> int:
    with noted("cancel-thread"):
        current().wait_cancelled(FOR_EVER)
        current().raise_if_cancelled()
        return number


@task(name="soak.video", queue=VIDEO, task_type="video")
async def video(number: int) -> int:
    """Of a limited type with a queue of its own."""
    with noted("video"):
        await asyncio.sleep(0.03)
        return number


@task(name="soak.mail", queue=MAIN, task_type="mail")
def mail(number: int) -> int:
    """Of a limited type that shares its queue."""
    with noted("mail"):
        time.sleep(0.01)
        return number


@task(name="soak.isolated", queue=CPU, task_type="cpu", isolation="process")
def isolated(number: int) -> int:
    with noted("isolated"):
        return number


@task(name="soak.isolated-too-long", queue=CPU, task_type="cpu", isolation="process", run_timeout=0.3)
def isolated_too_long(number: int) -> int:
    with noted("isolated-too-long"):
        while time.time():
            pass
        return number


@task(name="soak.isolated-cancel", queue=CPU, task_type="cpu", isolation="process")
def isolated_cancel(number: int) -> int:
    with noted("isolated-cancel"):
        time.sleep(FOR_EVER)
        return number


@task(name="soak.isolated-crash", queue=CPU, task_type="cpu", isolation="process")
def isolated_crash(number: int) -> int:
    """Takes its own process along, and nobody else."""
    with noted("isolated-crash"):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@task(name="soak.crash", queue=CRASH)
async def crash(number: int) -> int:
    """Takes the worker along, the first time."""
    with noted("crash"):
        if current().delivery_count == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


@task(name="soak.poison", queue=CRASH)
def poison(number: int) -> int:
    """Takes the worker along every time."""
    with noted("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
        return number


def begin() -> None:
    """Make the file of this process; its name tells the others of it."""
    path = Path(os.environ[EVENTS]) / f"{os.getpid()}.{time.time_ns()}"
    os.environ[OWN_FILE] = str(path)
    note("begin")


worker = Worker(
    tasks=[
        *(ok, ok_thread, slow, retry, exhaust, fail, too_long, cancel, cancel_thread),
        *(video, mail, isolated, isolated_too_long, isolated_cancel, isolated_crash, crash, poison),
    ],
    task_type_limits=LIMITS,
    max_concurrent_tasks=CONCURRENCY,
    max_deliveries=DELIVERIES,
    on_startup=[begin],
    on_shutdown=[lambda: note("end")],
)
