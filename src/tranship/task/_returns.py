"""Return annotations without what is about the run and not about the value."""

from __future__ import annotations

import types
from collections.abc import Generator
from functools import reduce
from operator import or_
from typing import Any, Union, get_args, get_origin

from tranship.outcomes import Outcome, Snooze

__all__ = ["generated_hint", "value_hint"]


def generated_hint(hint: Any) -> Any:
    """Return the annotation of what a generator function returns in the end: of what it yields nothing is known."""
    if get_origin(hint) is Generator and len(parts := get_args(hint)) == 3:
        return parts[2]
    return Any


def value_hint(hint: Any) -> Any:
    """Return the annotation of the value that arrives: ``Report | Outcome[Report] | Snooze`` is a ``Report``.

    What arrives of a bare ``Outcome`` may be anything.
    """
    if hint is Outcome:
        return Any
    if get_origin(hint) is Outcome:
        return value_hint(get_args(hint)[0])
    if hint is Snooze:
        return None
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    found = [value_hint(part) for part in get_args(hint) if part is not Snooze]
    return Any if Any in found else reduce(or_, found)
