"""Schedules as they stand in a settings file; what they mean is found out by who runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

__all__ = ["ScheduleTables"]


@dataclass(frozen=True, slots=True)
class ScheduleTables:
    """Tables by the names of schedules."""

    expected: ClassVar[str] = "tables by name, such as [schedules.nightly] with task and cron; in the environment JSON"

    tables: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what JSON says.

        Raises:
            ValueError, TypeError: it is no object of objects.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise TypeError
        return cls(found)

    def __str__(self) -> str:
        return ", ".join(self.tables)
