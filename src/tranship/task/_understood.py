"""Annotations as pydantic takes them: what it refuses, or checks later than is of use here, said otherwise."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from typing import (
    Annotated,
    Any,
    Final,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

__all__ = ["is_typed_dict", "keys_of", "understood"]

_REFUSES_TYPED_DICTS: Final = sys.version_info < (3, 12)
"""Before, ``typing.TypedDict`` does not know enough of itself for pydantic."""


def understood(hint: Any) -> Any:
    """Return ``hint`` with another word for what pydantic does not take as it is.

    An ``Iterable`` becomes a list: pydantic would look at its parts no sooner than the handler does.
    """
    return _understood(hint, ())


def is_typed_dict(hint: Any) -> bool:
    """Whether it is a ``TypedDict``, of whatever module: that of ``typing_extensions`` is another one."""
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def keys_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the keys of a ``TypedDict``: what each is annotated with, and whether it has to be there."""
    return {name: _key(kind, name, hint) for name, hint in get_type_hints(kind, include_extras=True).items()}


def _key(kind: Any, name: str, hint: Any) -> tuple[Any, bool]:
    # In a module with postponed annotations the class itself has not noticed NotRequired.
    if get_origin(hint) in (Required, NotRequired):
        return get_args(hint)[0], get_origin(hint) is Required
    return hint, name in kind.__required_keys__


def _understood(hint: Any, outer: tuple[Any, ...]) -> Any:
    if is_typeddict(hint):
        return _typed_dict(hint, outer) if _REFUSES_TYPED_DICTS else hint
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_understood(inner[0], outer), *inner[1:])]
    if Iterable in (hint, origin):
        return list[_understood(inner[0] if inner else Any, outer)]  # type: ignore[misc]
    changed = tuple(_understood(one, outer) for one in inner)
    if all(new is old for new, old in zip(changed, inner, strict=True)):
        return hint
    if origin in (Union, types.UnionType):
        return Union[changed]  # noqa: UP007 - they are known only now
    return origin[changed]


def _typed_dict(kind: Any, outer: tuple[Any, ...]) -> Any:
    if kind in outer:
        return dict  # it holds itself: this far it is looked at
    from typing_extensions import TypedDict  # pydantic brings it

    keys = {
        name: (Required if needed else NotRequired)[_understood(hint, (*outer, kind))]
        for name, (hint, needed) in keys_of(kind).items()
    }
    return TypedDict(kind.__name__, keys)  # type: ignore[operator]
