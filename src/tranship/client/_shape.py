"""The shape of a submitted workflow: which tasks it is made of, and what their results come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from tranship.envelope import TaskResult, TaskState, WorkflowStep
from tranship.task import Task

__all__ = [
    "NOT_BEGUN",
    "Branch",
    "Leaf",
    "Series",
    "Shape",
    "cause",
    "coerced",
    "ends",
    "lacks_cause",
    "leaves",
    "outcome",
    "state_of",
    "steps_of",
    "typed",
    "without_foretold",
]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One task."""

    id: str
    task: Task[..., Any]
    stored: bool = True
    """Whether its result is kept."""


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other; its result is that of the last."""

    parts: tuple[Shape, ...]

    @property
    def id(self) -> str:
        """The id of what ends it."""
        return self.parts[-1].id


@dataclass(frozen=True, slots=True)
class Branch:
    """Side by side; its result is the list of theirs."""

    id: str
    parts: tuple[Shape, ...]
    joined: Leaf | None = None
    """The task that has the list as its result; None: nobody has, it is put together here."""


Shape: TypeAlias = Leaf | Series | Branch

NOT_BEGUN: Final = frozenset({TaskState.PENDING, TaskState.SCHEDULED, TaskState.UNKNOWN})
_CANCELLED: Final = TaskState.CANCELLED
CHORD_ERROR: Final = "celery.exceptions.ChordError"
"""The error of a task that was to follow a gathering of which a member did not succeed."""

Known: TypeAlias = Mapping[str, TaskResult]
"""Results that have come, by id; those of tasks that have not ended may be among them."""


def leaves(shape: Shape) -> Iterator[Leaf]:
    """Yield every task of it, in order."""
    if isinstance(shape, Leaf):
        yield shape
        return
    for part in shape.parts:
        yield from leaves(part)
    if isinstance(shape, Branch) and shape.joined is not None:
        yield shape.joined


def ends(shape: Shape) -> Iterator[Leaf]:
    """Yield the tasks whose results make up its own."""
    if isinstance(shape, Leaf):
        yield shape
    elif isinstance(shape, Series):
        yield from ends(shape.parts[-1])
    elif shape.joined is not None:
        yield shape.joined
    else:
        for part in shape.parts:
            yield from ends(part)


def outcome(shape: Shape, known: Known) -> TaskResult | None:
    """Return how it ended, as far as ``known`` says; None: it has not, or that is not known."""
    if isinstance(shape, Leaf):
        found = known.get(shape.id)
        return found if found is not None and found.state.terminal else None
    if isinstance(shape, Branch):
        return _branch_outcome(shape, known)
    last = outcome(shape.parts[-1], known)
    if last is not None:
        return _told_by_its_cause(shape, last, known)
    for part in shape.parts[:-1]:
        found = _failure(part, known)
        if found is not None:
            # What comes after it never runs.
            return replace(found, id=shape.id)
    return None


def _failure(shape: Shape, known: Known) -> TaskResult | None:
    """Return the first failure in it: of what something follows, one is enough."""
    if isinstance(shape, Branch):
        found = (_failure(part, known) for part in shape.parts)
        return next((one for one in found if one is not None), None)
    ended = outcome(shape, known)
    return None if ended is None or ended.success else ended


def cause(shape: Shape, known: Known) -> TaskResult | None:
    """Return the result of the task that did not succeed first, where it has failed; None: that has not come.

    What follows it fails with it, and is told so before the result of the task itself is stored.
    """
    if isinstance(shape, Leaf):
        found = outcome(shape, known)
        return None if found is None or found.success or _is_given_up(found) else found
    if isinstance(shape, Branch):
        causes = (cause(part, known) for part in shape.parts)
        return next((one for one in causes if one is not None), None)
    for part in shape.parts:
        found = outcome(part, known)
        unkept = isinstance(part, Leaf) and not part.stored and found is None
        if not unkept and (found is None or not found.success):
            return cause(part, known)
    return None


def _is_given_up(result: TaskResult) -> bool:
    """Whether it says no more than that a member of a gathering did not succeed."""
    return result.error is not None and result.error.type == CHORD_ERROR


def lacks_cause(shape: Shape, result: TaskResult, known: Known) -> bool:
    """Whether it has failed for a reason that has not come yet."""
    return not result.success and cause(shape, known) is None


def without_foretold(shape: Shape, known: Known, told_since: float) -> Known:
    """Return what is known without failures whose reason has not come yet.

    Whoever runs a task that fails tells those behind it first. Until its own result is stored as well, they have not
    begun in anybody's eyes.

    Args:
        shape: the workflow.
        known: results that have come.
        told_since: epoch seconds; a failure that was told before then is shown: its reason is not kept, or was
            forgotten.
    """
    foretold = {one.id for one in _foretold(shape, known) if (one.finished_at or 0.0) >= told_since}
    return {task_id: one for task_id, one in known.items() if task_id not in foretold} if foretold else known


def _foretold(shape: Shape, known: Known) -> Iterator[TaskResult]:
    """Yield the failures of tasks of which one before has not ended."""
    if isinstance(shape, Leaf):
        return
    ended = True
    for part in shape.parts:
        yield from _foretold(part, known) if ended or isinstance(shape, Branch) else _failures(part, known)
        unkept = isinstance(part, Leaf) and not part.stored
        ended = ended and (unkept or outcome(part, known) is not None)
    if isinstance(shape, Branch) and shape.joined is not None and not ended:
        yield from _failures(shape.joined, known)


def _failures(shape: Shape, known: Known) -> Iterator[TaskResult]:
    found = (known.get(leaf.id) for leaf in leaves(shape))
    # Who is cancelled with the whole is told so wherever he stands.
    return (one for one in found if one and one.state.terminal and not one.success and one.state != _CANCELLED)


def _told_by_its_cause(shape: Series, result: TaskResult, known: Known) -> TaskResult:
    """Return the result with the state and the error of the task that kept it from running."""
    first = None if result.success else cause(shape, known)
    return result if first is None else replace(first, id=shape.id)


def _branch_outcome(shape: Branch, known: Known) -> TaskResult | None:
    if shape.joined is not None:
        return outcome(shape.joined, known)
    values: list[Any] = []
    failed: TaskResult | None = None
    for part in shape.parts:
        found = outcome(part, known)
        if found is None:
            return None
        values.append(found.value)
        if not found.success and failed is None:
            failed = found
    if failed is not None:
        return replace(failed, id=shape.id)
    return TaskResult(id=shape.id, state=TaskState.SUCCESS, value=values)


def state_of(shape: Shape, known: Known) -> TaskState:
    """Return the state of what has not ended."""
    states = {known[leaf.id].state for leaf in leaves(shape) if leaf.id in known}
    if states - NOT_BEGUN:
        return TaskState.STARTED
    return TaskState.SCHEDULED if TaskState.SCHEDULED in states else TaskState.PENDING


def steps_of(shape: Shape, known: Known) -> tuple[WorkflowStep, ...]:
    """Return what is known of each of its tasks, in order; one whose turn has not come is PENDING."""
    return tuple(_step(leaf, known.get(leaf.id)) for leaf in leaves(shape))


def _step(leaf: Leaf, found: TaskResult | None) -> WorkflowStep:
    if found is None or found.state is TaskState.UNKNOWN:
        return WorkflowStep(id=leaf.id, task=leaf.task.name, state=TaskState.PENDING)
    result = leaf.task.typed(found)
    return WorkflowStep(
        id=leaf.id,
        task=leaf.task.name,
        state=result.state,
        value=result.value,
        error=result.error,
        attempt=result.attempt,
        finished_at=result.finished_at,
        worker=result.worker,
        status=result.status,
    )


def typed(shape: Shape, result: TaskResult) -> TaskResult:
    """Return ``result`` with its value as the tasks are annotated to return theirs."""
    if isinstance(shape, Leaf):
        return shape.task.typed(result)
    if isinstance(shape, Series):
        return typed(shape.parts[-1], result)
    if not result.success or not _is_whole(shape, result.value):
        return result
    values = [
        typed(part, replace(result, value=value)).value for part, value in zip(shape.parts, result.value, strict=True)
    ]
    return replace(result, value=values)


def coerced(shape: Shape, value: Any) -> Any:
    """Return a value as the tasks are annotated to return theirs.

    Raises:
        InvalidArgumentsError: data that is no such model.
    """
    if isinstance(shape, Leaf):
        return shape.task.coerce_result(value)
    if isinstance(shape, Series):
        return coerced(shape.parts[-1], value)
    if not _is_whole(shape, value):
        return value
    return [coerced(part, one) for part, one in zip(shape.parts, value, strict=True)]


def _is_whole(shape: Branch, value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == len(shape.parts)
