"""One fleet under fire, and what it has shown."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interop.mixed import again, log, lost
from interop.mixed.fleet import Death, Fleet, Place
from interop.mixed.lost import ID, Loss
from interop.mixed.plan import QUEUES, Canvas
from interop.mixed.sender import Sender
from interop.runs import until

STORIES = 10
"""Canvases that have not ended of which the report tells; its figures have all."""
EMPTY_WITHIN = 60.0
"""Seconds after the last end within which nobody holds a message any more."""


@dataclass
class Report:
    """What a fleet has shown.

    Attributes:
        seconds: from the first canvas to the end of the last.
        kills: by kind.
        canvases: as they have ended.
        losses: those that have not.
        runs: how many, by kind.
        again: why runs were not the first of their task.
        unexplained: the ids of tasks of which nothing says why they ran again.
        emptied: seconds after which nobody held anything any more; None: not within their time.
    """

    name: str
    seconds: float
    kills: Counter[str]
    canvases: Sequence[Canvas]
    losses: Sequence[Loss]
    runs: Counter[str]
    again: Counter[str]
    unexplained: list[str]
    emptied: float | None

    @property
    def well(self) -> int:
        """How many canvases have ended as they should."""
        return sum(one.well for one in self.canvases)

    @property
    def lost(self) -> Counter[str]:
        """How many canvases have not ended, by who had what is missing."""
        return Counter(one.who for one in self.losses)

    @property
    def failures(self) -> Counter[str]:
        """How many canvases have ended otherwise than they should, by how."""
        bad = [one for one in self.canvases if one.state and not one.well]
        return Counter(f"{one.state}: {ID.sub('ID', str(one.value))[:120]}" for one in bad)

    def __str__(self) -> str:
        held = (
            "somebody still holds messages" if self.emptied is None else f"{self.emptied:.1f} s later nobody holds any"
        )
        lines = [
            f"{self.name}: {self.well:,} of {len(self.canvases):,} canvases ended well in {self.seconds:.0f} s; {held}",
            f"killed: {_listed(self.kills)}; runs: {_listed(self.runs)}",
            f"not ended, by who had them: {_listed(self.lost)}; ended otherwise: {_listed(self.failures)}",
            *(one.story for one in self.losses[:STORIES]),
            f"{self.again.total()} runs were not the first of their task: {_listed(self.again)}",
        ]
        return "\n    ".join(lines)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{many:,} {what}" for what, many in counts.most_common()) or "none"


def run_fleet(
    kinds: Sequence[str],
    count: int,
    place: Place,
    left: Callable[[], Any],
    *,
    seed: int,
    pause: tuple[float, float],
    stall: float,
) -> Report:
    """Have workers of these kinds run ``count`` canvases while they are killed, and tell what they have shown.

    Args:
        kinds: one worker of each.
        count: how many canvases.
        place: where they work.
        left: returns what somebody still holds.
        seed: of the choice of victims, and of when.
        pause: seconds between two kills.
        stall: seconds without an end of any canvas after which those that are left are taken for lost.
    """
    dice = random.Random(seed)
    with Fleet(kinds, place, dice) as fleet, Sender(count, {QUEUES: place.name}, place.config) as sender:
        began = time.monotonic()
        last = _drive(fleet, sender, dice, pause, stall)
        emptied = _emptied(left)
        canvases = [
            one if one.state else lost.looked_into(one, sender.results(one)) for one in sender.canvases.values()
        ]
        runs = log.read(place.log)
        losses = _losses(canvases, sender, fleet.deaths, runs, place)
    reasons, unexplained = again.duplicates(canvases, runs, fleet.deaths, visibility_of(place))
    return Report(
        name=place.name,
        seconds=last - began,
        kills=fleet.kills(),
        canvases=canvases,
        losses=losses,
        runs=Counter(run.kind for each in runs.values() for run in each),
        again=reasons,
        unexplained=unexplained,
        emptied=emptied,
    )


def _losses(
    canvases: Sequence[Canvas],
    sender: Sender,
    deaths: Sequence[Death],
    runs: Mapping[str, Sequence[log.Run]],
    place: Place,
) -> list[Loss]:
    """Say of each canvas that has not ended who had what is missing."""
    missing = [one for one in canvases if not one.state]
    ids = {task_id for one in missing for task_id in one.ids}
    said = lost.mentions(sorted(place.folder.glob(f"{place.name}-*.log")), runs, ids) if missing else {}
    return [lost.loss(one, sender.counted(one), said, deaths) for one in missing]


def visibility_of(place: Place) -> float:
    """Seconds after which Celery takes a message away from whoever holds it."""
    return float(place.config.get("broker_transport_options", {}).get("visibility_timeout", float("inf")))


def _drive(fleet: Fleet, sender: Sender, dice: random.Random, pause: tuple[float, float], stall: float) -> float:
    """Send, look and kill until all have ended, or nothing ends any more; return when the last one did."""
    last = time.monotonic()
    kill_at: float | None = None
    while sender.sending or sender.waiting:
        if sender.advance():
            last = time.monotonic()
            kill_at = kill_at or last
        if sender.sending and kill_at and time.monotonic() >= kill_at:
            fleet.kill_one()
            kill_at = time.monotonic() + dice.uniform(*pause)
        if time.monotonic() > last + stall:
            break
        time.sleep(0.02)  # between two looks at the results
    return last


def _emptied(left: Callable[[], Any]) -> float | None:
    """Seconds until nobody holds anything."""
    began = time.monotonic()
    try:
        until(lambda: not left(), "nobody holds anything", EMPTY_WITHIN)
    except AssertionError:
        return None
    return time.monotonic() - began
