"""What a worker holds, as the bridge knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Gone", "Held"]


class Gone(Exception):
    """A message that was to be ended is not ours any more."""


@dataclass(slots=True, eq=False)
class Held:
    """One message that was taken."""

    queue: str
    tag: Any
    ours: bool = True
    """Whether it can still be ended here."""
