"""What follows a task that has ended, by how it ended: Celery's rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.canvas._embed import Embed
from tranship.canvas._expand import Expander
from tranship.canvas._plan import Ended, Fate, Plan
from tranship.envelope import Envelope, ErrorInfo, TaskState
from tranship.ports import ChordPart
from tranship.protocol import CARRIED, NO_ROUTING, Routing, Signature

__all__ = ["After", "Failed", "after_failure", "after_success", "fail_chain"]

_SHARED: Final = {TaskState.DEAD_LETTERED: TaskState.FAILURE}
"""The state of who never ran, where that of who failed is his alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The task that has ended."""

    envelope: Envelope
    embed: Embed
    now: float
    """Epoch seconds."""
    routing: Routing = NO_ROUTING
    """What is known of where tasks go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """How it failed."""

    state: TaskState
    error: ErrorInfo
    status: str
    """Celery's word for the state."""
    value: Any
    """Celery's map of the exception."""


def after_success(after: After, value: Any) -> Plan:
    """Return what follows a task that returned ``value``: its callbacks, the next step, and a part for its chord.

    Raises:
        MalformedMessage: a signature asks for what cannot be sent.
    """
    embed, envelope = after.embed, after.envelope
    expander = Expander(envelope, "done", after.now, after.routing)
    children = expander.send_all(embed.callbacks, (value,))
    if embed.next is not None:
        children.append(expander.send(embed.next, (value,), chain=list(embed.later)))
    plan = expander.plan
    plan.children += children
    if embed.chord is not None and (part := _part(envelope, embed.chord, "SUCCESS", value)) is not None:
        plan.parts.append(part)
    return plan


def after_failure(after: After, failed: Failed, *, wants_error: Sequence[bool] = ()) -> Plan:
    """Return what follows a task that failed: the steps after it fail, its chord hears of it, its errbacks are called.

    As in Celery nobody calls the errbacks of a task that was cancelled or has expired. Other than there, the steps
    after it end with it: nobody waits for them in vain.

    Args:
        after: the task.
        failed: how.
        wants_error: of each errback, in order, whether it is to be called here with the error itself; the others are
            sent as tasks, with the id of the one that failed.

    Raises:
        MalformedMessage: an errback asks for what cannot be sent.
    """
    embed, envelope = after.embed, after.envelope
    expander = Expander(envelope, "failed", after.now, after.routing)
    plan = expander.plan
    if embed.chord is not None and (part := _part(envelope, embed.chord, failed.status, failed.value)) is not None:
        plan.parts.append(part)
    steps = [] if embed.next is None else [*embed.later, embed.next.encode()]
    fail_chain(plan, steps, failed)
    if failed.status == "FAILURE":
        errbacks(expander, embed.errbacks, envelope.id, failed.error, wants_error)
    return plan


def errbacks(
    expander: Expander, found: Sequence[Signature], task_id: str, error: ErrorInfo, wants_error: Sequence[bool]
) -> None:
    """Add the errbacks of the task ``task_id``."""
    wants = dict(enumerate(wants_error))
    expander.plan.calls += [(one, error) for at, one in enumerate(found) if wants.get(at)]
    if sent := [one for at, one in enumerate(found) if not wants.get(at)]:
        expander.plan.children.append(expander.send(Signature.group(sent), (task_id,)))


def fail_chain(plan: Plan, steps: Sequence[Mapping[str, Any]], failed: Failed) -> None:
    """Add the fate of steps that will not run, and what that means for the chords that they count for.

    What cannot be read of them is left out: it would not have run either.
    """
    left = deque(steps)
    while left:
        step = left.popleft()
        options = _map(step.get("options"))
        task_id, group_id = options.get("task_id"), options.get("group_id")
        kwargs = _map(step.get("kwargs"))
        kind = step.get("subtask_type")
        if kind == "chord":
            # What others wait for is its body.
            left.append(_map(kwargs.get("body")))
            continue
        if kind in ("group", "chain"):
            tasks = kwargs.get("tasks")
            left.extend(map(_map, tasks if isinstance(tasks, list | tuple) else ()))
            continue
        if not isinstance(task_id, str):
            continue
        plan.fates.append(
            Fate(
                task_id=task_id,
                state=_SHARED.get(failed.state, failed.state),
                error=failed.error,
                group_id=group_id if isinstance(group_id, str) else None,
                reply_to=reply if isinstance(reply := options.get("reply_to"), str) else None,
            )
        )
        chord = options.get("chord")
        if isinstance(chord, Mapping) and isinstance(group_id, str):
            index = _index(options.get("group_index"))
            part = ChordPart(task_id=task_id, index=index, status=failed.status, value=failed.value)
            plan.parts.append(Ended(group_id=group_id, part=part, body=chord))


def _part(envelope: Envelope, chord: Mapping[str, Any], status: str, value: Any) -> Ended | None:
    if envelope.group_id is None:
        return None
    carried = _map(_map(envelope.headers.get(CARRIED)).get("headers"))
    index = _index(carried.get("group_index"))
    part = ChordPart(task_id=envelope.id, index=index, status=status, value=value)
    return Ended(group_id=envelope.group_id, part=part, body=chord)


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
