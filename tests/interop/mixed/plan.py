"""What is sent to a fleet: canvases by number, and what each of them returns when it ends well."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

QUEUES: Final = "MIXED_QUEUES"
"""In the environment of everything that sends or runs: what the names of this fleet's queues begin with."""
LINKS, MEMBERS = 3, 10
"""How long a chain is, and how many tasks the header of a chord has."""
CHAIN, CHORD = "chain", "chord"
SLOW_EVERY = 25
"""Every so many runs take long enough to be hit by a kill; the others are over in no time."""
SLOW, QUICK = 0.4, 0.003


@dataclass(frozen=True)
class Canvas:
    """One canvas that was sent, as it has ended.

    Attributes:
        number: which one; what it computes follows from it.
        kind: ``chain`` or ``chord``.
        ids: of its tasks; each is sent by the one before it, and a chord's last one, its body, by all others.
        state: of the last task, as a Celery client sees it; empty: no end has been seen.
        value: what it returned, or the text of what it failed with.
        group: of a chord's members.
        missing: its first task without a result, where no end has been seen.
    """

    number: int
    kind: str
    ids: tuple[str, ...]
    state: str = ""
    value: object = None
    group: str = ""
    missing: str = ""

    @property
    def well(self) -> bool:
        """Whether it has ended as it should."""
        return self.state == "SUCCESS" and self.value == expected(self.number)

    def senders(self, task_id: str) -> tuple[str, ...]:
        """Return the tasks that send this one; none: the client does."""
        place = self.ids.index(task_id)
        if self.kind == CHAIN:
            return self.ids[max(place - 1, 0) : place]
        return self.ids[:-1] if place == MEMBERS else ()


def kind_of(number: int) -> str:
    """Every other canvas is a chain."""
    return CHORD if number % 2 else CHAIN


def queue(part: str) -> str:
    """Return the name of the queue for ``steps`` or for ``bodies``."""
    return f"{os.environ[QUEUES]}-{part}"


def expected(number: int) -> object:
    """What a canvas returns: a chain's value tells of the order of its tasks, a chord's of every member."""
    if kind_of(number) == CHORD:
        return [step(number, place) for place in range(MEMBERS)]
    value = number
    for place in range(LINKS):
        value = step(value, place)
    return value


def step(value: int, place: int) -> int:
    """What every task but a chord's body computes: the same again when it runs again."""
    return value * 10 + place


def pause(value: int, place: int) -> float:
    """Seconds that a task takes."""
    return SLOW if (value * 7 + place) % SLOW_EVERY == 0 else QUICK
