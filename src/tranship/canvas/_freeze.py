"""Signatures get their ids, and steps their place: what Celery does when a workflow is sent; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tranship.protocol import Signature, SignatureKind, signatures_in

__all__ = ["Place", "body_with", "flat", "freeze", "lean", "linked", "result_tree", "steps_of", "weight"]

Ids = Callable[[], str]
"""Gives an id to what has none."""
Place = Mapping[str, Any]
"""Options that say where a signature belongs: ``group_id``, ``group_index``, ``chord``."""


def freeze(signature: Signature, ids: Ids, place: Place, task_id: str | None = None) -> Signature:
    """Return the signature with an id for everything in it, and its place for what ends it.

    Args:
        signature: of any kind.
        ids: gives the ids.
        place: where it belongs. A group id that it has stays.
        task_id: the id of what ends it, unless it has one.
    """
    if signature.kind is SignatureKind.GROUP:
        options = {**signature.options, "task_id": signature.task_id or ids(), **place}
        inner = {name: place[name] for name in ("group_id", "chord") if name in place}
        members = [freeze(one, ids, {**inner, "group_index": at}) for at, one in enumerate(flat(signature.members))]
        return replace(signature, options=options, members=tuple(members))
    if signature.kind is SignatureKind.CHAIN:
        steps = steps_of(signature.members, ids)
        frozen = [freeze(one, ids, {}) for one in steps[:-1]]
        last = [freeze(one, ids, place, signature.task_id or task_id) for one in steps[-1:]]
        named = {"task_id": last[0].task_id} if last else {}
        return replace(signature, options={**signature.options, **named}, members=(*frozen, *last))
    if signature.kind is SignatureKind.CHORD:
        return _freeze_chord(signature, ids, place, task_id)
    return _placed(signature, place, signature.task_id or task_id or ids())


def _freeze_chord(signature: Signature, ids: Ids, place: Place, task_id: str | None) -> Signature:
    header = signature.header or Signature.group(())
    group_id = header.task_id or signature.task_id or ids()
    members = [freeze(one, ids, {"group_index": at}) for at, one in enumerate(flat(header.members))]
    header = replace(header, options={**header.options, "task_id": group_id}, members=tuple(members))
    body = None if signature.body is None else freeze(signature.body, ids, place, task_id)
    return replace(signature, options={**signature.options, "task_id": group_id}, header=header, body=body)


def _placed(signature: Signature, place: Place, task_id: str) -> Signature:
    options = {**signature.options, **place, "task_id": task_id}
    if signature.options.get("group_id"):
        options["group_id"] = signature.options["group_id"]
    return replace(signature, options=options)


def flat(members: Iterable[Signature]) -> Iterator[Signature]:
    """Yield the members of a group, and in their place those of groups among them; a chain of nothing is left out."""
    for one in members:
        if one.kind is SignatureKind.GROUP:
            yield from flat(one.members)
        elif one.kind is not SignatureKind.CHAIN or one.members:
            yield one


def steps_of(members: Sequence[Signature], ids: Ids) -> list[Signature]:
    """Return the steps of a chain: chains in it are spliced, and a group that something follows is a chord."""
    steps: list[Signature] = []
    for one in reversed(list(_spliced(members))):
        if one.kind is SignatureKind.GROUP and len(found := list(flat(one.members))) == 1:
            one = found[0]
        if one.kind is SignatureKind.GROUP and steps:
            if not any(flat(one.members)):
                continue
            group_id = one.task_id or ids()
            header = replace(one, options={**one.options, "task_id": group_id})
            chord = Signature.chord((), steps.pop(0), task_id=group_id)
            one = replace(chord, header=header)
        steps.insert(0, one)
    return steps


def _spliced(members: Iterable[Signature]) -> Iterator[Signature]:
    for one in members:
        if one.kind is SignatureKind.CHAIN:
            inner = list(_spliced(one.members))
            yield from inner[:-1]
            # What was linked to the chain is linked to what ends it; its errbacks to all of it.
            yield from (linked(last, link=one.options.get("link")) for last in inner[-1:])
        else:
            yield one


def linked(signature: Signature, **more: Any) -> Signature:
    """Return the signature with ``link`` or ``link_error`` in addition to those it has, each one once."""
    options = dict(signature.options)
    for name, value in more.items():
        if added := signatures_in(value, name):
            there = signatures_in(options.get(name), name)
            options[name] = [*there, *(one for one in added if one not in there)]
    return replace(signature, options=options)


def body_with(body: Signature, link: Any, link_error: Any) -> Signature:
    """Return a chord's body with what was linked to the chord."""
    if body.kind is not SignatureKind.GROUP or not body.members:
        return linked(body, link=link, link_error=link_error)
    first = linked(body.members[0], link=[{**one, "immutable": True} for one in signatures_in(link, "link")])
    members = (first, *body.members[1:])
    return replace(body, members=tuple(linked(one, link_error=link_error) for one in members))


def weight(signature: Signature) -> int:
    """Return how many tasks have to end for it to count as ended in a chord's header."""
    if signature.kind is SignatureKind.GROUP:
        return sum(map(weight, signature.members))
    if signature.kind is SignatureKind.CHAIN:
        return next((found for one in reversed(signature.members) if (found := weight(one))), 0)
    if signature.kind is SignatureKind.CHORD:
        return 0 if signature.body is None else weight(signature.body)
    return 1


def result_tree(signature: Signature) -> list[Any]:
    """Return the result of what was frozen as Celery writes it: ``[[id, null], null]``, of a group with its members."""
    if signature.kind is SignatureKind.GROUP:
        return [[signature.task_id, None], [result_tree(one) for one in flat(signature.members)]]
    if signature.kind is SignatureKind.CHAIN and signature.members:
        return result_tree(signature.members[-1])
    if signature.kind is SignatureKind.CHORD and signature.body is not None:
        return result_tree(signature.body)
    return [[signature.task_id, None], None]


def lean(signature: Signature) -> Signature:
    """Return the signature without the copies of a chord's body that the members of its header carry.

    Each member of a header carries what follows; carried along in there, too, it would double with each level. A chord
    gives it to its members when they are sent.
    """
    if signature.kind is SignatureKind.CHORD:
        header = None if signature.header is None else _without_chord(signature.header)
        return replace(signature, header=header, body=None if signature.body is None else lean(signature.body))
    if signature.members:
        return replace(signature, members=tuple(map(lean, signature.members)))
    return signature


def _without_chord(header: Signature) -> Signature:
    members = []
    for one in map(lean, header.members):
        ends = one.members[-1:] if one.kind is SignatureKind.CHAIN else ()
        kept = replace(one, options={name: part for name, part in one.options.items() if name != "chord"})
        members.append(replace(kept, members=(*one.members[:-1], *map(_bare, ends))) if ends else kept)
    return replace(header, options=_bare(header).options, members=tuple(members))


def _bare(signature: Signature) -> Signature:
    return replace(signature, options={name: part for name, part in signature.options.items() if name != "chord"})
