"""Dead letters of several brokers in one list: ids that name the broker, and pages by the time of death."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from tranship.envelope import DeadLetter
from tranship.ports import Inspector

__all__ = ["Cursor", "labelled", "named", "page"]

_ID: Final = re.compile(r"(\d+)@(\d+\.\d+):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A dead letter's id taken apart: ``<number of its broker>@<died at>:<its id there>``."""

    number: int
    died_at: float
    id: str

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an id; one of another form stands for the beginning."""
        found = _ID.fullmatch(text)
        return cls(int(found[1]), float(found[2]), found[3]) if found else cls(0, 0.0, text)

    @property
    def place(self) -> tuple[float, int]:
        """Where it stands among all."""
        return self.died_at, self.number


def labelled(letter: DeadLetter, number: int) -> DeadLetter:
    """Return ``letter`` of the broker of this number with the id that we show."""
    return replace(letter, id=f"{number}@{letter.died_at:.6f}:{letter.id}")


def named(ids: Sequence[str], number: int) -> dict[str, str]:
    """Return what the broker of this number may know of ``ids``, to what we were asked: its own letters, and tasks."""
    known: dict[str, str] = {}
    for one in ids:
        cursor = Cursor.read(one)
        if cursor.number in (0, number):
            known[cursor.id] = one
    return known


async def page(inspector: Inspector, number: int, queue: str | None, limit: int, cursor: Cursor) -> list[DeadLetter]:
    """Return up to ``limit`` letters of one broker that come behind ``cursor`` among those of all."""
    after = cursor.id if cursor.number == number else ""
    found: list[DeadLetter] = []
    while len(found) < limit:
        part = await inspector.dead(queue, limit=limit, after=after)
        if not part:
            break
        after = part[-1].id
        letters = [labelled(letter, number) for letter in part]
        own = cursor.number in (0, number)
        found += [letter for letter in letters if own or Cursor.read(letter.id).place > cursor.place]
    return found[:limit]
