"""A chord whose header has ended: its body with the list of results, or the error that it is given up with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tranship.canvas._after import Failed, errbacks, fail_chain
from tranship.canvas._expand import Expander
from tranship.canvas._plan import Ended, Plan
from tranship.envelope import Envelope, ErrorInfo, TaskResult, TaskState
from tranship.ports import ChordCount, ChordPart
from tranship.protocol import (
    NO_ROUTING,
    Routing,
    Signature,
    SignatureKind,
    celery_words,
    decode_signature,
    signatures_in,
)

__all__ = ["after_chord", "after_lost_chord"]

_ERROR = "celery.exceptions.ChordError"


def after_chord(last: Ended, count: ChordCount, after: Envelope, now: float, routing: Routing = NO_ROUTING) -> Plan:
    """Return what follows a header that has ended.

    Args:
        last: what completed it.
        count: all its parts.
        after: the task that completed it.
        now: epoch seconds.
        routing: what is known of where tasks go.

    Raises:
        MalformedMessage: the body cannot be read, or asks for what cannot be sent.
    """
    body, parts = decode_signature(last.body, "chord"), count.parts or ()
    expander = Expander(after, f"chord/{last.group_id}", now, routing)
    culprit = next((one for one in parts if one.status != "SUCCESS"), None)
    if culprit is not None:
        _give_up(expander, body, f"Dependency {culprit.task_id} raised {_shown(culprit.value)}")
    else:
        values = [one.value for one in parts] if count.tree is None else _arranged(count.tree, parts)
        expander.send(body, (values,))
    return expander.plan


def after_lost_chord(last: Ended, why: str, after: Envelope, now: float, routing: Routing = NO_ROUTING) -> Plan:
    """Return what follows a header of which nobody knows how many parts it has.

    Raises:
        MalformedMessage: as :func:`after_chord`.
    """
    expander = Expander(after, f"chord/{last.group_id}", now, routing)
    _give_up(expander, decode_signature(last.body, "chord"), why)
    return expander.plan


def _give_up(expander: Expander, body: Signature, why: str) -> None:
    """Fail the body in everybody's eyes: its errbacks, what follows it, and the chord that it counts for itself."""
    error = ErrorInfo(type=_ERROR, message=why, code="CHORD_FAILED")
    status, value = celery_words(TaskResult(id="", state=TaskState.FAILURE, error=error))
    failed = Failed(state=TaskState.FAILURE, error=error, status=status, value=value)
    for one in _ends(body):
        found = [decode_signature(each, "link_error") for each in signatures_in(one.options.get("link_error"), "link")]
        if one.task_id is not None:
            errbacks(expander, found, one.task_id, error, ())
    fail_chain(expander.plan, [body.encode()], failed)
    fail_chain(expander.plan, signatures_in(body.options.get("chain"), "chain"), failed)


def _ends(body: Signature) -> list[Signature]:
    if body.kind is SignatureKind.GROUP:
        return [end for one in body.members for end in _ends(one)]
    if body.kind is SignatureKind.CHORD and body.body is not None:
        return _ends(body.body)
    return [body]


def _arranged(tree: list[Any], parts: Sequence[ChordPart]) -> list[Any]:
    """Return the results in the structure of the header: of a member that has several, a list of them."""
    known = {one.task_id: one.value for one in parts}

    def value_of(node: Any) -> Any:
        (task_id, _), members = node
        return known.get(task_id) if members is None else [value_of(one) for one in members]

    return [value_of(one) for one in tree[1]]


def _shown(value: Any) -> str:
    """Return an exception as ``repr()`` shows it."""
    if not isinstance(value, Mapping):
        return repr(value)
    args = value.get("exc_message")
    shown = ", ".join(map(repr, args)) if isinstance(args, list | tuple) else repr(args)
    return f"{value.get('exc_type')}({shown})"
