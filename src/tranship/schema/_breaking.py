"""What a new description breaks for those who submit by the old one, or read results by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tranship.schema._narrowing import Narrowing, narrowings

__all__ = ["breaking_changes"]

Described = Mapping[str, Any]

_OF_ARGUMENTS: Final = {
    "less": "it took {wider}, and takes {narrower}",
    "unknown": "it is gone",
    "ignored": "it is gone, and would be ignored",
    "required": "it is required, and was not",
    "missing": "it is new and required",
}
_OF_RESULTS: Final = {
    "less": "it was {narrower}, and may be {wider}",
    "unknown": "it is new, where nothing more was to be",
    "required": "it was always there, and may be missing",
    "missing": "it was always there, and is gone",
}
"""Of a result, what is new beside the rest harms no reader."""


def breaking_changes(old: Described, new: Described) -> list[str]:
    """Return in words what somebody who goes by the document ``old`` can no longer do with the tasks of ``new``.

    A task that is gone or reads another queue; an argument that is gone, is now required, has moved among the
    positional ones, or takes less than it did; a result that may be something it could not be. What is new beside the
    old, and what takes more, breaks nobody.
    """
    tasks = new["tasks"]
    return [f"task {name}: {change}" for name, one in old["tasks"].items() for change in _of_task(one, tasks.get(name))]


def _of_task(old: Described, new: Described | None) -> Iterator[str]:
    if new is None:
        yield "it is gone"
        return
    if old.get("queue") != new.get("queue"):
        yield f"its queue was {old.get('queue')!r} and is {new.get('queue')!r}: what is sent to the old one stays there"
    yield from _worded("argument", _OF_ARGUMENTS, narrowings(old.get("args") or {}, new.get("args") or {}))
    yield from _of_positions(old.get("positional") or [], new.get("positional") or [])
    # Whoever reads results expects no more than what they could be.
    yield from _worded("result", _OF_RESULTS, narrowings(new.get("result") or {}, old.get("result") or {}))


def _worded(what: str, words: Mapping[str, str], found: Iterator[Narrowing]) -> Iterator[str]:
    for one in found:
        if one.kind in words:
            yield f"{what}{one.path}: " + words[one.kind].format(wider=one.wider, narrower=one.narrower)


def _of_positions(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    for at, name in enumerate(old):
        if name in new and (len(new) <= at or new[at] != name):
            yield f"argument {name}: it was number {at + 1} by position and is number {list(new).index(name) + 1}"
