"""A whole soak, and what it has shown."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.test_kills import remains
from soak import events, tasks
from soak.fleet import Fleet
from soak.memory import Memory, Trend
from soak.submitter import Submitter, illegal, ledger
from tranship import Client, TaskState


@dataclass(frozen=True)
class Report:
    """What a soak has shown.

    Attributes:
        states: how many tasks of each kind ended in each state, as their submitter was told.
        changed: tasks that had another end when they were asked for once more.
        wrong: tasks that returned what they should not.
        left: how many messages the queues have still.
        dead: the ids of the dead letters.
        given_up: the ids that their submitter was told are dead letters.
        never_ran: how many have returned something and never ran.
    """

    seed: int
    seconds: float
    kills: int
    keeper_kills: int
    states: Counter[tuple[str, str]]
    changed: Sequence[str]
    wrong: dict[str, object]
    left: int
    dead: set[str]
    given_up: set[str]
    never_ran: int
    seen: events.Seen
    memory: dict[str, Trend]

    def __str__(self) -> str:
        total, seen = sum(self.states.values()), self.seen
        kinds = ", ".join(f"{kind} {state} {many:,}" for (kind, state), many in sorted(self.states.items()))
        most = ", ".join(f"{seen.most[kind]} {kind} (limit {limit})" for kind, limit in tasks.LIMITS.items())
        deaths = f"{seen.deaths} of {seen.workers} workers did not end in good order"
        again = f"{seen.repeated} of them again after their worker's death, {len(seen.unexplained)} for another reason"
        lines = [
            f"{total:,} tasks in {self.seconds:.0f} s ({total / self.seconds:.0f}/s), seed {self.seed}",
            kinds,
            f"{self.kills} processes killed at random, {self.keeper_kills} of them keepers of others; {deaths}",
            f"{sum(seen.runs.values()):,} runs, {again}",
            f"at most at once in one worker: {most}, {seen.most['all']} in all (limit {tasks.CONCURRENCY})",
            *(f"memory of the {name}: {trend}" for name, trend in self.memory.items()),
        ]
        return "\n      ".join(lines)

    def check(self, count: int) -> None:
        """Insist on what every soak has to show."""
        assert sum(self.states.values()) == count
        assert not illegal(self.states), "tasks ended as their kind may not"
        assert not self.changed, "tasks ended twice"
        assert not self.wrong, "tasks returned what others should have"
        assert not self.never_ran, "tasks have a result and did not run"
        assert self.left == 0, "messages are left"
        assert self.dead == self.given_up, "dead letters and results do not agree"
        assert not events.exceeded(self.seen), "more ran at once than may"
        assert self.kills, "nobody was killed"
        assert all(trend.flat for trend in self.memory.values()), "memory grows"


def soak(url: str, count: int, seed: int, directory: Path, *, pause: tuple[float, float]) -> Report:
    """Run ``count`` tasks on the broker; kill workers all the while.

    Args:
        url: the broker.
        count: how many tasks.
        seed: of the order of kinds and the choice of victims.
        directory: for what is written down; empty.
        pause: seconds between two kills.
    """
    began = time.monotonic()
    places = directory / "events"
    with ledger(directory / "ledger.db") as kept, Client(url) as client:
        submitter = Submitter(client, kept, seed=seed)
        with Fleet(url, places, pause=pause, dice=random.Random(seed)) as fleet:
            with Memory({"submitter": os.getpid(), "worker that is spared": fleet.survivor}) as memory:
                submitter.run(count)
            seconds = time.monotonic() - began
            fleet.stop()
        changed = submitter.second_look()
        left, dead = asyncio.run(remains(url))
        seen = events.read(places)
        return Report(
            seed=seed,
            seconds=seconds,
            kills=fleet.kills,
            keeper_kills=fleet.keeper_kills,
            states=kept.states(),
            changed=changed,
            wrong=submitter.wrong,
            left=left,
            dead={str(letter.task_id) for letter in dead},
            given_up=kept.ids(TaskState.DEAD_LETTERED.value),
            never_ran=len(kept.ids(TaskState.SUCCESS.value) - seen.started),
            seen=seen,
            memory=memory.trends(),
        )
