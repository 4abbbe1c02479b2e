"""Workflows: calls one after the other and side by side, as values that are built anywhere and submitted whole.

A workflow is a tree of three kinds of nodes: a call, a series and a gathering. Nothing here has an id or a time: the
same workflow may be submitted many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from inspect import Parameter
from operator import or_
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from tranship.checks import Duration
from tranship.errors import InvalidArgumentsError, InvalidOptionError
from tranship.task._class import task_of
from tranship.task._composing import Composable, Gatherable
from tranship.task._fits import misfit, shown
from tranship.task._options import DEFAULTS, Moment, PriorityLike
from tranship.task._task import Task, TaskCall, named

if TYPE_CHECKING:
    from tranship.task._arguments import Arguments

__all__ = [
    "MOST_STEPS",
    "CallNode",
    "GatherNode",
    "Node",
    "SeriesNode",
    "Step",
    "Workflow",
    "WorkflowOptions",
    "followed",
    "gather",
    "handled",
    "members_with",
]

MOST_STEPS: Final = 20_000
"""How many calls a workflow may have."""
DEEPEST: Final = 16
"""How deep gatherings may be in each other: a message that holds them nests several times as deep."""

P = ParamSpec("P")
T = TypeVar("T")
X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class WorkflowOptions(TypedDict, total=False):
    """What may be said of a workflow as a whole, see :meth:`Workflow.options`."""

    queue: str
    priority: PriorityLike
    cancel_key: str | None
    deadline_in: Duration | None
    deadline: Moment | None
    delay: Duration | None
    not_before: Moment | None
    headers: Mapping[str, Any]
    result_ttl: Duration | None


@dataclass(frozen=True, slots=True)
class CallNode:
    """One task with its arguments."""

    task: Task[..., Any]
    args: Sequence[Any] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)
    takes: bool = False
    """Whether the result of what ran before comes in front of ``args``."""
    errors: tuple[CallNode, ...] = ()
    """What is called when it fails."""
    until: float | None = None
    """The latest moment for the workflow, in epoch seconds."""
    within: float | None = None
    """The same in seconds since the workflow was submitted."""

    size = 1
    depth = 0


@dataclass(frozen=True, slots=True)
class SeriesNode:
    """One after the other; no member is a series."""

    steps: tuple[CallNode | GatherNode, ...]
    size: int
    depth: int


@dataclass(frozen=True, slots=True)
class GatherNode:
    """Side by side."""

    members: tuple[Node, ...]
    size: int
    depth: int
    errors: tuple[CallNode, ...] = ()
    """What is called when a member fails."""


Node: TypeAlias = CallNode | SeriesNode | GatherNode


@dataclass(frozen=True, slots=True)
class Workflow(Composable[R_co]):
    """Calls one after the other and side by side. Made by ``call.then(...)`` and :func:`gather`; submitted whole.

    It is a value: each method returns another one, and it may be submitted as often as you like. What is said of it
    with :meth:`options` and :meth:`on_error` holds for the steps that it has so far.
    """

    node: Node = field(repr=False)

    def options(self, **changes: Unpack[WorkflowOptions]) -> Workflow[R_co]:
        """Return the workflow with these options for each of its steps.

        A deadline is that of the whole: no step may end later, and the earlier one holds where a step has its own. A
        ``delay`` or ``not_before`` is for the steps that come first. All other options take the place of those that the
        steps have.

        Raises:
            InvalidOptionError: an unknown option, or a value outside what is allowed.
        """
        return Workflow(_with_options(self.node, changes))

    def __repr__(self) -> str:
        return f"<Workflow {_shown(self.node)}>"


@dataclass(frozen=True, slots=True)
class Step(Gatherable[R_co], Generic[X_contra, R_co]):
    """A call, or a workflow, that lacks its first argument: the result of what runs before it.

    Made by ``task.step(...)``; put behind something with ``then``. ``X_contra``: the type of that argument.
    """

    node: Node = field(repr=False)

    @overload
    def then(self, step: Step[R_co, T] | TaskCall[T] | Workflow[T], /) -> Step[X_contra, T]: ...
    @overload
    def then(self, step: Task[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs) -> Step[X_contra, T]: ...
    @overload
    def then(self, step: str, /, *args: Any, **kwargs: Any) -> Step[X_contra, Any]: ...

    def then(self, step: Any, /, *args: Any, **kwargs: Any) -> Step[X_contra, Any]:
        """As :meth:`Workflow.then`."""
        return Step(followed(self, step, args, kwargs))

    @overload
    def on_error(self, handler: Step[str, Any] | TaskCall[Any], /) -> Step[X_contra, R_co]: ...
    @overload
    def on_error(
        self, handler: Task[Concatenate[str, P], Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Step[X_contra, R_co]: ...
    @overload
    def on_error(self, handler: str, /, *args: Any, **kwargs: Any) -> Step[X_contra, R_co]: ...

    def on_error(self, handler: Any, /, *args: Any, **kwargs: Any) -> Step[X_contra, R_co]:
        """As :meth:`Workflow.on_error`."""
        return Step(handled(self, handler, args, kwargs))

    def options(self, **changes: Unpack[WorkflowOptions]) -> Step[X_contra, R_co]:
        """As :meth:`Workflow.options`."""
        return Step(_with_options(self.node, changes))

    def __repr__(self) -> str:
        return f"<Step {_shown(self.node)}>"


@overload
def gather(members: Iterable[Composable[T]], /) -> Workflow[list[T]]: ...  # type: ignore[overload-overlap]
@overload
def gather(members: Iterable[Step[X, T]], /) -> Step[X, list[T]]: ...
@overload
def gather(members: Iterable[Gatherable[T]], /) -> Step[Any, list[T]]: ...


def gather(members: Iterable[Any], /) -> Any:
    """Return the workflow in which all of ``members`` run side by side; its result is the list of theirs, in order.

    Of ``task.step(...)`` each takes the result of what runs before the gathering.

    Args:
        members: calls, steps and workflows, gatherings among them; there may be none of them.

    Raises:
        InvalidArgumentsError: something else, or too many.
    """
    if isinstance(members, str | TaskCall | Task | Workflow | Step) or not isinstance(members, Iterable):
        raise InvalidArgumentsError(f"gather got {members!r}; expected several calls, each made by task.call(...)")
    nodes = tuple(_node_of(one, "gather") for one in members)
    size, depth = sum(one.size for one in nodes), 1 + max((one.depth for one in nodes), default=0)
    _check_bounds(size, depth)
    made = GatherNode(nodes, size, depth)
    return Step(made) if any(True for _ in _takers(made)) else Workflow(made)


def followed(before: Any, step: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Node:
    """Return ``before`` and ``step`` as a series.

    Raises:
        InvalidArgumentsError: see :meth:`Composable.then`.
    """
    first, second = _node_of(before, "then"), _step_node(step, args, kwargs, "then")
    result = _result_hint(first)
    for taker in _takers(second):
        _check_fits(result, taker, f"the step before it, {_shown(_last(first))}, returns")
    size, depth = first.size + second.size, max(first.depth, second.depth)
    _check_bounds(size, depth)
    return SeriesNode((*_steps(first), *_steps(second)), size, depth)


def handled(node: Any, handler: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Node:
    """Return the node with ``handler`` for the failures of each step.

    Raises:
        InvalidArgumentsError: see :meth:`Composable.on_error`.
    """
    found = _step_node(handler, args, kwargs, "on_error")
    if not isinstance(found, CallNode):
        raise InvalidArgumentsError(f"on_error got {handler!r}; expected a single task, and no workflow")
    if found.takes:
        _check_fits(str, found, "the id of the step that failed is")

    def watched(call: CallNode) -> CallNode:
        return call if found in call.errors else replace(call, errors=(*call.errors, found))

    return _mapped(_node_of(node, "on_error"), watched, lambda one: replace(one, errors=(*one.errors, found)))


def members_with(node: Node, errors: Iterable[CallNode]) -> Node:
    """Return a member of a gathering with these handlers for its steps, gatherings in it included."""
    for handler in errors:

        def watched(call: CallNode, handler: CallNode = handler) -> CallNode:
            return call if handler in call.errors else replace(call, errors=(*call.errors, handler))

        def gathered(one: GatherNode, handler: CallNode = handler) -> GatherNode:
            return one if handler in one.errors else replace(one, errors=(*one.errors, handler))

        node = _mapped(node, watched, gathered)
    return node


# Steps.


def _node_of(thing: Any, verb: str) -> Node:
    if isinstance(thing, Workflow | Step):
        return thing.node
    if isinstance(thing, TaskCall):
        return CallNode(thing.task, thing.args, thing.kwargs)
    raise InvalidArgumentsError(
        f"{verb} got {thing!r}; expected task.call(...) with all its arguments, task.step(...) with all but the first, "
        "or a workflow made of them"
    )


def _step_node(step: Any, args: Sequence[Any], kwargs: Mapping[str, Any], verb: str) -> Node:
    task = named(step) if isinstance(step, str) else task_of(step)
    if isinstance(task, Task):
        return task.step(*args, **kwargs).node
    if args or kwargs:
        raise InvalidArgumentsError(f"{step!r} already has its arguments; give {verb} either the task or a step")
    return _node_of(step, verb)


def _steps(node: Node) -> tuple[CallNode | GatherNode, ...]:
    return node.steps if isinstance(node, SeriesNode) else (node,)


def _last(node: Node) -> CallNode | GatherNode:
    return _steps(node)[-1]


def _takers(node: Node) -> Iterator[CallNode]:
    """Yield the calls that take the result of what runs before."""
    first = _steps(node)[0]
    if isinstance(first, CallNode):
        if first.takes:
            yield first
        return
    for member in first.members:
        yield from _takers(member)


def _result_hint(node: Node) -> Any:
    last = _last(node)
    if isinstance(last, CallNode):
        arguments = last.task.arguments
        return Parameter.empty if arguments is None else arguments.result_hint
    hints = [_result_hint(one) for one in last.members]
    known = bool(hints) and Parameter.empty not in hints
    return list[_either(hints)] if known else list  # type: ignore[misc]


def _either(hints: Sequence[Any]) -> Any:
    try:
        return reduce(or_, dict.fromkeys(hints))
    except TypeError:  # an annotation that is no type
        return Any


def _check_fits(result: Any, taker: CallNode, whose: str) -> None:
    arguments: Arguments | None = taker.task.arguments
    parameter = Parameter.empty if arguments is None else arguments.first_hint
    if Parameter.empty not in (result, parameter) and misfit(result, parameter):
        raise InvalidArgumentsError(
            f"task {taker.task.name} cannot follow: its first argument is annotated {shown(parameter)}, and {whose} "
            f"{shown(result)}"
        )


def _check_bounds(size: int, depth: int) -> None:
    if size > MOST_STEPS:
        raise InvalidArgumentsError(
            f"a workflow has at most {MOST_STEPS:,} steps, this one would have {size:,}; submit several, or let a task "
            "submit them"
        )
    if depth > DEEPEST:
        raise InvalidArgumentsError(
            f"gatherings may be {DEEPEST} deep in each other, these would be {depth}; let a task submit what is deeper"
        )


def _mapped(node: Node, call: Callable[[CallNode], CallNode], gathered: Callable[[GatherNode], GatherNode]) -> Node:
    """Return a node with its own steps changed; those of gatherings in it are not its own."""
    steps = tuple(call(one) if isinstance(one, CallNode) else gathered(one) for one in _steps(node))
    return replace(node, steps=steps) if isinstance(node, SeriesNode) else steps[0]


def _all_mapped(node: Node, change: Callable[[CallNode], CallNode]) -> Node:
    return _mapped(
        node,
        change,
        lambda one: replace(one, members=tuple(_all_mapped(member, change) for member in one.members)),
    )


def _firsts_mapped(node: Node, change: Callable[[CallNode], CallNode]) -> Node:
    first, *rest = _steps(node)
    if isinstance(first, CallNode):
        first = change(first)
    else:
        first = replace(first, members=tuple(_firsts_mapped(member, change) for member in first.members))
    return replace(node, steps=(first, *rest)) if isinstance(node, SeriesNode) else first


_BOUNDS: Final = ("deadline", "deadline_in")
_BEGIN: Final = ("delay", "not_before")


def _with_options(node: Node, changes: WorkflowOptions) -> Node:
    if unknown := [name for name in changes if name not in WorkflowOptions.__annotations__]:
        raise InvalidOptionError(
            f"a workflow has no option {unknown[0]!r}; it has {', '.join(WorkflowOptions.__annotations__)}. "
            "Give others to its tasks: task.options(...)"
        )
    checked = DEFAULTS.merged(**changes)  # raises for what cannot be, also of an empty workflow
    given: dict[str, Any] = {**changes}
    bounds = {name: given.pop(name) for name in _BOUNDS if name in given}
    begin: dict[str, Any] = {name: given.pop(name) for name in _BEGIN if name in given}

    def changed(call: CallNode) -> CallNode:
        until: Any = checked.deadline if "deadline" in bounds else call.until
        within: Any = checked.deadline_in if "deadline_in" in bounds else call.within
        task = call.task.options(**given) if given else call.task
        return replace(call, task=task, until=until, within=within)

    node = _all_mapped(node, changed)
    return _firsts_mapped(node, lambda call: replace(call, task=call.task.options(**begin))) if begin else node


def _shown(node: Node) -> str:
    if isinstance(node, CallNode):
        return node.task.name
    if isinstance(node, SeriesNode):
        return ", then ".join(map(_shown, node.steps)) if len(node.steps) < 9 else f"of {len(node.steps)} steps"
    inner = ", ".join(map(_shown, node.members[:3]))
    return f"gather({inner}{', ...' if len(node.members) > 3 else ''})"
