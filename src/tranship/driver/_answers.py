"""What the verbs of a driver may answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from tranship.driver._nouns import Row, Stored, Taken, TakenBatch
from tranship.errors import PluginError, TranshipError
from tranship.ports import Settled

__all__ = ["LISTS", "checked", "checked_batch", "listed"]

T = TypeVar("T")

NOTHING: Final = type(None)
SEQUENCES: Final = (list, tuple, Sequence)
"""The two that nearly everything is come first: to ask an abstract class is slow."""
KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "send": (NOTHING, str, TranshipError),
    "post": (NOTHING, str, TranshipError),
    "recall": (NOTHING, str, TranshipError),
    "end": (Settled, TranshipError),
    "renew": (bool,),
    "create": (NOTHING, bytes),
    "put": (NOTHING, int),
    "get": (NOTHING, Row),
    "delete": (bool,),
}
"""What each verb may say of one item."""
LISTS: Final[Mapping[str, type]] = {
    "peek": Taken,
    "pick": Taken,
    "find": Stored,
    "scan": Stored,
    "search": Stored,
    "page": Row,
    "read": bytes,
}
"""What a verb may bring, as many as there are."""
EPOCH: Final = 1e8
"""Seconds: no clock that has been set shows less."""
DAY: Final = 86400.0
"""What is due in as many seconds as there have been since 1970, give or take a day, was meant as a point in time."""


def checked(driver: str, verb: str, answers: Sequence[T], count: int) -> Sequence[T]:
    """Return the answers of a verb.

    Raises:
        PluginError: there are not ``count`` of them, or one is none that the verb may give.
    """
    if not isinstance(answers, SEQUENCES) or len(answers) != count:
        given = f"{len(answers)} answers" if isinstance(answers, Sequence) else repr(answers)
        raise PluginError(f"{driver}: {verb}() gave {given} for {count} items; a driver answers each of them, in order")
    for stranger in _others(answers, KINDS[verb]):
        names = ", ".join(kind.__name__ for kind in KINDS[verb])
        raise PluginError(f"{driver}: {verb}() answered {stranger!r:.100}; expected one of {names}")
    return answers


def listed(driver: str, verb: str, found: T, kind: type | None = None) -> T:
    """Return what a verb brought, if it is a sequence of what it may bring; of other verbs, anything.

    Raises:
        PluginError: it is none.
    """
    kind = kind or LISTS.get(verb)
    if kind is None:
        return found
    if not isinstance(found, SEQUENCES):
        raise PluginError(f"{driver}: {verb}() gave {found!r:.100}; expected a sequence of {kind.__name__}")
    for stranger in _others(found, (kind,)):
        raise PluginError(f"{driver}: {verb}() gave {stranger!r:.100} among what it found; expected {kind.__name__}")
    return found


def checked_batch(driver: str, found: object) -> TakenBatch:
    """Return what ``take`` brought, before anything of it is used.

    Raises:
        PluginError: it is no batch.
    """
    if not isinstance(found, TakenBatch):
        raise PluginError(f"{driver}: take() gave {found!r:.100}; expected a TakenBatch")
    listed(driver, "take", found.items, Taken)
    due = found.next_due
    if due is not None and not isinstance(due, (float, int)):
        raise PluginError(f"{driver}: take() gave next_due={due!r:.100}; expected seconds, or None")
    if due is not None and due > EPOCH and abs(due - time.time()) < DAY:
        said = f"next_due={due!r:.100}, which is a point in time"
        raise PluginError(f"{driver}: take() gave {said}; expected seconds from now, or None")
    return found


def _others(found: Sequence[Any], kinds: tuple[type, ...]) -> Iterable[Any]:
    """Return what is of no such kind; one look for each type that there is, because there may be thousands."""
    there = set(map(type, found))
    if there.issubset(kinds):
        return ()
    strange = [kind for kind in there if not issubclass(kind, kinds)]
    return [one for one in found if type(one) in strange] if strange else ()
