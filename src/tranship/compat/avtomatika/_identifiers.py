"""What workers and skills may be called."""

from __future__ import annotations

import re
from typing import Final

from tranship.checks import invalid

__all__ = ["is_valid_identifier", "validate_identifier"]

_IDENTIFIER: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def is_valid_identifier(value: str) -> bool:
    """Whether it has 1 to 128 letters, digits, underscores and hyphens of ASCII, and nothing else."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def validate_identifier(value: str, name: str = "identifier") -> None:
    """Do nothing, if it is one.

    Raises:
        InvalidOptionError: it is none (a ValueError, too).
    """
    if not is_valid_identifier(value):
        raise invalid(name, value, "1 to 128 letters, digits, underscores and hyphens, and nothing else")
