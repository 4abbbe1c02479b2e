"""Which ticks are to be sent now: the whole policy, in one function of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tranship.timetable._cron import Cron
from tranship.timetable._every import Every
from tranship.timetable._timetable import Timetable

__all__ = ["AT_ONCE", "Plan", "latest", "plan"]

AT_ONCE: Final = 100
"""Ticks that are sent in one go; the rest follows at once."""
INSTANT: Final = 0.001
"""Seconds: ticks are no finer."""
FIRST_LOOK: Final = 60.0
"""Seconds before now in which the latest tick is looked for first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one schedule now."""

    send: tuple[float, ...]
    """Ticks to be sent, the earliest first."""
    last: float
    """The moment up to which all is dealt with, once they are sent."""
    wake: float
    """When there is something to do again, in epoch seconds; in the past: now."""


def plan(name: str, table: Timetable, last: float, now: float) -> Plan:
    """Return what is to be sent at ``now`` by a timetable whose ticks up to ``last`` have been dealt with.

    A tick is missed if it is sent more than ``grace`` after it was due. Of what is missed, ``skip`` sends nothing and
    ``all`` everything; ``once`` sends the latest, unless a tick that is in time makes up for it.
    """
    first = table.due(name, table.when.after(last))
    if first > now:
        return Plan((), last, first)
    if table.missed == "all":
        return _all(name, table, last, now)
    grace, jitter = table.lateness
    # Whatever comes before is late, however late its jitter lets it be.
    start = max(last, now - grace - jitter - INSTANT)
    due = _due(name, table, start, now)
    there_is_more = len(due) == AT_ONCE
    send = tuple(one for one in due if table.due(name, one) >= now - grace)
    done = due[-1] if due else start
    if not send and table.missed == "once" and not there_is_more:
        missed = due[-1] if due else latest(table.when, last, start)
        send = () if missed is None else (missed,)
    return Plan(send, done, _wake(name, table, done))


def _all(name: str, table: Timetable, last: float, now: float) -> Plan:
    due = tuple(_due(name, table, last, now))
    done = due[-1] if due else last
    return Plan(due, done, _wake(name, table, done))


def _due(name: str, table: Timetable, start: float, now: float) -> list[float]:
    """The first ticks behind ``start`` that are due, in order: one whose jitter is not over holds up the rest."""
    found: list[float] = []
    tick = table.when.after(start)
    while table.due(name, tick) <= now and len(found) < AT_ONCE:
        found.append(tick)
        tick = table.when.after(tick)
    return found


def _wake(name: str, table: Timetable, done: float) -> float:
    return table.due(name, table.when.after(done))


def latest(when: Every | Cron, after: float, until: float) -> float | None:
    """Return the latest tick behind ``after`` and not behind ``until``; None: there is none.

    It looks at a longer and longer time before ``until``: nobody counts the minutes of a year.
    """
    span = FIRST_LOOK
    while after < until:
        start = max(after, until - span)
        found, tick = None, when.after(start)
        while tick <= until:
            found, tick = tick, when.after(tick)
        if found is not None or start == after:
            return found
        span *= 4
    return None
