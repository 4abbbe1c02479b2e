"""Hours pass when the test says so, and all of it really happens."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from tranship import AsyncClient, FixedBackoff, RetryPolicy, Scheduler, TaskState, Worker, current, task
from tranship.errors import BusyError, InvalidOptionError, TaskTimedOut
from tranship.testing.background import BackgroundWorker
from tranship.testing.clock import VirtualClock

MINUTES, HOUR, DAY = 600.0, 3600.0, 86400.0


@task
def stamp() -> float:
    return time.time()


@task(retry=RetryPolicy(max_attempts=4, backoff=FixedBackoff(MINUTES)))
def third_time_lucky() -> int:
    if current().attempt < 2:
        raise ConnectionError("busy")
    return current().attempt


@task
async def dawdle(seconds: float) -> float:
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return time.monotonic() - began


@task
def block(seconds: float) -> float:
    began = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - began


TASKS = [stamp, third_time_lucky, dawdle, block]


def test_a_delay_of_hours_is_over_at_once_and_not_before(tranship_clock, tranship_client, tranship_worker):
    tranship_worker(*TASKS)
    due = time.time() + HOUR
    handle = tranship_client.submit(stamp.options(delay=timedelta(hours=1)))
    tranship_clock.advance(0.9 * HOUR)
    assert handle.state() is TaskState.SCHEDULED
    tranship_clock.advance(0.1 * HOUR)
    assert due <= handle.result(timeout=5) < due + 60


def test_retries_come_one_after_the_other(tranship_clock, tranship_client, tranship_worker):
    tranship_worker(*TASKS)
    handle = tranship_client.submit(third_time_lucky)
    tranship_clock.advance(1.5 * MINUTES)
    assert handle.state() is not TaskState.SUCCESS
    tranship_clock.advance(MINUTES)
    assert handle.result(timeout=5) == 2


@pytest.mark.parametrize("waits", [dawdle, block])
def test_handlers_that_sleep_keep_their_lease_and_go_on(waits, tranship_clock, tranship_client, tranship_worker):
    tranship_worker(*TASKS)
    handle = tranship_client.submit(waits.options(run_timeout=None), MINUTES)
    tranship_clock.advance(MINUTES + 1)
    assert MINUTES <= handle.result(timeout=5) < MINUTES + 60
    assert handle.wait(timeout=5).attempt == 0


@pytest.mark.parametrize("waits", [dawdle, block])
def test_a_handler_that_takes_longer_than_it_may_has_timed_out(waits, tranship_clock, tranship_client, tranship_worker):
    tranship_worker(*TASKS)
    handle = tranship_client.submit(waits.options(run_timeout=60, retry=None), HOUR)
    tranship_clock.advance(61)
    with pytest.raises(TaskTimedOut):
        handle.result(timeout=5)
    tranship_clock.advance(HOUR)  # a thread cannot be ended: it sleeps on


def test_a_worker_that_is_run_until_it_is_idle_waits_for_hours_in_no_time(
    tranship_clock, tranship_client, tranship_url
):
    handle = tranship_client.submit(third_time_lucky)
    later = tranship_client.submit(stamp.options(delay=3 * HOUR))
    began = time.perf_counter()
    worker = Worker(tranship_url, result_url=tranship_url, tasks=TASKS)
    assert tranship_clock.run_until_idle(worker) == 4
    assert handle.result(timeout=5) == 2
    assert later.result(timeout=5)
    assert time.perf_counter() - began < 60


def test_what_takes_longer_than_it_may_is_told(tranship_clock, tranship_client, tranship_url):
    tranship_client.submit(stamp.options(delay=DAY))
    worker = Worker(tranship_url, result_url=tranship_url, tasks=TASKS)
    with pytest.raises(TimeoutError):
        tranship_clock.run_until_idle(worker, within=HOUR)


TICKS: list[datetime] = []


@task(cron="30 3 * * *", timezone="Europe/Berlin")
def nightly() -> None:
    TICKS.append(datetime.fromtimestamp(time.time(), UTC))


def test_a_schedule_keeps_to_the_wall_clock_through_a_change_to_summer_time(tranship_url):
    TICKS.clear()
    with VirtualClock(datetime(2027, 3, 28, 0, 55, tzinfo=UTC)) as clock:
        worker = Worker(tranship_url, result_url=tranship_url, tasks=[nightly])
        with BackgroundWorker(worker), Scheduler(tranship_url, result_url=tranship_url, tasks=[nightly]):
            clock.advance_to(datetime(2027, 3, 28, 1, 29, tzinfo=UTC))
            assert not TICKS
            clock.advance_to(datetime(2027, 3, 28, 1, 31, tzinfo=UTC))
    assert [(one.hour, one.minute) for one in TICKS] == [(1, 30)]  # half past three of summer time


async def test_in_a_test_that_has_a_loop(tranship_clock, tranship_url):
    async with AsyncClient(tranship_url, result_url=tranship_url) as client:
        worker = Worker(tranship_url, result_url=tranship_url, tasks=TASKS)
        working = asyncio.create_task(worker.serve())
        handle = await client.submit(dawdle.options(run_timeout=None), MINUTES)
        with pytest.raises(BusyError, match="advance_async"):
            tranship_clock.advance(1)
        await tranship_clock.advance_async(MINUTES + 1)
        assert await handle.result(timeout=5) >= MINUTES
        worker.stop()
        await working


def test_the_real_time_is_back_afterwards():
    wall = time.time()
    with VirtualClock() as clock:
        clock.advance(DAY)
        assert time.time() - wall >= DAY
    assert time.time() - wall < HOUR


def test_mistakes_are_told():
    with pytest.raises(InvalidOptionError, match="time zone"):
        VirtualClock(datetime(2027, 1, 1))  # noqa: DTZ001
    with pytest.raises(BusyError, match="not in use"):
        VirtualClock().advance(1)
    with VirtualClock() as clock:
        with pytest.raises(InvalidOptionError, match="seconds"):
            clock.advance(-1)
        with pytest.raises(InvalidOptionError, match="has not passed"):
            clock.advance_to(datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(BusyError, match="another virtual clock"), VirtualClock():
            pass
