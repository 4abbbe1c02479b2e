"""Celery's stamps: texts that a workflow leaves on each of its tasks, by the name of a header."""

from __future__ import annotations

from typing import Any

__all__ = ["stamps_in"]


def stamps_in(found: Any) -> list[str]:
    """Return the stamps in what a message or a command has for one header: one, or a list of them."""
    several = found if isinstance(found, list | tuple | set) else [found]
    return [str(one) for one in several if isinstance(one, str | int) and not isinstance(one, bool)]
