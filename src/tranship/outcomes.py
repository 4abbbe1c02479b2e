"""What a handler may return or raise instead of a plain value: a status beside the value, or *later*."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from tranship.checks import key_text, positive_duration

__all__ = ["Outcome", "Snooze"]

LONGEST_STATUS: Final = 255
"""Bytes."""

T_co = TypeVar("T_co", covariant=True)


class Outcome(Generic[T_co]):
    """Return it from a handler to give the result a status of your own, such as ``"needs_manual_review"``.

    The task's state is SUCCESS, whatever the status says; ``TaskResult.status`` is the status, ``TaskResult.value`` the
    data. To fail, raise.

    Args:
        status: a text of 1 to 255 bytes.
        data: what a handler would return otherwise.

    Raises:
        InvalidOptionError: the status is no such text.
    """

    __slots__ = ("data", "status")

    def __init__(self, status: str, data: T_co | None = None) -> None:
        self.status = key_text("status", status, LONGEST_STATUS)
        self.data: Any = data

    def __repr__(self) -> str:
        # Results may hold secrets.
        return f"Outcome({self.status!r}, ...)"


class Snooze(Exception):
    """Raise or return it in a handler to be run again after ``delay``, as the same attempt: it uses up none.

    A task with a deadline that would be over by then ends as EXPIRED at once; one without a deadline may snooze for
    ever.

    Args:
        delay: seconds, or a timedelta, above 0.
        reason: why, for the log.

    Raises:
        InvalidOptionError: no such delay.
    """

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        self.delay = positive_duration("delay of Snooze", delay)
        super().__init__(reason or f"come again in {self.delay:g} s")
        self.reason = reason

    def __reduce__(self) -> tuple[type[Snooze], tuple[float, str]]:
        # A handler in a process of its own raises it there; the arguments of an exception are its text.
        return type(self), (self.delay, self.reason)
