"""What an orchestrator hands over becomes a message that a worker reads, and a token to end it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tranship.envelope import Envelope
from tranship.errors import InvalidOptionError, MalformedMessage, SubmitError
from tranship.protocol import Encoder, RawMessage, epoch_of
from tranship.retry import RetryPolicy

__all__ = ["Held", "Work", "named", "queue_of", "read_task"]

ONCE: Final = RetryPolicy(max_attempts=1)
"""What a worker does about a failure: nothing. The orchestrator is told, and has it tried again."""
_TRACE: Final = ("traceparent", "tracestate")
_ENCODER: Final = Encoder("avtomatika")


@dataclass(frozen=True, slots=True)
class Work:
    """What identifies a task at its orchestrator."""

    task_id: str
    job_id: str


class Held:
    """A task that is ours; the token of its deliveries.

    Attributes:
        work: which it is.
        kind: its type, which is the name of a skill.
        message: what the worker gets.
        due: when it may be given to the worker, in epoch seconds.
        open: whether the worker has it.
        count: how often the worker was given it.
        answer: how it ended; None: it has not.
        following: what the worker gets next, and when, instead of an end; None: it ends.
    """

    __slots__ = ("answer", "count", "due", "following", "kind", "message", "open", "work")

    def __init__(self, work: Work, kind: str, message: RawMessage) -> None:
        self.work, self.kind, self.message = work, kind, message
        self.due, self.open, self.count = 0.0, False, 0
        self.answer: Mapping[str, Any] | None = None
        self.following: tuple[RawMessage, float] | None = None

    def __repr__(self) -> str:
        return f"<task {self.work.task_id} of job {self.work.job_id}>"


def named(data: Any) -> Work | None:
    """Return which task it is that was handed over; None: it cannot be told, and nobody can be answered."""
    if not isinstance(data, Mapping):
        return None
    task_id, job_id = data.get("task_id"), data.get("job_id")
    if not isinstance(task_id, str) or not isinstance(job_id, str) or not task_id or not job_id:
        return None
    return Work(task_id, job_id)


def read_task(data: Mapping[str, Any], work: Work, queues: Sequence[str]) -> Held:
    """Read a task.

    Args:
        data: what was handed over.
        work: which it is.
        queues: what the worker consumes; a task belongs to the one of its type's name, or to the first.

    Raises:
        MalformedMessage: a part that cannot be used.
    """
    kind, params, deadline = data.get("type"), data.get("params"), data.get("deadline")
    if not isinstance(kind, str) or not kind:
        raise _bad(work, "type", kind, "the name of a skill")
    if params is not None and not isinstance(params, Mapping):
        raise _bad(work, "params", params, "an object")
    until = None if deadline is None else epoch_of(deadline)
    if deadline is not None and until is None:
        raise _bad(work, "deadline", deadline, "seconds since 1970")
    envelope = Envelope(
        id=work.task_id,
        task=kind,
        args=(dict(params or {}),),
        queue=queue_of(kind, queues),
        deadline=until,
        retry=ONCE,
        store_result=True,
        headers={**_texts(data.get("metadata")), **_own_headers(data, work)},
    )
    return Held(work, kind, _encoded(envelope, data, work))


def queue_of(kind: str, queues: Sequence[str]) -> str:
    """Return the queue that a task of this type belongs to."""
    return kind if kind in queues or not queues else queues[0]


def _encoded(envelope: Envelope, data: Mapping[str, Any], work: Work) -> RawMessage:
    try:
        try:
            return _ENCODER.encode(envelope).raw()
        except InvalidOptionError:
            # The job's metadata has a name in it that means something in a message.
            return _ENCODER.encode(replace(envelope, headers=_own_headers(data, work))).raw()
    except (InvalidOptionError, SubmitError, ValueError) as error:
        raise MalformedMessage(f"task {work.task_id} of job {work.job_id}: {error}", task_id=work.task_id) from error


def _own_headers(data: Mapping[str, Any], work: Work) -> dict[str, Any]:
    trace = _texts(data.get("tracing_context"))
    return {**{name: trace[name] for name in _TRACE if name in trace}, "job_id": work.job_id}


def _texts(value: Any) -> dict[str, Any]:
    return {name: one for name, one in value.items() if isinstance(name, str)} if isinstance(value, Mapping) else {}


def _bad(work: Work, part: str, value: Any, expected: str) -> MalformedMessage:
    text = f"task {work.task_id} of job {work.job_id}: its {part} is {value!r:.100}; expected {expected}"
    return MalformedMessage(text, task_id=work.task_id)
