"""Whether the result of one step can be the argument of the next, by what the two are annotated with."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from tranship.task._understood import is_typed_dict

__all__ = ["misfit", "shown"]

Kinds = frozenset[str] | None
"""What a value is on its way, in JSON's words; None: it may be anything."""

_LISTS: Final = (list, tuple, set, frozenset, Sequence, Iterable)
_KINDS: Final[Mapping[Any, frozenset[str]]] = {
    str: frozenset({"text"}),
    int: frozenset({"number"}),
    float: frozenset({"number"}),
    bool: frozenset({"boolean"}),
    None: frozenset({"null"}),
    type(None): frozenset({"null"}),
    **dict.fromkeys(_LISTS, frozenset({"list"})),
    dict: frozenset({"map"}),
    Mapping: frozenset({"map"}),
}
_ALSO_READ: Final[Mapping[Any, frozenset[str]]] = {
    int: frozenset({"text", "boolean"}),
    float: frozenset({"text", "boolean"}),
    bool: frozenset({"text", "number"}),
}
"""What is made such a value by who reads leniently."""


def misfit(result: Any, parameter: Any) -> bool:
    """Whether no value of the annotation ``result`` fits ``parameter``; False also where that cannot be known."""
    given, taken = _kinds(result, read=False), _kinds(parameter, read=True)
    if given is None or taken is None:
        return False
    if given.isdisjoint(taken):
        return True
    return given == taken == {"list"} and misfit(_held(result), _held(parameter))


def shown(hint: Any) -> str:
    """Return an annotation as it is written."""
    if hint in (None, type(None)):
        return "None"
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _kinds(hint: Any, *, read: bool) -> Kinds:
    origin = get_origin(hint)
    if origin is Annotated:
        return _kinds(get_args(hint)[0], read=read)
    if origin in (Union, types.UnionType):
        return _all(get_args(hint), read=read)
    if origin is Literal:
        return _all([type(one) for one in get_args(hint)], read=read)
    return _plain_kinds(origin or hint, read=read)


def _plain_kinds(hint: Any, *, read: bool) -> Kinds:
    if hint is not Parameter.empty and isinstance(hint, type | None) and hint in _KINDS:
        return _KINDS[hint] | (_ALSO_READ.get(hint, frozenset()) if read else frozenset())
    if hint in _KINDS:
        return _KINDS[hint]
    if is_typed_dict(hint) or (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return frozenset({"map"})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _all([type(one.value) for one in hint], read=read)
    return None


def _all(hints: Iterable[Any], *, read: bool) -> Kinds:
    found = [_kinds(one, read=read) for one in hints]
    known = [one for one in found if one is not None]
    return frozenset[str]().union(*known) if known and len(known) == len(found) else None


def _held(hint: Any) -> Any:
    """Return the annotation of what is in a list; ``Parameter.empty`` where it is not known."""
    if get_origin(hint) is Annotated:
        return _held(get_args(hint)[0])
    inner = get_args(hint)
    single = len(inner) == 1 or (len(inner) == 2 and inner[1] is Ellipsis)
    return inner[0] if single and get_origin(hint) in _LISTS else Parameter.empty
