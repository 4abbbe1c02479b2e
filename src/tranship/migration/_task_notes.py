"""What there is to say of each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tranship.migration._note import Note, differs, works
from tranship.migration._task_facts import TaskFacts

__all__ = ["task_notes"]

_OURS: Final = {
    "retry": "raise Retry(delay) from the error (tranship.Retry)",
    "request.id": "current().id",
    "request.retries": "current().attempt",
    "request.root_id": "current().root_id",
    "request.parent_id": "current().envelope.parent_id",
    "request.headers": "current().headers",
    "request.group": "current().envelope.group_id",
    "name": "current().envelope.task",
}
"""What stands for an attribute of Celery's task in a handler; ``current`` is tranship's."""


def task_notes(tasks: Sequence[TaskFacts]) -> Iterator[Note]:
    """Yield notes, task by task."""
    for task in tasks:
        found = [note for judge in _JUDGES for note in judge(task)]
        if not found:
            yield works(task.name, f"runs as it is, on queue {task.queue!r}")
        yield from found


def _self(task: TaskFacts) -> Iterator[Note]:
    for use in task.uses:
        ours = _OURS.get(use)
        if use == "?":
            text = "takes the task itself (bind=True), and its source cannot be read: look what it uses of it"
        elif ours:
            text = f"self.{use} is {ours}"
        else:
            text = f"self.{use} has no equal: rewrite what needs it"
        yield differs(task.name, text)


def _retries(task: TaskFacts) -> Iterator[Note]:
    if task.retry is None:
        return
    if task.retry.max_retries is None:
        yield differs(task.name, "is retried without end; a RetryPolicy has max_attempts")
    if task.retry.never_on:
        names = ", ".join(task.retry.never_on)
        yield differs(
            task.name, f"dont_autoretry_for ({names}): name in retry_on what is to be tried again, or raise Reject"
        )


def _limits(task: TaskFacts) -> Iterator[Note]:
    if task.soft_time_limit is not None:
        told = "" if task.time_limit is not None else "; the skeleton has it as run_timeout"
        yield differs(task.name, f"soft_time_limit: no SoftTimeLimitExceeded is raised inside of it{told}")
    if task.time_limit is not None and not task.is_async:
        yield works(
            task.name, "time_limit is run_timeout; isolation='process' ends it for certain, as a prefork pool does"
        )
    if task.rate_limit is not None:
        yield differs(
            task.name,
            f"rate_limit {task.rate_limit!r} is not kept; Worker(task_type_limits=...) limits how many run at once",
        )


def _delivery(task: TaskFacts) -> Iterator[Note]:
    if not task.acks_late:
        text = "acks_late is off: here it comes again when its worker dies, and may run twice; make it idempotent"
        yield differs(task.name, text)
    elif not task.reject_on_worker_lost:
        text = "reject_on_worker_lost is off: here what a worker dies of comes again, max_deliveries times at most"
        yield differs(task.name, text)


def _shape(task: TaskFacts) -> Iterator[Note]:
    if task.hooks:
        yield differs(task.name, f"{', '.join(task.hooks)} of its class are not called; a middleware does that")
    if task.serializer not in ("json", "msgpack"):
        yield differs(
            task.name, f"serializer {task.serializer!r} is never read: its messages become dead letters; use json"
        )
    if task.pydantic:
        yield works(task.name, "pydantic=True: annotate with the models, as there")
    if task.priority is not None:
        yield differs(
            task.name, f"priority {task.priority} is one of four levels here; see the level's number at your broker"
        )


_JUDGES: Final[tuple[Callable[[TaskFacts], Iterator[Note]], ...]] = (_self, _retries, _limits, _delivery, _shape)
