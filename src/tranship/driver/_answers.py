"""What the verbs of a driver may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from tranship.driver._nouns import Row, Stored, Taken
from tranship.errors import PluginError, TranshipError
from tranship.ports import Settled

__all__ = ["checked", "listed"]

T = TypeVar("T")

FEW: Final = 8
"""Answers that are looked at one by one; of more, one of each type."""
NOTHING: Final = type(None)
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


def checked(driver: str, verb: str, answers: Sequence[T], count: int) -> Sequence[T]:
    """Return the answers of a verb.

    Raises:
        PluginError: there are not ``count`` of them, or one is none that the verb may give.
    """
    kinds = KINDS[verb]
    if not isinstance(answers, Sequence) or len(answers) != count:
        given = f"{len(answers)} answers" if isinstance(answers, Sequence) else repr(answers)
        raise PluginError(f"{driver}: {verb}() gave {given} for {count} items; a driver answers each of them, in order")
    for answer in answers if count < FEW else {type(one): one for one in answers}.values():
        if not isinstance(answer, kinds):
            names = ", ".join(kind.__name__ for kind in kinds)
            raise PluginError(f"{driver}: {verb}() answered {answer!r:.100}; expected one of {names}")
    return answers


def listed(driver: str, verb: str, found: T, kind: type | None = None) -> T:
    """Return what a verb brought, if it is a sequence of what it may bring; of other verbs, anything.

    Raises:
        PluginError: it is none.
    """
    kind = kind or LISTS.get(verb)
    if kind is None:
        return found
    if not isinstance(found, Sequence):
        raise PluginError(f"{driver}: {verb}() gave {found!r:.100}; expected a sequence of {kind.__name__}")
    for one in found:
        if not isinstance(one, kind):
            raise PluginError(f"{driver}: {verb}() gave {one!r:.100} among what it found; expected {kind.__name__}")
    return found
