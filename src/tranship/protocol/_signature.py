"""A call that has not been sent yet, as Celery writes it: what a task is followed by, and what a workflow is made of.

On the wire it is a map, in JSON and in msgpack alike::

    {"task": "add", "args": [2], "kwargs": {}, "options": {"queue": "q", "task_id": "..."},
     "subtask_type": null, "immutable": false}

``subtask_type`` is null for a single task. A ``chain`` and a ``group`` hold their tasks in ``kwargs["tasks"]``, a
``chord`` its group and what follows it in ``kwargs["header"]`` and ``kwargs["body"]``. The options are those of
Celery's ``apply_async``; four of them hold signatures of their own, which are read when their turn comes:
``link``, ``link_error``, ``chain`` (the steps after it, in reverse order) and ``chord`` (the body it counts for).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tranship.errors import MalformedMessage
from tranship.protocol._fields import has_text_keys, kind_of
from tranship.protocol._headers import MAX_NAME

__all__ = ["MOST_SIGNATURES", "SIGNATURE_DEPTH", "Signature", "SignatureKind", "decode_signature", "signatures_in"]

SIGNATURE_DEPTH: Final = 100
"""How deep signatures may hold each other."""
MOST_SIGNATURES: Final = 100_000
"""How many of them one signature may hold in all."""

_TEXTS: Final = ("task_id", "group_id", "root_id", "parent_id", "queue", "routing_key", "reply_to", "shadow")
"""Options that are a text, or null."""
_HOLDERS: Final = ("link", "link_error", "chain", "chord")
"""Options that hold signatures, or null."""
_OWN: Final = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable"})


class SignatureKind(enum.StrEnum):
    """What a signature that is no single task is, in Celery's words."""

    CHAIN = "chain"
    """One after the other."""
    GROUP = "group"
    """Side by side."""
    CHORD = "chord"
    """Side by side, and then one more, with all results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A task with what it is to be called with and how; or several of them."""

    task: str
    """The task's name; ``celery.chain``, ``celery.group`` or ``celery.chord`` for several."""
    args: Sequence[Any] = field(default=(), repr=False)
    """Positional arguments; the result of what ran before comes in front of them."""
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments; without the signatures that a chain, a group or a chord holds there."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How it is sent, as Celery writes it: ``task_id``, ``queue``, ``countdown``, ``link``, ..."""
    immutable: bool = False
    """Whether it takes no result of what ran before."""
    kind: SignatureKind | None = None
    """None: a single task."""
    members: tuple[Signature, ...] = ()
    """The tasks of a chain, in order, or of a group."""
    header: Signature | None = None
    """The group of a chord."""
    body: Signature | None = None
    """What follows a chord's group, with the list of its results."""
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Unknown keys: kept and passed on."""

    @property
    def task_id(self) -> str | None:
        """The id it was given when it was made part of something; None: none yet."""
        return self.options.get("task_id")

    def with_options(self, **options: Any) -> Signature:
        """Return it with these options in addition, or instead."""
        return replace(self, options={**self.options, **options})

    def encode(self) -> dict[str, Any]:
        """Return the map that Celery reads, for either wire format."""
        kwargs = dict(self.kwargs)
        if self.kind is SignatureKind.CHORD:
            kwargs |= {
                "header": None if self.header is None else self.header.encode(),
                "body": None if self.body is None else self.body.encode(),
            }
        elif self.kind is not None:
            kwargs["tasks"] = [one.encode() for one in self.members]
        return {
            "task": self.task,
            "args": list(self.args),
            "kwargs": kwargs,
            "options": dict(self.options),
            "subtask_type": None if self.kind is None else self.kind.value,
            "immutable": self.immutable,
            **self.more,
        }

    @classmethod
    def chain(cls, members: Sequence[Signature], **options: Any) -> Signature:
        """Return a chain of ``members``."""
        return cls(task="celery.chain", kind=SignatureKind.CHAIN, members=tuple(members), options=options)

    @classmethod
    def group(cls, members: Sequence[Signature], **options: Any) -> Signature:
        """Return a group of ``members``."""
        return cls(task="celery.group", kind=SignatureKind.GROUP, members=tuple(members), options=options)

    @classmethod
    def chord(cls, header: Sequence[Signature], body: Signature, **options: Any) -> Signature:
        """Return a chord: ``header`` side by side, then ``body`` with the list of their results."""
        return cls(
            task="celery.chord",
            kwargs={"kwargs": {}},
            kind=SignatureKind.CHORD,
            header=cls.group(header),
            body=body,
            options=options,
        )


def decode_signature(value: Any, what: str = "signature") -> Signature:
    """Return the signature that ``value`` stands for.

    Args:
        value: the map, as it was received.
        what: what an error calls it, such as ``"chain[2]"``.

    Raises:
        MalformedMessage: it is none; or it holds more than :data:`MOST_SIGNATURES` others, or deeper than
            :data:`SIGNATURE_DEPTH`. It says which part was what, and what was expected.
    """
    return _Reader().read(value, what, SIGNATURE_DEPTH)


def signatures_in(value: Any, what: str) -> list[Mapping[str, Any]]:
    """Return the maps that stand where Celery writes one signature or several: ``link``, ``chain``, ...

    Args:
        value: null, one map or a list of them.
        what: what an error calls it.

    Raises:
        MalformedMessage: it is something else.
    """
    if value is None:
        return []
    found = [value] if isinstance(value, Mapping) else value
    if not isinstance(found, list | tuple):
        raise MalformedMessage(f"{what} is {kind_of(value)}; expected a signature, a list of them, or null")
    for at, one in enumerate(found):
        if not isinstance(one, Mapping):
            raise MalformedMessage(f"{what}[{at}] is {kind_of(one)}; expected a signature (a map with 'task')")
    return list(found)


class _Reader:
    """Reads one signature, and counts what it holds."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_SIGNATURES

    def read(self, value: Any, what: str, depth: int) -> Signature:
        if not isinstance(value, Mapping) or not has_text_keys(value):
            raise MalformedMessage(f"{what} is {kind_of(value)}; expected a signature (a map with 'task')")
        if depth == 0:
            raise MalformedMessage(f"{what} is nested too deep; expected at most {SIGNATURE_DEPTH} levels")
        self._left -= 1
        if self._left < 0:
            raise MalformedMessage(f"{what} is one too many; expected at most {MOST_SIGNATURES:,} signatures")
        kind, kwargs = _kind(value, what), dict(_map(value, "kwargs", what))
        members: tuple[Signature, ...] = ()
        header = body = None
        if kind is SignatureKind.CHORD:
            header = self._header(kwargs.pop("header", None), what, depth)
            found = kwargs.pop("body", None)
            body = None if found is None else self.read(found, f"{what}.body", depth - 1)
        elif kind is not None:
            members = self._members(kwargs.pop("tasks", None), f"{what}.tasks", depth)
        return Signature(
            task=_name(value.get("task"), f"{what}.task"),
            args=_list(value.get("args"), f"{what}.args"),
            kwargs=kwargs,
            options=_options(value, what),
            immutable=_flag(value.get("immutable"), f"{what}.immutable"),
            kind=kind,
            members=members,
            header=header,
            body=body,
            more={name: part for name, part in value.items() if name not in _OWN},
        )

    def _members(self, value: Any, what: str, depth: int) -> tuple[Signature, ...]:
        return tuple(self.read(one, f"{what}[{at}]", depth - 1) for at, one in enumerate(_list(value, what)))

    def _header(self, value: Any, what: str, depth: int) -> Signature:
        """Read what a chord begins with: a group, or the plain list of its tasks."""
        if not isinstance(value, Mapping):
            return Signature.group(self._members(value, f"{what}.header", depth))
        header = self.read(value, f"{what}.header", depth - 1)
        if header.kind is SignatureKind.GROUP:
            return header
        return Signature.group(header.members if header.kind is SignatureKind.CHAIN else [header])


def _kind(value: Mapping[str, Any], what: str) -> SignatureKind | None:
    found = value.get("subtask_type")
    if found is None:
        return None
    try:
        return SignatureKind(found)
    except ValueError:
        expected = ", ".join(SignatureKind)
        raise MalformedMessage(f"{what}.subtask_type is {kind_of(found)}; expected null or one of {expected}") from None


def _options(value: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    options = _map(value, "options", what)
    for name in _TEXTS:
        found = options.get(name)
        if found is not None and not isinstance(found, str):
            raise MalformedMessage(f"{what}.options.{name} is {kind_of(found)}; expected a text, or null")
    for name in _HOLDERS:
        found = options.get(name)
        if found is not None and not isinstance(found, list | tuple | Mapping):
            raise MalformedMessage(f"{what}.options.{name} is {kind_of(found)}; expected signatures, or null")
    return options


def _map(value: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not has_text_keys(found):
        raise MalformedMessage(f"{what}.{name} is {kind_of(found)}; expected a map with text keys")
    return found


def _list(value: Any, what: str) -> tuple[Any, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise MalformedMessage(f"{what} is {kind_of(value)}; expected a list")
    return tuple(value)


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise MalformedMessage(f"{what} is {kind_of(value)}; expected a text of 1 to {MAX_NAME} characters")
    return value


def _flag(value: Any, what: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise MalformedMessage(f"{what} is {kind_of(value)}; expected true, false or null")
    return value
