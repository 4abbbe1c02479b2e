"""What is submitted in a soak: so many of each kind, shuffled by a seed, and how each kind may end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

from soak import tasks
from tranship import Task, TaskState

SUCCESS, FAILURE, CANCELLED, DEAD_LETTERED = (
    TaskState.SUCCESS,
    TaskState.FAILURE,
    TaskState.CANCELLED,
    TaskState.DEAD_LETTERED,
)


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    Attributes:
        task: what is submitted.
        share: how many of 100,000.
        ends: the only state it may end in.
        cancelled: whether its submitter cancels it.
        rare: whether a small soak does without it, for each delivery costs a worker; of all others it has one at the least.
    """

    task: Task[..., Any]
    share: int
    ends: TaskState = SUCCESS
    cancelled: bool = False
    rare: bool = False

    @property
    def name(self) -> str:
        """As events and figures have it."""
        return self.task.name.removeprefix("soak.")


KINDS: Final = {
    one.name: one
    for one in (
        Kind(tasks.ok, 38_570),
        Kind(tasks.ok_thread, 20_000),
        Kind(tasks.slow, 8_000),
        Kind(tasks.retry, 10_000),
        Kind(tasks.fail, 8_000, FAILURE),
        Kind(tasks.exhaust, 1_000, DEAD_LETTERED),
        Kind(tasks.too_long, 1_000, FAILURE),
        Kind(tasks.cancel, 3_000, CANCELLED, cancelled=True),
        Kind(tasks.cancel_thread, 1_000, CANCELLED, cancelled=True),
        Kind(tasks.video, 4_000),
        Kind(tasks.mail, 3_000),
        Kind(tasks.isolated, 2_000),
        Kind(tasks.isolated_too_long, 150, FAILURE),
        Kind(tasks.isolated_cancel, 150, CANCELLED, cancelled=True),
        Kind(tasks.isolated_crash, 100, FAILURE),
        Kind(tasks.crash, 28),
        Kind(tasks.poison, 2, DEAD_LETTERED, rare=True),
    )
}
OF: Final = 100_000
BATCH: Final = 100
"""Tasks that are submitted at once."""


@dataclass(frozen=True)
class Planned:
    """One task to submit."""

    kind: Kind
    number: int

    @property
    def by_key(self) -> bool:
        """Whether it is cancelled by its batch's key, and not by its own id."""
        return self.kind.cancelled and self.number % 2 == 1


def batches(count: int, seed: int) -> list[list[Planned]]:
    """Return ``count`` tasks of all kinds, in batches; the same for the same seed."""
    dice = random.Random(seed)
    kinds = [kind for kind in KINDS.values() for _ in range(_amount(kind, count))]
    # What rounding has added or left out.
    kinds = [*[KINDS["ok"]] * (count - len(kinds)), *kinds][-count:]
    dice.shuffle(kinds)
    plan = [Planned(kind, number) for number, kind in enumerate(kinds)]
    return [plan[start : start + BATCH] for start in range(0, count, BATCH)]


def _amount(kind: Kind, count: int) -> int:
    amount = round(kind.share * count / OF)
    return amount if kind.rare else max(1, amount)
