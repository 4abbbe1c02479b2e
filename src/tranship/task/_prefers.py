"""What a task would like to find ready in the worker that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.checks import Duration, invalid, name_text, positive_duration
from tranship.errors import InvalidOptionError

__all__ = ["Prefers", "PrefersLike"]

WITHIN: Final = 5.0
"""Seconds for which a task waits for such a worker, where it does not say."""

PrefersLike = str | Sequence[str] | Callable[..., str | Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class Prefers:
    """Names of skills, or of what is in a hot cache.

    Args:
        what: the names, or a function that is called with the task's arguments and returns them.
        within: seconds for which the task is passed on to a worker that has all of them.
    """

    what: Sequence[str] | Callable[..., Any]
    within: float

    @classmethod
    def checked(cls, what: Any, within: Duration | None) -> Prefers:
        """Return it.

        Raises:
            InvalidOptionError: no names, or no time above 0; or a time and no names.
        """
        if what is None:
            raise InvalidOptionError(
                f"prefers_within is {within!r}, and there is no prefers; say what is to be ready, as in "
                "@task(prefers='model', prefers_within=5)",
                option="prefers_within",
            )
        seconds = WITHIN if within is None else positive_duration("prefers_within", within)
        return cls(what if callable(what) else _checked(what), seconds)

    def names(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[str]:
        """Return what a call with these arguments would like to find; nothing: it runs anywhere.

        Raises:
            InvalidOptionError: the function has returned no names; and whatever it raises.
        """
        if not callable(self.what):
            return self.what
        found = self.what(*args, **kwargs)
        return () if found is None else _checked(found)


def _checked(what: Any) -> Sequence[str]:
    names = (what,) if isinstance(what, str) else what
    if not isinstance(names, Sequence) or not names:
        raise invalid("prefers", what, "the name of a skill or of something in the hot cache, or several of them")
    return tuple(name_text("prefers", one) for one in names)
