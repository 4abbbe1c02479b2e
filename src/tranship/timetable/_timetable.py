"""A timetable: its ticks, and what to do about those that were missed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, get_args

from tranship.checks import Duration, duration, invalid, one_of, positive_duration
from tranship.errors import InvalidOptionError
from tranship.timetable._cron import Cron
from tranship.timetable._every import Every

__all__ = ["GRACE", "MISSED", "Missed", "Timetable", "stamp"]

Missed = Literal["skip", "once", "all"]
"""What becomes of ticks that nobody was there for."""
MISSED: Final = get_args(Missed)
GRACE: Final = 60.0
"""Seconds by which a tick may be late, unless said otherwise: longer than another scheduler needs to take over."""


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """When a task runs.

    Args:
        when: its ticks.
        missed: what to do about ticks that are later than ``grace``: ``"skip"`` them, make up for all of them
            ``"once"``, or run ``"all"``.
        grace: seconds by which a tick may be late without being missed.
        jitter: each tick is late by up to this long, so that not everybody comes at once. How late a tick is, is the
            same for everybody who asks.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    when: Every | Cron
    missed: Missed = "skip"
    grace: Duration = GRACE
    jitter: Duration = 0.0

    def __post_init__(self) -> None:
        one_of("missed", self.missed, MISSED)
        object.__setattr__(self, "grace", positive_duration("grace", self.grace))
        jitter = duration("jitter", self.jitter)
        if isinstance(self.when, Every) and jitter >= self.when.seconds:
            raise invalid("jitter", self.jitter, f"less than the {self.when.seconds:g} s between two ticks")
        object.__setattr__(self, "jitter", jitter)

    @classmethod
    def of(
        cls,
        *,
        every: Duration | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        both_days: bool = False,
        **more: Any,
    ) -> Self:
        """Return a timetable of what users write: ``every`` or ``cron``, and the rest.

        Raises:
            InvalidOptionError: neither or both, a time zone without a calendar, or a value outside what is allowed.
        """
        if (every is None) == (cron is None):
            raise InvalidOptionError("a schedule has either every= or cron=; give one of them", option="every")
        if every is not None:
            if timezone is not None:
                raise InvalidOptionError(
                    f"timezone is {timezone!r}, and every= knows no calendar; give it with cron=", option="timezone"
                )
            return cls(when=Every(every), **more)
        return cls(when=Cron(cron or "", "UTC" if timezone is None else timezone, both_days), **more)

    @property
    def lateness(self) -> tuple[float, float]:
        """``grace`` and ``jitter`` in seconds."""
        grace: Any = self.grace
        jitter: Any = self.jitter
        return float(grace), float(jitter)

    def due(self, name: str, tick: float) -> float:
        """Return when ``tick`` of the schedule ``name`` is to be sent: its jitter later."""
        jitter = self.lateness[1]
        if not jitter:
            return tick
        digest = hashlib.sha256(f"{name}@{stamp(tick)}".encode(errors="surrogatepass")).digest()
        return tick + jitter * int.from_bytes(digest[:6]) / 2**48

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data, as :meth:`of` takes it."""
        when = self.when
        grace, jitter = self.lateness
        if isinstance(when, Every):
            own: dict[str, Any] = {"every": when.seconds}
        else:
            own = {"cron": when.expression, "timezone": when.timezone, "both_days": when.both_days}
        return {**own, "missed": self.missed, "grace": grace, "jitter": jitter}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_data` has written.

        Raises:
            InvalidOptionError, TypeError: it is something else.
        """
        return cls.of(**data)

    def __str__(self) -> str:
        return str(self.when)


def stamp(tick: float) -> str:
    """Return a tick as text, such as ``2027-03-28T01:00:00Z``; with milliseconds where it has some."""
    at = datetime.fromtimestamp(round(tick, 3), UTC)
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")
