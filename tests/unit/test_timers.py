"""The timer for one wait after the other."""

from __future__ import annotations

import asyncio

import pytest

from tranship.timers import ROUND, LazyTimer, Sleeper, next_round


class Rung:
    """What a timer calls."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.timer = LazyTimer(self._ring)
        self._again = asyncio.Event()

    def _ring(self) -> None:
        self.at.append(asyncio.get_running_loop().time())
        self._again.set()

    async def wait(self) -> float:
        async with asyncio.timeout(10):
            await self._again.wait()
        self._again.clear()
        return self.at[-1]


def _now() -> float:
    return asyncio.get_running_loop().time()


async def test_it_calls_once_and_not_before_its_time() -> None:
    rung = Rung()
    due = _now() + 0.02
    rung.timer.set(due)
    assert await rung.wait() >= due - 0.001
    later = Rung()
    later.timer.set(_now() + 0.02)
    await later.wait()
    assert len(rung.at) == 1


async def test_what_is_set_last_counts_whether_sooner_or_later() -> None:
    rung = Rung()
    first = _now() + 0.02
    rung.timer.set(first)
    rung.timer.set(first + 0.05)
    assert await rung.wait() >= first + 0.049
    rung.timer.set(_now() + 60)
    rung.timer.set(_now() + 0.01)
    await rung.wait()
    assert len(rung.at) == 2


async def test_what_is_cleared_or_closed_is_not_called_and_can_be_set_again() -> None:
    rung, other = Rung(), Rung()
    rung.timer.set(_now() + 0.01)
    rung.timer.clear()
    other.timer.set(_now() + 0.05)
    await other.wait()
    assert rung.at == []
    rung.timer.set(_now() + 0.01)
    rung.timer.close()
    other.timer.set(_now() + 0.05)
    await other.wait()
    assert rung.at == []
    rung.timer.set(_now() + 0.01)
    await rung.wait()


async def test_a_thousand_waits_leave_one_timer_in_the_loop() -> None:
    rung = Rung()
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]
    for _ in range(1_000):
        rung.timer.set(_now() + 60)
        rung.timer.clear()
    assert len(loop._scheduled) - before == 1  # type: ignore[attr-defined]
    rung.timer.close()


async def _asleep(sleeper: Sleeper, seconds: float | None) -> asyncio.Task[None]:
    """Start somebody who sleeps, and return once he does."""
    task = asyncio.create_task(sleeper.sleep(seconds))
    await asyncio.sleep(0)
    return task


async def test_a_sleeper_is_woken_or_wakes_in_time() -> None:
    sleeper = Sleeper()
    sleeping = await _asleep(sleeper, None)
    sleeper.wake()
    await asyncio.wait_for(sleeping, 10)
    due = _now() + 0.02
    await asyncio.wait_for(sleeper.sleep(0.02), 10)
    assert _now() >= due - 0.001


async def test_a_wake_that_finds_nobody_wakes_nobody_later() -> None:
    sleeper = Sleeper()
    sleeper.wake()
    due = _now() + 0.02
    await sleeper.sleep(0.02)
    assert _now() >= due - 0.001


async def test_the_time_of_a_sleep_that_was_cancelled_ends_no_later_one() -> None:
    sleeper = Sleeper()
    cancelled = await _asleep(sleeper, 0.02)
    cancelled.cancel()
    await asyncio.wait({cancelled}, timeout=10)
    assert cancelled.cancelled()
    due = _now() + 0.06
    await sleeper.sleep(0.06)
    assert _now() >= due - 0.001


def _timers() -> int:
    """How many timers of the loop will still do something."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not handle.cancelled() for handle in scheduled)


async def test_a_sleeper_that_is_closed_wakes_and_leaves_nothing_in_the_loop() -> None:
    sleeper, before = Sleeper(), _timers()
    sleeping = await _asleep(sleeper, 60)
    assert _timers() == before + 1
    sleeper.close()
    assert _timers() == before
    await asyncio.wait_for(sleeping, 10)


@pytest.mark.parametrize("seconds", [0.01, ROUND / 2, ROUND, 3 * ROUND])
def test_a_round_comes_soon_and_never_twice(seconds: float) -> None:
    for step in range(1000):
        now = 1e5 + seconds * step / 97
        at = next_round(now, seconds)
        assert 0.1 * seconds - 1e-6 <= at - now <= 1.1 * seconds + 1e-6
        # A timer may be early, or late.
        for early in (-seconds / 50, 0.0, seconds / 50):
            assert next_round(at + early, seconds) == pytest.approx(at + seconds)


def test_rounds_of_several_lengths_coincide() -> None:
    at = next_round(1e5)
    halves = [next_round(1e5 + step, ROUND / 2) for step in range(10)]
    assert any(one == pytest.approx(at) for one in halves)
