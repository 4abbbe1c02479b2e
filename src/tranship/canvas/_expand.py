"""From a signature whose turn has come to the tasks that are sent: what Celery's ``apply_async`` does, as a plan."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tranship.canvas._freeze import body_with, flat, freeze, lean, linked, result_tree, weight
from tranship.canvas._plan import Plan
from tranship.envelope import Envelope
from tranship.errors import MalformedMessage
from tranship.ports import ChordStart
from tranship.protocol import NO_ROUTING, Routing, Signature, SignatureKind, called

__all__ = ["Expander"]

_IDS: Final = uuid.UUID("8a5b7d5c-6c1f-5a57-9d3e-3f0b2f6f4c11")
_KEPT: Final = frozenset({"group_id", "stamped_headers"})
"""Options that a signature keeps, whatever it is called with."""
_PLACE: Final = ("group_id", "group_index", "chord")
_CHAINS_OWN: Final = frozenset(
    {"task_id", "group_id", "group_index", "chord", "chain", "link", "link_error", "root_id", "parent_id"}
)
"""Options of a chain that concern its ends, and are not those of each step."""
_CHORDS_OWN: Final = frozenset({"task_id", "parent_id", "link", "link_error", "countdown", "eta"})
"""Options of a chord that its body does not get."""
_HEADERS_OWN: Final = frozenset({"task_id", "chain", "chord", "group_id", "group_index", "link", "link_error"})
"""Options of a chord that its header does not get."""

Child = list[Any]
"""The result of what was sent, as Celery writes it."""


class Expander:
    """Collects the tasks that signatures stand for. The same signatures get the same ids each time.

    Args:
        after: the task that they follow.
        purpose: tells what follows it for one reason from what follows it for another.
        now: epoch seconds.
        routing: what is known of where tasks go.
    """

    def __init__(self, after: Envelope, purpose: str, now: float, routing: Routing = NO_ROUTING) -> None:
        self.plan: Plan = Plan()
        self._after, self._now, self._routing = after, now, routing
        self._seed, self._made = f"{after.id}/{purpose}", 0

    def new_id(self) -> str:
        """Return an id for what has none: the same in the next run of the same task."""
        self._made += 1
        return str(uuid.uuid5(_IDS, f"{self._seed}/{self._made}"))

    def send(self, signature: Signature, args: Sequence[Any] = (), **options: Any) -> Child:
        """Add what ``signature`` stands for, called with ``args`` in front of its own and these options.

        Raises:
            MalformedMessage: it cannot be sent.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if signature.kind is SignatureKind.GROUP:
            return self._group(signature, args, given)
        if signature.kind is SignatureKind.CHAIN:
            return self._chain(signature, args, given)
        if signature.kind is SignatureKind.CHORD:
            return self._chord(signature, args, given)
        return self._task(signature, args, given)

    def send_all(self, signatures: Sequence[Signature], args: Sequence[Any]) -> list[Child]:
        """Add several, side by side: a single one as it is, single tasks among several as one group."""
        if len(signatures) < 2:
            return [self.send(one, args) for one in signatures]
        groups = [one for one in signatures if one.kind is SignatureKind.GROUP]
        others = [one for one in signatures if one.kind is not SignatureKind.GROUP]
        return [self.send(one, args) for one in [*groups, *([Signature.group(others)] if others else [])]]

    def _task(self, signature: Signature, args: Sequence[Any], given: Mapping[str, Any]) -> Child:
        options = _merged(signature, given)
        task_id = options.get("task_id") or self.new_id()
        called_with = signature.args if signature.immutable else (*args, *signature.args)
        envelope = called(
            signature.task,
            called_with,
            signature.kwargs,
            options,
            task_id=task_id,
            after=self._after,
            now=self._now,
            routing=self._routing,
        )
        self.plan.envelopes.append(envelope)
        return [[task_id, None], None]

    def _group(self, signature: Signature, args: Sequence[Any], given: Mapping[str, Any]) -> Child:
        options = {**signature.options, **{name: value for name, value in given.items() if name not in _KEPT}}
        group_id = options.pop("task_id", None) or self.new_id()
        chord = options.pop("chord", None)
        options.pop("group_index", None)
        options["group_id"] = group_id
        children: list[Child] = []
        size, counted = 0, None
        for at, one in enumerate(flat(signature.members)):
            member = freeze(one, self.new_id, {"group_id": group_id, "group_index": at})
            body = chord if chord is not None else member.options.get("chord")
            children.append(self.send(member, args, **{**options, "chord": body}))
            if body is not None and _group_of(member) in (group_id, None):
                size, counted = size + weight(member), body
        if counted is not None and all(one.group_id != group_id for one in self.plan.chords):
            self.plan.chords.append(ChordStart(group_id=group_id, size=size))
        return children[0] if len(children) == 1 and children[0][1] is not None else [[group_id, None], children]

    def _chain(self, signature: Signature, args: Sequence[Any], given: Mapping[str, Any]) -> Child:
        options = {**signature.options, **given}
        place: dict[str, Any] = {name: options[name] for name in _PLACE if name in options}
        whole = freeze(replace(signature, options={"task_id": options.get("task_id")}), self.new_id, place)
        steps = [self._watched(one, options.get("link_error")) for one in whole.members]
        if not steps:
            raise MalformedMessage("a chain of no tasks cannot be run", task_id=self._after.id)
        steps[-1] = _linked_end(steps[-1], options.get("link"))
        later = [*(options.get("chain") or ()), *(lean(one).encode() for one in reversed(steps[1:]))]
        rest = {name: value for name, value in options.items() if name not in _CHAINS_OWN}
        called_with = args if signature.immutable else (*args, *signature.args)
        return self.send(steps[0], called_with, **rest, chain=later)

    @staticmethod
    def _watched(step: Signature, errbacks: Any) -> Signature:
        if errbacks is None:
            return step
        if step.kind is SignatureKind.CHORD and step.body is not None:
            return replace(step, body=body_with(step.body, None, errbacks))
        if step.kind is SignatureKind.GROUP:
            return replace(step, members=tuple(linked(one, link_error=errbacks) for one in step.members))
        return linked(step, link_error=errbacks)

    def _chord(self, signature: Signature, args: Sequence[Any], given: Mapping[str, Any]) -> Child:
        if signature.body is None:
            raise MalformedMessage("a chord without a body cannot be run", task_id=self._after.id)
        options = {**signature.options, **given}
        frozen = freeze(signature, self.new_id, {}, None)
        assert frozen.body is not None
        assert frozen.header is not None
        group_id = frozen.header.task_id or self.new_id()
        body = body_with(frozen.body, options.get("link"), options.get("link_error"))
        passed = {name: value for name, value in options.items() if name not in _CHORDS_OWN}
        body = lean(replace(body, options={**body.options, **passed}))
        if not body.options.get("group_id"):
            body = body.with_options(group_id=group_id)
        members = frozen.header.members
        if not members:
            return self.send(body, ([],))
        tree = [result_tree(one) for one in members]
        shown = [[group_id, None], tree] if any(one[1] is not None for one in tree) else None
        self.plan.chords.append(ChordStart(group_id=group_id, size=sum(map(weight, members)), tree=shown))
        rest = {name: value for name, value in options.items() if name not in _HEADERS_OWN}
        called_with = signature.args if signature.immutable else (*args, *signature.args)
        return self.send(frozen.header, called_with, **rest, task_id=group_id, chord=body.encode())


def _merged(signature: Signature, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's options with those it is called with, which win, but for its place and its stamps."""
    own = signature.options
    stamps = own.get("stamped_headers")
    kept = _KEPT.union(stamps) if isinstance(stamps, list | tuple) else _KEPT
    return {**own, **{name: value for name, value in given.items() if name not in kept or name not in own}}


def _linked_end(step: Signature, link: Any) -> Signature:
    if step.kind is SignatureKind.CHORD and step.body is not None:
        return replace(step, body=body_with(step.body, link, None))
    return linked(step, link=link)


def _group_of(member: Signature) -> str | None:
    """The group that the end of a member counts for."""
    if member.kind is SignatureKind.CHAIN and member.members:
        return _group_of(member.members[-1])
    if member.kind is SignatureKind.CHORD and member.body is not None:
        return _group_of(member.body)
    return member.options.get("group_id")
