"""The tasks of a Celery app as a module for tranship's workers, which runs as it is where that can be."""

from __future__ import annotations

import json
import keyword
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tranship.migration._schedule import ScheduleFacts
from tranship.migration._task_facts import RetryFacts, TaskFacts

__all__ = ["skeleton_of"]

_ENDLESS: Final = 1000
"""Attempts of a task that Celery retries without end."""
_NO_NAME: Final = re.compile(r"\W")


def skeleton_of(target: str, tasks: Sequence[TaskFacts], schedule: Sequence[ScheduleFacts]) -> str:
    """Return the source of a module with ``tasks``.

    A task that uses nothing of Celery calls the app's function as it is; of one that does, the body is left to you.

    Args:
        target: what the app is imported by, ``module:object``.
        tasks: of the app.
        schedule: the entries of its ``beat_schedule``.
    """
    module, _, name = target.partition(":")
    names = _imported(tasks)
    lines = [f'"""The tasks of the Celery app {target}, for workers of tranship."""', ""]
    if any(_runs(task) for task in tasks):
        own, _, rest = name.partition(".")
        lines += [f"from {module} import {own} as celery_app{f'  # its {rest}' if rest else ''}", ""]
    lines += [f"from tranship import {', '.join(names)}", ""]
    if any(_runs(task) for task in tasks):
        lines += ["celery_app.loader.import_default_modules()", ""]
    lines += _schedule(target, schedule)
    taken: set[str] = {"celery_app", *names}
    for task, own_name in zip(tasks, _named(tasks, taken), strict=True):
        lines += ["", *_task(task, own_name), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _runs(task: TaskFacts) -> bool:
    """Whether its function can be called without a worker of Celery."""
    return not task.uses


def _imported(tasks: Sequence[TaskFacts]) -> list[str]:
    retries = [task.retry for task in tasks if task.retry is not None]
    backoffs = {"ExponentialBackoff" if one.backoff else "FixedBackoff" for one in retries}
    return [*sorted({*backoffs, *(["RetryPolicy"] if retries else [])}), "task"]


def _schedule(target: str, schedule: Sequence[ScheduleFacts]) -> list[str]:
    if not schedule:
        return []
    lines = [f"# Sent by Celery beat, or by `tranship schedule run --beat {target}`:"]
    return [*lines, *(f"#   {one.name}: {one.task}({one.args}), {one.when or one.kind}" for one in schedule), ""]


def _task(task: TaskFacts, name: str) -> list[str]:
    options = list(_options(task))
    head = ["@task(", *(f"    {option}," for option in options), ")"]
    define = f"{'async ' if task.is_async else ''}def {name}{task.signature}:"
    wait = "await " if task.is_async else ""
    if _runs(task):
        return [*head, define, f"    return {wait}celery_app.tasks[{_text(task.name)}].run({task.call})"]
    used = ", ".join(f"self.{use}" for use in task.uses)
    return [
        *head,
        define,
        f"    # It uses {used}.",
        f'    raise NotImplementedError("move the body from {task.module} here")',
    ]


def _options(task: TaskFacts) -> Iterator[str]:
    yield f"name={_text(task.name)}"
    yield f"queue={_text(task.queue)}"
    limit = task.soft_time_limit if task.time_limit is None else task.time_limit
    if limit is not None:
        yield f"run_timeout={limit:g}"
        if not task.is_async:
            yield 'isolation="process"'
    if task.retry is not None:
        yield f"retry={_policy(task.retry)}"
    if task.ignore_result:
        yield "store_result=False"
    if isinstance(task.expires, int | float):
        yield f"deadline_in={task.expires:g}"
    if task.serializer == "msgpack":
        yield 'serializer="msgpack"'


def _policy(retry: RetryFacts) -> str:
    attempts = _ENDLESS if retry.max_retries is None else retry.max_retries + 1
    if retry.backoff:
        jitter = "full" if retry.jitter else "none"
        backoff = f"ExponentialBackoff({retry.backoff:g}, max_delay={retry.backoff_max:g}, jitter={_text(jitter)})"
    else:
        backoff = f"FixedBackoff({retry.delay:g})"
    # Where nothing is retried by itself, only what the task asks for is.
    on = ", ".join(map(_text, retry.on or ["tranship.errors.Retry"]))
    return (
        f"RetryPolicy(\n        max_attempts={attempts},\n        backoff={backoff},\n        retry_on=[{on}],\n    )"
    )


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _named(tasks: Sequence[TaskFacts], taken: set[str]) -> Iterator[str]:
    """Yield a name for each function: the last part of its task's, or all of it where that is not enough."""
    short = Counter(_identifier(task.name.rpartition(".")[2]) for task in tasks)
    for task in tasks:
        name = _identifier(task.name.rpartition(".")[2])
        if short[name] > 1 or name in taken:
            name = _identifier(task.name)
        while name in taken:
            name += "_"
        taken.add(name)
        yield name


def _identifier(text: str) -> str:
    name = _NO_NAME.sub("_", text) or "task"
    return f"_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name
