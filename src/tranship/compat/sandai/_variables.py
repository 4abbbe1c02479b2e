"""How the package reads its variables, and the words that it has for priorities."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["VALID_PRIORITIES", "variable_flag", "variable_number"]

VALID_PRIORITIES: Final = ("high", "normal", "low", "very_low")
"""In the order in which operators serve them."""
_YES: Final = frozenset({"1", "true", "yes", "on"})


def variable_flag(value: str) -> bool:
    """Whether a variable's text says yes: everything else, an empty text, too, is a no."""
    return value.strip().lower() in _YES


def variable_number(value: str, kind: type[int | float]) -> Any:
    """The number that a variable's text is; None: it is none."""
    try:
        number = kind(value.strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
