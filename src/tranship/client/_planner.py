"""From a workflow to the messages that begin it, with an id for each of its tasks.

Who submits sends the first step, or the members of a gathering that comes first. Each message carries what follows its
task as Celery's canvas does, and whoever runs the task sends that: the messages are those that Celery's own ``chain``,
``group`` and ``chord`` write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from tranship.client._routed import routed_task
from tranship.client._shape import Branch, Leaf, Series, Shape
from tranship.codec import JSON
from tranship.envelope import JOIN_TASK, Envelope, Priority, new_ids
from tranship.errors import InvalidArgumentsError, InvalidOptionError
from tranship.ports import ChordStart
from tranship.protocol import CARRIED, Signature, signature_of
from tranship.settings import TaskRoutes
from tranship.task import CallNode, GatherNode, Node, SeriesNode, Task, TaskContext, Workflow, members_with, named

__all__ = ["Planned", "plan"]

_FIRST: Final = {"index": 0}
MOST_CARRIED: Final = 500_000
"""How many later steps the members of gatherings may carry in all: each has a copy of what follows, and a step takes
some 250 bytes."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A workflow that is about to be submitted."""

    envelopes: Sequence[Envelope]
    """What is sent; whose id a caller has chosen is in ``own_ids``."""
    chords: Sequence[ChordStart]
    """What is noted before."""
    shape: Shape
    ids: Sequence[str]
    """Of all its tasks."""
    own_ids: frozenset[str]
    needs_chords: bool
    """Whether members of a gathering are counted, at the beginning or later."""


def plan(
    workflow: Workflow[Any],
    *,
    now: float,
    reply_to: str | None,
    parent: TaskContext | None,
    routes: TaskRoutes | None = None,
    numbers: Sequence[Priority] = (),
) -> Planned:
    """Return what is to be sent.

    Args:
        workflow: what is submitted.
        now: epoch seconds.
        reply_to: the backend's address for results.
        parent: the task that submits it.
        routes: the queues of tasks that are given by name.
        numbers: the level of each of Celery's numbers for a priority.

    Raises:
        InvalidOptionError: an option that a step of a workflow cannot have.
        InvalidArgumentsError: two steps have the same id, or members of gatherings would carry too much.
    """
    if (carried := _carried(workflow.node, 0)) > MOST_CARRIED:
        raise InvalidArgumentsError(
            f"the members of gatherings would carry {carried:,} later steps, for each has a copy of what follows; at "
            f"most {MOST_CARRIED:,} are sent. Let the task after a gathering submit what comes then"
        )
    planner = _Planner(workflow.node, now=now, reply_to=reply_to, parent=parent, routes=routes, numbers=numbers)
    elements, shape = planner.series(workflow.node)
    sender = _Sender()
    if elements:
        sender.launch(elements, {})
    planner.check_ids()
    needs = bool(sender.chords) or planner.has_chords
    return Planned(sender.envelopes, sender.chords, shape, planner.ids, frozenset(planner.own_ids), needs)


@dataclass(slots=True)
class _Call:
    """One task with its id."""

    envelope: Envelope
    """As it is sent now."""
    later: Envelope
    """The same without what counts from when it is sent."""
    immutable: bool
    errors: Sequence[Signature]
    exact: bool
    number: int | None
    countdown: float | None
    expires: float | None

    def signature(self, place: Mapping[str, Any]) -> Signature:
        """Return it as a later step."""
        found = signature_of(
            self.later,
            immutable=self.immutable,
            countdown=self.countdown,
            expires=self.expires,
            exact=self.exact,
            number=self.number,
        )
        errors = {"link_error": [one.encode() for one in self.errors]} if self.errors else {}
        return found.with_options(**errors, **place)


@dataclass(slots=True)
class _Group:
    """Members side by side, with nothing behind them."""

    id: str
    members: list[list[_Element]]

    def signature(self, place: Mapping[str, Any]) -> Signature:
        """Return it as a later step."""
        members = [_series_signature(one, {"group_index": at}) for at, one in enumerate(self.members)]
        return Signature.group(members, task_id=self.id, root_id=None, parent_id=None, **place)


@dataclass(slots=True)
class _Chord:
    """Members side by side, and then a task with the list of their results."""

    group: _Group
    body: _Call

    def signature(self, place: Mapping[str, Any]) -> Signature:
        """Return it as a later step."""
        chord = Signature.chord((), self.body.signature(place), task_id=self.group.id)
        return replace(chord, header=self.group.signature({}))


_Element: TypeAlias = _Call | _Group | _Chord


def _series_signature(elements: Sequence[_Element], place: Mapping[str, Any]) -> Signature:
    *before, last = elements
    if not before:
        return last.signature(place)
    end = last.signature(place)
    return Signature.chain([*(one.signature({}) for one in before), end], task_id=_end_id(last))


def _end_id(element: _Element) -> str:
    if isinstance(element, _Chord):
        return element.body.envelope.id
    return element.envelope.id if isinstance(element, _Call) else element.id


class _Planner:
    """Gives ids and makes envelopes.

    Args:
        node: the whole workflow.
        now, reply_to, parent, routes, numbers: as for :func:`plan`.
    """

    def __init__(
        self,
        node: Node,
        *,
        now: float,
        reply_to: str | None,
        parent: TaskContext | None,
        routes: TaskRoutes | None,
        numbers: Sequence[Priority],
    ) -> None:
        self._now, self._reply_to, self._parent, self._routes = now, reply_to, parent, routes
        calls = list(_calls(node))
        # What is sent later takes level and serializer over from what ran before it.
        self._exact = any(
            one.task.options_set.level is not Priority.NORMAL or one.task.options_set.content_type != JSON
            for one in calls
        )
        # Only where it may matter: as long as every step is a usual one, a Celery worker's own default does.
        self._numbers = {level: at for at, level in reversed(list(enumerate(numbers)))} if self._exact else {}
        # Gatherings have ids as well, and there may be a joining task for each.
        self._fresh = iter(new_ids(3 * len(calls) + 2 * _gatherings(node) + 2))
        self._near = calls[0] if calls else CallNode(named(JOIN_TASK), (), {})
        self._handlers: dict[int, Signature] = {}
        self.ids: list[str] = []
        self.own_ids: list[str] = []
        self.has_chords = False

    def check_ids(self) -> None:
        """Refuse a workflow in which an id is there twice.

        Raises:
            InvalidArgumentsError.
        """
        if len(set(self.ids)) < len(self.ids):
            twice = next(one for one in self.ids if self.ids.count(one) > 1)
            raise InvalidArgumentsError(f"two steps of the workflow have the id {twice!r}; give each its own, or none")

    def series(
        self, node: Node, *, nothing: bool = False, nested: bool = False, errors: Sequence[CallNode] = ()
    ) -> tuple[list[_Element], Shape]:
        """Return the elements of a series and their shape.

        Args:
            node: the series, or a single node.
            nothing: the result of what ran before is an empty list, known already.
            nested: it is the member of a gathering: it has to end in a single task.
            errors: handlers of the gathering that it is a member of.
        """
        nodes = list(_steps(members_with(node, errors) if errors else node))
        elements: list[_Element] = []
        parts: list[Shape] = []
        while nodes:
            first = nodes.pop(0)
            if isinstance(first, CallNode):
                element, leaf = self._call(first, nothing=nothing)
                elements.append(element)
                parts.append(leaf)
                nothing = False
                continue
            body = nodes[0] if first.members and nodes and isinstance(nodes[0], CallNode) else None
            del nodes[: body is not None]
            last = not nodes and body is None
            if not first.members:
                nothing = self._nothing(elements, parts, needed=last and (nested or bool(elements)), last=last)
                continue
            self._gathering(first, body, elements, parts, nothing=nothing, plain=last and not nested)
            nothing = False
        return elements, parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _nothing(self, elements: list[_Element], parts: list[Shape], *, needed: bool, last: bool) -> bool:
        """Add a gathering of no members; return whether what follows takes an empty list."""
        joined = None
        if needed:
            element, joined = self._joining(([],), immutable=True)
            elements.append(element)
        parts.append(Branch(next(self._fresh), (), joined))
        return not last

    def _gathering(
        self,
        node: GatherNode,
        body: CallNode | None,
        elements: list[_Element],
        parts: list[Shape],
        *,
        nothing: bool,
        plain: bool,
    ) -> None:
        group_id = next(self._fresh)
        # Who handles failures of what follows hears of the members' by it.
        own = [one for one in node.errors if body is not None and one not in body.errors] if not plain else node.errors
        found = [self.series(one, nothing=nothing, nested=True, errors=own) for one in node.members]
        group = _Group(group_id, [one for one, _ in found])
        shapes = tuple(shape for _, shape in found)
        if plain:
            elements.append(group)
            parts.append(Branch(group_id, shapes))
            return
        self.has_chords = True
        if body is None:
            element, joined = self._joining((), immutable=False, errors=node.errors)
            parts.append(Branch(group_id, shapes, joined))
        else:
            element, leaf = self._call(body)
            parts += [Branch(group_id, shapes), leaf]
        elements.append(_Chord(group, element))

    def _joining(self, args: Sequence[Any], *, immutable: bool, errors: Sequence[CallNode] = ()) -> tuple[_Call, Leaf]:
        """Return a task that hands a list on, sent as the step near it."""
        options = self._near.task.options_set
        task = named(
            JOIN_TASK,
            queue=options.queue,
            priority=options.priority,
            cancel_key=options.cancel_key,
            deadline=options.deadline,
            result_ttl=options.result_ttl,
            serializer=options.serializer,
        )
        near = self._near
        node = CallNode(task, args, _FIRST, not immutable, tuple(errors), near.until, near.within)
        found = self._call(node)
        self._near = near
        return found

    def _call(self, node: CallNode, *, nothing: bool = False) -> tuple[_Call, Leaf]:
        node = self._routed(node)
        self._near = node
        task, options = node.task, node.task.options_set
        if options.dedup_key is not None:
            raise InvalidOptionError(
                f"task {task.name} has dedup_key {options.dedup_key!r}; a step of a workflow cannot have one: submit "
                "the workflow from a task that has it",
                option="dedup_key",
            )
        if task.single is not None:
            raise InvalidOptionError(
                f"task {task.name} has {task.single.option}; a step of a workflow cannot have it: submit the workflow "
                "from a task that has it",
                option=task.single.option,
            )
        args = ([], *node.args) if nothing and node.takes else node.args
        envelope = self._envelope(task, args, node.kwargs)
        bound, expires, countdown = self._bound(node), _seconds(options.deadline_in), _seconds(options.delay)
        # What counts from the submit of a later step is for whoever submits it to count.
        own = envelope.deadline if expires is None else None
        later = replace(
            envelope,
            deadline=_earliest(own, bound),
            not_before=envelope.not_before if countdown is None else None,
        )
        self.ids.append(envelope.id)
        if options.task_id is not None:
            self.own_ids.append(envelope.id)
        call = _Call(
            envelope=replace(envelope, deadline=_earliest(envelope.deadline, bound)),
            later=later,
            immutable=nothing or not node.takes,
            errors=[self._handler(one) for one in node.errors],
            exact=self._exact,
            number=self._numbers.get(envelope.priority),
            countdown=countdown,
            expires=expires,
        )
        return call, Leaf(envelope.id, task, envelope.keeps_result)

    def _envelope(self, task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Envelope:
        # With options of its own: which line a task with limits belongs to shows where it arrives with all arguments.
        return task.envelope(
            args,
            kwargs,
            now=self._now,
            options=task.options_set if task.limits is not None else None,
            reply_to=self._reply_to,
            parent=self._parent,
            fresh_id=next(self._fresh),
        )

    def _routed(self, node: CallNode) -> CallNode:
        return replace(node, task=routed_task(self._routes, node.task)) if self._routes else node

    def _bound(self, node: CallNode) -> float | None:
        """Return until when the workflow has to have ended."""
        within = None if node.within is None else self._now + node.within
        parent = None if self._parent is None else self._parent.deadline
        return _earliest(node.until, _earliest(within, parent))

    def _handler(self, node: CallNode) -> Signature:
        """Return a handler of errors; it has no id, since several steps may need it."""
        known = self._handlers.get(id(node))
        if known is None:
            envelope = self._envelope(self._routed(node).task, node.args, node.kwargs)
            known = signature_of(
                envelope,
                immutable=not node.takes,
                has_id=False,
                exact=self._exact,
                number=self._numbers.get(envelope.priority),
            )
            self._handlers[id(node)] = known
        return known


class _Sender:
    """Makes the messages of what comes first, as Celery's ``apply_async`` would."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.chords: list[ChordStart] = []

    def launch(self, elements: Sequence[_Element], place: Mapping[str, Any]) -> None:
        """Add the messages of a series.

        Args:
            elements: what it is made of.
            place: where what ends it belongs.
        """
        first, *rest = elements
        later = [one.signature(place if at == len(rest) else {}).encode() for at, one in enumerate(rest, 1)][::-1]
        if isinstance(first, _Call):
            self._send(first, later, {} if later else place)
            return
        if isinstance(first, _Group):
            for at, member in enumerate(first.members):
                self.launch(member, {"group_id": first.id, "group_index": at})
            return
        own = {"group_id": first.group.id}
        where = {"chain": later, **own} if later else {**own, **place}
        body = first.body.signature(where).encode()
        self.chords.append(ChordStart(group_id=first.group.id, size=len(first.group.members)))
        for at, member in enumerate(first.group.members):
            self.launch(member, {"group_id": first.group.id, "chord": body, "group_index": at})

    def _send(self, call: _Call, later: Sequence[Mapping[str, Any]], place: Mapping[str, Any]) -> None:
        envelope = call.envelope
        embed = {
            "chain": later,
            "errbacks": [one.encode() for one in call.errors],
            "chord": place.get("chord"),
        }
        carried: dict[str, Any] = {}
        if live := {name: value for name, value in embed.items() if value}:
            carried["embed"] = live
        if "group_index" in place:
            carried["headers"] = {"group_index": place["group_index"]}
        if carried:
            headers = {**envelope.headers, CARRIED: carried}
            envelope = replace(envelope, headers=headers, group_id=place.get("group_id"))
        self.envelopes.append(envelope)


def _steps(node: Node) -> Sequence[CallNode | GatherNode]:
    return node.steps if isinstance(node, SeriesNode) else (node,)


def _calls(node: Node) -> Iterator[CallNode]:
    for one in _steps(node):
        if isinstance(one, CallNode):
            yield one
        else:
            for member in one.members:
                yield from _calls(member)


def _carried(node: Node, after: int) -> int:
    """Return how many steps the members of gatherings in it carry, if so many follow it."""
    found, left = 0, node.size
    for one in _steps(node):
        left -= one.size
        if isinstance(one, GatherNode):
            rest = left + after
            found += rest * len(one.members) + sum(_carried(member, rest) for member in one.members)
    return found


def _gatherings(node: Node) -> int:
    return sum(1 + sum(map(_gatherings, one.members)) for one in _steps(node) if isinstance(one, GatherNode))


def _earliest(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _seconds(value: Any) -> float | None:
    """Return an option in seconds; it was checked and converted when the options were made."""
    return None if value is None else float(value)
