"""By the calendar of a time zone, as cron does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import Final

from tranship.checks import invalid, text

__all__ = ["Cron"]

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: Final = 5
_EXPECTED: Final = "five fields: minute, hour, day of month, month, day of week, such as '30 2 * * mon-fri'"


@dataclass(frozen=True)
class Cron:
    """The five fields of cron, or ``@hourly`` and its like, in a time zone.

    Where clocks change, it does what Debian's cron does: what runs at fixed times runs once a day, right after the gap
    if its time falls into one; what has ``*`` as its minute or hour runs by time that has passed.

    Args:
        expression: such as ``"30 2 * * mon-fri"``.
        timezone: a name of the IANA's, such as ``"Europe/Berlin"``.
        both_days: whether a day has to match day of month **and** day of week where both are given; cron needs one.

    Raises:
        InvalidOptionError: it cannot be read, never comes, or the time zone is unknown.
    """

    expression: str
    timezone: str = "UTC"
    both_days: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression", " ".join(text("cron", self.expression).split()))
        if len(self._fields.split()) != FIELDS:
            raise invalid("cron", self.expression, f"{_EXPECTED}; for seconds there is every=")
        self._check()

    def after(self, moment: float) -> float:
        """Return the first tick behind ``moment``, both in epoch seconds.

        Raises:
            OverflowError: there is none in the next fifty years.
        """
        from cronsim import CronSim

        sim = CronSim(self._fields, datetime.fromtimestamp(moment, UTC).astimezone(self.zone))
        # A restricted day of month and a restricted day of week: either is enough for cron, Celery wants both.
        sim.day_and = sim.day_and or self.both_days
        for tick in sim:
            # In an hour that comes twice, what runs once may be behind us already.
            if (at := tick.timestamp()) > moment:
                return at
        raise OverflowError(f"{self.expression!r} does not come any more")

    @cached_property
    def zone(self) -> tzinfo:
        """The time zone.

        Raises:
            InvalidOptionError: it is unknown.
        """
        from zoneinfo import ZoneInfo

        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(text("timezone", self.timezone))
        except (OSError, ValueError, LookupError):
            raise invalid("timezone", self.timezone, _zone_hint(self.timezone)) from None

    def _check(self) -> None:
        from cronsim import CronSimError

        _ = self.zone
        try:
            self.after(0.0)
        except CronSimError as error:
            what = str(error).removeprefix("Bad ")
            raise invalid("cron", self.expression, f"{_EXPECTED}; its {what} cannot be") from None
        except OverflowError:
            raise invalid("cron", self.expression, "an expression that comes at all: this one never does") from None

    @property
    def _fields(self) -> str:
        return NICKNAMES.get(self.expression.lower(), self.expression)

    def __str__(self) -> str:
        return f"{self.expression} {self.timezone}"


def _zone_hint(given: str) -> str:
    import difflib
    from zoneinfo import available_timezones

    known = available_timezones()
    if not known:
        return "a time zone, and this host has none; install the package tzdata"
    folded = {one.lower(): one for one in known}
    close = difflib.get_close_matches(given.lower(), folded, n=1)
    guess = f"; did you mean {folded[close[0]]}?" if close else ""
    return f"a time zone of the IANA's, such as Europe/Berlin{guess}"
