"""Three schedulers that die anywhere, over days on one of which the clock changes: every tick becomes what it has to."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from driver.schedule_world import World, daily, minutes
from driver.virtual_time import on_virtual_time
from tranship.schedules import Schedule

DAY = 86_400.0
CHANGES = [
    ("Europe/Berlin", datetime(2027, 3, 27, 15, tzinfo=UTC), (2, 30)),
    ("Europe/Berlin", datetime(2027, 10, 30, 15, tzinfo=UTC), (2, 30)),
    ("America/New_York", datetime(2027, 3, 13, 18, tzinfo=UTC), (2, 15)),
    ("America/New_York", datetime(2027, 11, 6, 18, tzinfo=UTC), (1, 45)),
    ("Australia/Lord_Howe", datetime(2027, 4, 3, 3, tzinfo=UTC), (1, 45)),
]
"""A zone, the day before its clock changes, and a time of day that is left out, or comes twice."""
GRACE = 300.0


async def played(seed: int, seconds: float, zone: str, start: datetime, at: tuple[int, int]) -> Counter[str]:
    """Let it happen, and return how many ticks of each policy were in time, late or missed."""
    begin = start.timestamp()
    hour, minute = at
    cases = [
        *(
            (Schedule(f"every-{missed}", "t", every=900, missed=missed, grace=GRACE), _every(900, begin, seconds))
            for missed in ("skip", "once", "all")
        ),
        (
            Schedule("jitter", "t", every=1800, jitter=120, missed="once", grace=GRACE),
            _every(1800, begin, seconds),
        ),
        *(
            (
                Schedule(
                    f"daily-{missed}", "t", cron=f"{minute} {hour} * * *", timezone=zone, missed=missed, grace=GRACE
                ),
                daily(start, seconds, hour, minute, zone),
            )
            for missed in ("skip", "once", "all")
        ),
        (
            Schedule("hourly", "t", cron="10 * * * *", timezone=zone, missed="all", grace=GRACE),
            minutes(start, seconds, lambda wall: wall.minute == 10, zone),
        ),
        (
            Schedule("three", "t", cron="*/20 1-3 * * *", timezone=zone, missed="once", grace=GRACE),
            minutes(start, seconds, lambda wall: wall.minute % 20 == 0 and 1 <= wall.hour <= 3, zone),
        ),
    ]
    world = World(seed, start, [schedule for schedule, _ in cases])
    await world.live(seconds)
    counts: Counter[str] = Counter()
    for schedule, ticks in cases:
        found = world.check(schedule, ticks)
        counts.update({f"{schedule.timetable.missed} {what}": number for what, number in found.items()})
    counts["deaths"] = len(world.lives)
    counts["held up"] = sum(len(life.held_up) for life in world.lives)
    assert world.repeats <= counts["deaths"] + counts["held up"], "more was sent again than by who died on the way"
    return counts


def _every(step: int, begin: float, seconds: float) -> list[float]:
    first = int(begin // step + 1) * step
    return [float(one) for one in range(first, int(begin + seconds), step)]


@on_virtual_time
async def test_every_tick_is_what_its_policy_says() -> None:
    zone, start, at = CHANGES[0]
    counts = await played(1, 1.2 * DAY, zone, start, at)
    for what in ("skip in time", "skip missed", "all in time", "all late", "once in time", "once late", "once missed"):
        assert counts[what] > 0, f"nothing was {what}: {counts}"
    assert counts["deaths"] > 20
    assert counts["held up"] > 0


@on_virtual_time
async def played_on_virtual_time(seed: int) -> None:
    zone, start, at = CHANGES[seed % len(CHANGES)]
    ENDED.update(await played(seed, 4 * DAY, zone, start, at))


ENDED: Counter[str] = Counter()


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_ten_minutes_of_days() -> None:
    """Each run is four days around a change of the clock, with other deaths."""
    end, seed = time.monotonic() + 600, 0
    while time.monotonic() < end:
        seed += 1
        try:
            played_on_virtual_time(seed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
    print(f"{seed} runs of 4 days: {dict(ENDED)}")
