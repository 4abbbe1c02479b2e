"""What workers remember of the tasks that they have ended, as records, for those who look later.

Each worker has a ring of records, ``history/<worker>/<slot>``, with some tasks each; a heartbeat says how many it has
remembered in all, and so which slots have something new.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from tranship import codec
from tranship.errors import MalformedMessage

__all__ = ["CHUNK", "PREFIX", "Finished", "Later", "decode_finished", "encode_finished", "finite", "slot_key", "slots"]

PREFIX: Final = "history/"
CHUNK: Final = 50
"""Tasks in one record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """A task of a workflow that was to follow, as the message of one before it said."""

    id: str
    task: str
    """Its name."""
    after: tuple[str, ...] = ()
    """The ids of those that it follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One attempt of a task that has ended."""

    id: str
    task: str
    """Its name."""
    queue: str
    outcome: str
    """``succeeded``, ``failed``, ``retry`` (another attempt follows), ``cancelled``, ``expired`` or ``dead``."""
    at: float
    """When it ended, in epoch seconds by the worker's clock."""
    seconds: float | None = None
    """How long its handler ran; None: it was not called."""
    due: float | None = None
    """From when on it could have begun, in epoch seconds: submitted, and not to be delayed. None: not known."""
    attempt: int = 0
    """How many attempts came before this one."""
    worker: str = ""
    error: str = ""
    """Type and message, shortened; empty: none."""
    traceback: str = ""
    """Its last lines."""
    root_id: str | None = None
    parent_id: str | None = None
    cancel_key: str | None = None
    later: tuple[Later, ...] = ()
    """What was to follow it."""


def slots(keep: int) -> int:
    """Return how many records the ring of a worker has that remembers so many tasks."""
    # One more, so that the one which is begun anew takes nothing away that is still promised.
    return -(-keep // CHUNK) + 1


def slot_key(worker: str, slot: int) -> str:
    """Return the key of one record of a worker's ring."""
    return f"{PREFIX}{worker}/{slot:04d}"


def encode_finished(tasks: Sequence[Finished]) -> bytes:
    """Return the value of a record."""
    return codec.dumps([_plain(one) for one in tasks], name="the history")


def decode_finished(value: bytes) -> list[Finished]:
    """Return the tasks of a record; what cannot be read is passed over."""
    try:
        found = codec.loads(value, codec.JSON)
    except MalformedMessage:
        return []
    return [one for each in found if (one := _read(each)) is not None] if isinstance(found, list) else []


def _plain(one: Finished) -> dict[str, Any]:
    data = {part.name: value for part in _FIELDS if (value := getattr(one, part.name)) != part.default}
    if one.later:
        data["later"] = [[later.id, later.task, list(later.after)] for later in one.later]
    return data


_FIELDS: Final = fields(Finished)
_TEXTS: Final = ("id", "task", "queue", "outcome")
_MORE: Final[Mapping[str, type]] = {
    "attempt": int,
    **dict.fromkeys(("worker", "error", "traceback", "root_id", "parent_id", "cancel_key"), str),
}


def _read(data: Any) -> Finished | None:
    if not isinstance(data, Mapping) or not all(isinstance(data.get(name), str) for name in _TEXTS):
        return None
    if (at := finite(data.get("at"))) is None:
        return None
    more: dict[str, Any] = {name: data[name] for name, kind in _MORE.items() if isinstance(data.get(name), kind)}
    texts = {name: data[name] for name in _TEXTS}
    return Finished(
        **texts,
        at=at,
        seconds=finite(data.get("seconds")),
        due=finite(data.get("due")),
        **more,
        later=tuple(_all_later(data.get("later"))),
    )


def finite(value: Any) -> float | None:
    """Return a number that somebody has written; None: it is none, or no finite one."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _all_later(data: Any) -> Iterable[Later]:
    for one in data if isinstance(data, list) else ():
        match one:
            case [str(task_id), str(task), list(after)]:
                yield Later(id=task_id, task=task, after=tuple(each for each in after if isinstance(each, str)))
