"""What a handler may say beside a plain value: a status, *later*, or how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from tranship.checks import invalid, is_number, key_text, positive_duration

__all__ = ["Outcome", "Progress", "Snooze", "Suspended"]

LONGEST_STATUS: Final = 255
"""Bytes."""
_MESSAGE: Final = 1000
"""Characters of what a handler says of its progress."""

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
        self.status: str = key_text("status", status, LONGEST_STATUS)
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
        self.delay: float = positive_duration("delay of Snooze", delay)
        super().__init__(reason or f"come again in {self.delay:g} s")
        self.reason = reason

    def __reduce__(self) -> tuple[type[Snooze], tuple[float, str]]:
        # A handler in a process of its own raises it there; the arguments of an exception are its text.
        return type(self), (self.delay, self.reason)


class Suspended(BaseException):
    """Raised in a handler that sleeps, through it: the task goes on in a run of its own, after ``delay`` seconds.

    It is no failure, and no ``except Exception`` is for it.
    """

    def __init__(self, delay: float) -> None:
        super().__init__(f"goes on in {delay:g} s")
        self.delay = delay


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is, as its handler said last."""

    done: float
    total: float | None = 1.0
    """Of how much; None: nobody knows."""
    message: str = ""
    at: float = 0.0
    """Epoch seconds, by the worker's clock."""
    attempt: int = 0

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None: nobody knows."""
        return None if self.total is None else self.done / self.total

    @classmethod
    def checked(cls, done: float, total: float | None, message: str, *, attempt: int = 0) -> Progress:
        """Return it as of now.

        Raises:
            InvalidOptionError: what is not to be understood, such as 5 of 0.
        """
        if total is not None and not (is_number(total) and total > 0):
            raise invalid("total", total, "a number above 0, or None where nobody knows it")
        if not is_number(done) or done < 0 or (total is not None and done > total):
            raise invalid("done", done, "a number from 0 on" if total is None else f"a number from 0 to {total:g}")
        if not isinstance(message, str):
            raise invalid("message", message, "a text")
        return cls(float(done), None if total is None else float(total), message[:_MESSAGE], time.time(), attempt)
