"""Who has something that one has at a time: the name of a worker, or a lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from tranship.protocol import epoch_of, whole_of

__all__ = ["NameHolder", "name_holder_data", "name_holder_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameHolder:
    """A worker that has its name, or wants it; or whoever has a lock."""

    name: str
    instance: str
    """Something random, new at each start."""
    family: str = ""
    """Who sees to it that no two workers of one name are there at once, as the parent of several processes does for
    them: a worker takes the name of its predecessor in the family over. Empty: nobody."""
    host: str = ""
    pid: int = 0
    since: float = 0.0
    """When it took the name, in epoch seconds by its clock."""
    at: float = 0.0
    """When it said last that it keeps the name."""

    def may_follow(self, other: NameHolder) -> bool:
        """Whether the name is not ``other``'s any more as soon as this one wants it."""
        return other.instance == self.instance or bool(self.family and other.family == self.family)


def name_holder_data(holder: NameHolder) -> dict[str, Any]:
    """Return ``holder`` as plain data."""
    return asdict(holder)


def name_holder_of(data: Any, name: str) -> NameHolder:
    """Return the holder of ``name`` that was written as ``data``; of garbage, one of whom nothing is known."""
    found = data if isinstance(data, dict) else {}
    known = {field: value for field, read in _READERS.items() if (value := read(found.get(field))) is not None}
    return NameHolder(name=name, **{"instance": "", **known})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("instance", "family", "host"), _text),
    "pid": whole_of,
    "since": epoch_of,
    "at": epoch_of,
}
