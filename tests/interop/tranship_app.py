"""The tranship side of these tests: namesakes of the tasks in ``celery_app``, and a worker in a process of its own.

``python -m interop.tranship_app URL QUEUE CONCURRENCY`` says ``ready`` once it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

from interop.problems import OutOfPaper, Printer, Refused
from interop.runs import note
from tranship import FixedBackoff, Priority, Reject, Retry, RetryPolicy, Task, Worker, current, task
from tranship.protocol import CARRIED


@task(name="interop.add", queue="interop")
async def add(a: Any, b: Any) -> Any:
    return a + b


@task(name="interop.fail", queue="interop")
async def fail(text: str) -> None:
    raise OutOfPaper(text)


@task(name="interop.refuse", queue="interop")
async def refuse(how: str) -> None:
    if how == "two":
        raise Refused("user", 7)
    if how == "key":
        raise KeyError("user", 7)
    if how == "nested":
        raise Printer.Jam("tray", 2)
    if how == "odd":
        raise ValueError({1}, None)
    if how == "reject":
        raise Reject("tray 2")
    raise Refused("user", 7) from OutOfPaper("tray 2")


@task(name="interop.doomed", queue="interop", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
async def doomed() -> None:
    raise Retry(0.01, "again") from Refused("user", current().attempt)


@task(name="interop.flaky", queue="interop")
async def flaky(failures: int) -> int:
    """Fail as often as asked, and say in which attempt it went well."""
    note(current().id, "tranship", current().attempt)
    if current().attempt < failures:
        raise Retry(0.05, "again")
    return current().attempt


@task(name="interop.slow", queue="interop")
async def slow(seconds: float) -> str:
    note(current().id, "tranship", "slow")
    await asyncio.sleep(seconds)
    return "slept"


@task(name="interop.echo", queue="interop")
async def echo(value: Any) -> Any:
    return value


@task(name="interop.count", queue="interop")
def count(number: int, seconds: float = 0.0) -> int:
    """Leave a line in the run log, and take a moment."""
    note(current().id, "tranship", number)
    time.sleep(seconds)
    return number


@task(name="interop.seen", queue="interop")
async def seen() -> dict[str, Any]:
    """What the message said, as the handler sees it."""
    envelope = current().envelope
    return {
        "priority": envelope.priority.label,
        "run_timeout": envelope.run_timeout,
        "deadline_in": None if envelope.deadline is None else envelope.deadline - time.time(),
        "attempt": envelope.attempt,
        "root_id": envelope.root_id,
        "group_id": envelope.group_id,
        "colour": current().headers.get("colour"),
        "content_type": envelope.content_type,
    }


@task(
    name="interop.stubborn",
    queue="interop",
    retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(0.05)),
    run_timeout=30,
    result_ttl=600,
)
async def stubborn() -> list[Any]:
    """Go well in the last attempt that the task's own policy allows."""
    note(current().id, "tranship", current().attempt)
    if current().attempt < 2:
        raise ConnectionError("again")
    return [current().attempt, current().envelope.run_timeout, current().envelope.result_ttl]


@task(name="interop.unheard", queue="interop", store_result=False)
async def unheard() -> str:
    """Go well, and keep quiet about it unless somebody says that he waits."""
    note(current().id, "tranship", "unheard")
    return "heard"


@task(name="interop.total", queue="interop")
async def total(values: list[Any]) -> Any:
    return sum(values)


@task(name="interop.whence", queue="interop")
async def whence() -> dict[str, Any]:
    """Where in a workflow it is."""
    envelope = current().envelope
    carried = envelope.headers.get(CARRIED, {})
    return {
        "id": envelope.id,
        "root_id": envelope.root_id or envelope.id,
        "parent_id": envelope.parent_id,
        "group": envelope.group_id,
        "stamps": carried.get("headers", {}).get("stamps", {}),
    }


@task(name="interop.travelled", queue="interop")
async def travelled(_before: Any = None) -> dict[str, Any]:
    """How it was sent."""
    envelope = current().envelope
    return {
        "step": STEPS[envelope.priority],
        "expires": envelope.deadline is not None,
        "time_limit": envelope.run_timeout,
        "colour": current().headers.get("colour"),
        "eta": envelope.not_before is not None,
        "stored": envelope.store_result is not False,
    }


@task(name="interop.by_id", queue="interop")
async def by_id(task_id: str, *, mark: str = "") -> None:
    """An errback of the old kind."""
    note(mark, "tranship", "by_id")


@task(name="interop.by_error", queue="interop")
async def by_error(request: Any, error: Any, traceback: Any, *, mark: str = "") -> None:
    """One of the new kind."""
    note(mark, "tranship", f"by_error-{request.task}-{type(error).__name__}-{error.args[0].replace(' ', '_')}")


TASKS: list[Task[..., Any]] = [add, fail, refuse, doomed, flaky, slow, echo, count, seen, stubborn, unheard]
TASKS += [total, whence, travelled, by_id, by_error]
STEPS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6, Priority.VERY_LOW: 9}


async def main(url: str, queue: str, concurrency: str) -> None:
    name = os.environ.get("INTEROP_NAME")
    worker = Worker(url, tasks=TASKS, queues=[queue], max_concurrent_tasks=int(concurrency), name=name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    serving = asyncio.create_task(worker.serve())
    # A worker has no event for it, so this looks.
    while not worker.status().ready and not serving.done():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
