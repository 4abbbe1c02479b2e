"""Schedules, as an operator looks after them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from tranship.client._link import ClientLink
from tranship.client.shared import prepare
from tranship.clocks import clock_of
from tranship.envelope import Receipt
from tranship.errors import ConfigurationError
from tranship.schedules import Book, Entry, Schedule, ScheduleReport, schedule_reports

__all__ = ["add", "pause", "remove", "report", "resume", "trigger"]

Doing = Callable[[ClientLink], Coroutine[Any, Any, None]]


async def report(link: ClientLink) -> list[ScheduleReport]:
    """Report on every schedule."""
    return await schedule_reports(_book(link), _now(link))


def add(schedule: Schedule) -> Doing:
    """Add one while schedulers run."""
    if not isinstance(schedule, Schedule):
        raise ConfigurationError(f"{schedule!r} is no schedule; expected Schedule(name, task, every=...)")
    return lambda link: _book(link).add(schedule, _now(link))


def remove(name: str) -> Doing:
    """Remove one."""
    return lambda link: _book(link).remove(name)


def pause(name: str) -> Doing:
    """Send no more of its ticks."""

    async def paused(link: ClientLink) -> None:
        await _book(link).update(name, lambda entry: None if entry.paused else replace(entry, paused=True))

    return paused


def resume(name: str) -> Doing:
    """Send its ticks again; those of the pause were not missed, but not wanted."""

    async def resumed(link: ClientLink) -> None:
        now = _now(link)

        def change(entry: Entry) -> Entry | None:
            return replace(entry, paused=False, last=max(entry.last, now)) if entry.paused else None

        await _book(link).update(name, change)

    return resumed


def trigger(name: str) -> Callable[[ClientLink], Coroutine[Any, Any, str]]:
    """Run its task now."""

    async def triggered(link: ClientLink) -> str:
        entry = await _book(link).known(name)
        (answer,) = await link.submission.submit(prepare(link, [entry.schedule.call()]))
        if isinstance(answer, Receipt):
            return answer.duplicate_of or answer.id
        raise answer

    return triggered


def _book(link: ClientLink) -> Book:
    keeper = link.record_keeper()
    return Book(keeper.records(), keeper.url)


def _now(link: ClientLink) -> float:
    return clock_of(link.record_keeper()).now()
