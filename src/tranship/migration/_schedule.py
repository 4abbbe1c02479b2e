"""What a ``beat_schedule`` says. Its objects are known by their attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tranship.migration._note import Note, differs, works

__all__ = ["ScheduleFacts", "schedule_notes", "schedules_of"]

_CRON: Final = ("_orig_minute", "_orig_hour", "_orig_day_of_month", "_orig_month_of_year", "_orig_day_of_week")
"""Where a crontab of Celery's keeps what it was given."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFacts:
    """One entry."""

    name: str
    task: str
    when: str
    """``every 30 s``, or ``cron 0 3 * * * (UTC)``; empty: neither."""
    args: str
    """As they stand in a call."""
    kind: str
    """The class of what stands for its times."""


def schedules_of(conf: Any) -> list[ScheduleFacts]:
    """Return the entries of the setting ``beat_schedule``."""
    zone = str(conf.timezone or "UTC")
    return [_facts(str(name), entry, zone) for name, entry in (conf.beat_schedule or {}).items()]


def _facts(name: str, entry: Any, zone: str) -> ScheduleFacts:
    when, task = entry.get("schedule"), entry.get("task")
    args = [repr(one) for one in entry.get("args") or ()]
    args += [f"{key}={value!r}" for key, value in (entry.get("kwargs") or {}).items()]
    return ScheduleFacts(
        name=name,
        task=str(getattr(task, "name", task)),
        when=_when(when, zone),
        args=", ".join(args),
        kind=type(when).__name__,
    )


def _when(schedule: Any, zone: str) -> str:
    every = getattr(schedule, "run_every", schedule)
    if isinstance(every, timedelta):
        every = every.total_seconds()
    if isinstance(every, int | float):
        return f"every {every:g} s"
    if all(hasattr(schedule, name) for name in _CRON):
        return f"cron {' '.join(_field(getattr(schedule, name)) for name in _CRON)} ({zone})"
    return ""


def _field(value: Any) -> str:
    given: Sequence[Any] = [value] if isinstance(value, str | int) else sorted(value)
    return ",".join(map(str, given)).replace(" ", "")


def schedule_notes(target: str, schedule: Sequence[ScheduleFacts]) -> Iterator[Note]:
    """Yield a note for each entry.

    Args:
        target: what the app is imported by.
        schedule: its entries.
    """
    for entry in schedule:
        about, what = f"schedule {entry.name}", f"{entry.task}, {entry.when}"
        if entry.when:
            yield works(
                about, f"{what}: Celery beat goes on sending it, or `tranship schedule run --beat {target}` does"
            )
        else:
            yield differs(about, f"{entry.task} by a {entry.kind}: keep Celery beat for it")
