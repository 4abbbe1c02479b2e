"""Celery's message protocol 1, which is received and never sent: one map for everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from tranship.protocol._headers import KEPT

__all__ = ["is_protocol1", "protocol2"]

_HEADERS: Final = ("task", "id", "eta", "expires", "retries", "timelimit", "group", *KEPT)
_EMBED: Final = ("callbacks", "errbacks", "chord")


def is_protocol1(body: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether ``body`` is a task of protocol 1."""
    return isinstance(body, Mapping) and "task" in body


def protocol2(headers: Mapping[str, Any], body: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Any]]:
    """Return the headers and the body that protocol 2 has for the same task."""
    fields = {name: body[name] for name in _HEADERS if name in body}
    if fields.get("group") is None:
        fields["group"] = body.get("taskset")  # its name in older versions
    args, kwargs = (body.get(name) for name in ("args", "kwargs"))
    embed = {name: body[name] for name in _EMBED if name in body}
    return {**headers, **fields}, [[] if args is None else args, {} if kwargs is None else kwargs, embed]
