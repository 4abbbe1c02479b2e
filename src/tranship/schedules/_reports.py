"""What an operator sees of schedules."""

from __future__ import annotations

from dataclasses import dataclass

from tranship.schedules._book import Book, Entry, Origin

__all__ = ["ScheduleReport", "schedule_reports"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleReport:
    """One schedule and where it stands; moments are epoch seconds."""

    name: str
    task: str
    """The name of its task."""
    queue: str
    """Where its tasks go."""
    when: str
    """In words, such as ``every 30 s``."""
    missed: str
    """What becomes of ticks that nobody sent in time: ``skip``, ``once`` or ``all``."""
    origin: Origin
    """Who has declared it: ``code``, ``settings``, ``beat``, or ``added`` at run time."""
    state: str
    """``active``, ``paused``, or ``idle``: no scheduler at work declares it."""
    next: float | None
    """When the next tick is due; None: it does not run."""
    last: float | None
    """The tick that was sent last."""
    error: str
    """Why the latest tick could not be sent."""


async def schedule_reports(book: Book, now: float) -> list[ScheduleReport]:
    """Return a report on each schedule, by name."""
    entries, declared = await book.entries(), await book.declared()
    return [_report(one, now, declared=one.origin == "added" or one.name in declared) for one in entries]


def _report(entry: Entry, now: float, *, declared: bool) -> ScheduleReport:
    schedule = entry.schedule
    state = "paused" if entry.paused else "active" if declared else "idle"
    return ScheduleReport(
        name=schedule.name,
        task=schedule.task,
        queue=schedule.options.queue,
        when=str(schedule.timetable),
        missed=schedule.timetable.missed,
        origin=entry.origin,
        state=state,
        next=_next(entry, now) if state == "active" else None,
        last=entry.sent,
        error=entry.error,
    )


def _next(entry: Entry, now: float) -> float | None:
    table = entry.schedule.timetable
    try:
        return table.due(entry.name, table.when.after(max(entry.last, now)))
    except (ArithmeticError, ValueError):
        # It has no more ticks.
        return None
