"""From what a caller says to a message: resolve the task, check the arguments, build the envelope, encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tranship.checks import key_text
from tranship.envelope import Receipt, new_ids
from tranship.errors import BatchSubmitError, InvalidArgumentsError, TranshipError
from tranship.task import Task, TaskCall, current_or_none, named

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.protocol import Message
    from tranship.submission import Answer
    from tranship.task import TaskClass, Workflow

__all__ = [
    "CANCEL_TTL",
    "AnyTask",
    "as_call",
    "as_calls",
    "batch_handles",
    "cancel_target",
    "has_single",
    "ids_of",
    "known_task",
    "prepare",
    "prepare_one",
]

CANCEL_TTL: Final = 86_400.0
"""How long a cancel is remembered, unless said otherwise: one day, in seconds."""

AnyTask: TypeAlias = "Task[..., Any] | TaskCall[Any] | type[TaskClass] | TaskClass | Workflow[Any] | str"


def as_call(task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskCall[Any] | Workflow[Any]:
    """Return the call that is meant, its arguments checked; a workflow as it is.

    Raises:
        InvalidArgumentsError: the arguments do not fit, or ``task`` is no task.
    """
    if isinstance(task, Task):
        return task.call(*args, **kwargs)
    if isinstance(task, str):
        return named(task).call(*args, **kwargs)
    if not isinstance(task, TaskCall):
        return _as_other(task, args, kwargs)
    if args or kwargs:
        raise InvalidArgumentsError("a call already has its arguments; give either task.call(...) or the arguments")
    return task


def _as_other(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> TaskCall[Any] | Workflow[Any]:
    from tranship.task import Step, Workflow, task_of

    if isinstance(found := task_of(task), Task):
        return found.call(*args, **kwargs)
    if isinstance(task, Workflow) and not (args or kwargs):
        return task
    if isinstance(task, Workflow):
        raise InvalidArgumentsError(f"{task!r} already has its arguments; give either the workflow or the arguments")
    if isinstance(task, Step):
        raise InvalidArgumentsError(
            f"{task!r} lacks its first argument, the result of what runs before it; put it behind something with "
            "then(...), or give all arguments with task.call(...)"
        )
    raise InvalidArgumentsError(
        f"cannot submit {task!r}; expected a function decorated with @task, a TaskClass, a call made by "
        ".call(...), a workflow, or a task's name"
    )


def as_calls(calls: Iterable[TaskCall[Any]]) -> list[TaskCall[Any]]:
    """Return the calls of a batch.

    Raises:
        InvalidArgumentsError: one call, or something else that is no batch.
    """
    if isinstance(calls, TaskCall | Task | str) or not isinstance(calls, Iterable):
        raise InvalidArgumentsError(f"submit_many got {calls!r}; expected several calls, each made by task.call(...)")
    return list(calls)


def has_single(calls: Iterable[Any]) -> bool:
    """Whether there is one at a time of any of the tasks."""
    return any(isinstance(one, TaskCall) and one.task.single is not None for one in calls)


def known_task(task: Any) -> Task[..., Any] | None:
    """Return the task that a result is read as, if one was given.

    Raises:
        InvalidArgumentsError: it is no task.
    """
    if task is None or isinstance(task, Task):
        return task
    from tranship.task import task_of

    found = task_of(task)
    if not isinstance(found, Task):
        raise InvalidArgumentsError(f"{task!r} is no task; expected a function decorated with @task, or a TaskClass")
    return found


def prepare(link: ClientLink, calls: Sequence[TaskCall[Any]]) -> list[Message]:
    """Return the messages for ``calls``; any thread, nothing is sent.

    Raises:
        InvalidArgumentsError: one of them is no call.
        EncodeError, MessageTooLarge, InvalidOptionError.
    """
    now, parent, reply_to, encode = link.clock.now(), current_or_none(), link.reply_to, link.encode
    messages: list[Message] = []
    for call, fresh_id in zip(calls, new_ids(len(calls)), strict=True):
        task = call.task if type(call) is TaskCall else _task_of(call)
        envelope = task.envelope(call.args, call.kwargs, now=now, reply_to=reply_to, parent=parent, fresh_id=fresh_id)
        kind = task.kind if parent is None else None
        if kind is None and task.limits is not None:
            link.hold_back(task)
        message = encode(envelope, kind)
        if envelope.id is not fresh_id:
            # An id of the caller's own may be in use already; ours are fresh.
            message.check_id = True
        messages.append(message)
    return messages


def prepare_one(link: ClientLink, call: TaskCall[Any]) -> Message:
    """The same for a single task, whose result is likely to be waited for."""
    (message,) = prepare(link, [call])
    message.awaited = True
    return message


def _task_of(call: Any) -> Task[..., Any]:
    if not isinstance(call, TaskCall):
        raise InvalidArgumentsError(
            f"cannot submit {call!r} among many; expected a call made by task.call(...); submit a workflow by itself"
        )
    return call.task


def ids_of(tasks: Iterable[Any]) -> list[str]:
    """Return the ids of handles, or of ids.

    Raises:
        InvalidArgumentsError: one of them instead of several, or something else.
    """
    if isinstance(tasks, str) or not isinstance(tasks, Iterable):
        raise InvalidArgumentsError(f"expected several handles or ids, got {tasks!r}")
    ids = [task if isinstance(task, str) else getattr(task, "id", None) for task in tasks]
    if not all(isinstance(one, str) for one in ids):
        raise InvalidArgumentsError(f"expected handles or ids, got {ids!r}")
    return [str(one) for one in ids]


def batch_handles(
    make: Callable[[Task[..., Any], Message, Answer], Any],
    calls: Sequence[TaskCall[Any]],
    messages: Sequence[Message],
    answers: Sequence[Answer],
) -> list[Any]:
    """Turn the answers of a batch into handles.

    Raises:
        BatchSubmitError: some are errors.
    """
    errors: Mapping[int, TranshipError] = {
        index: answer for index, answer in enumerate(answers) if not isinstance(answer, Receipt)
    }
    handles = [
        make(call.task, message, answer) if isinstance(answer, Receipt) else None
        for call, message, answer in zip(calls, messages, answers, strict=True)
    ]
    if not errors:
        return handles
    index, first = next(iter(errors.items()))
    raise BatchSubmitError(
        f"{len(errors)} of {len(answers)} tasks were not submitted; number {index}: {first}",
        handles=handles,
        errors=errors,
    )


def cancel_target(key: str | None, task_id: str | None) -> tuple[str, str]:
    """What to cancel: its kind and value.

    Raises:
        InvalidArgumentsError: neither or both were given.
        InvalidOptionError: a text that no task can have.
    """
    if (key is None) == (task_id is None):
        raise InvalidArgumentsError("cancel takes a cancel key or task_id=..., one of them")
    kind, value = ("key", key) if key is not None else ("id", task_id)
    if not isinstance(value, str) or not value:
        raise InvalidArgumentsError(f"cancel got {value!r}; expected a text that is not empty")
    return kind, key_text("the cancel key" if kind == "key" else "task_id", value)
