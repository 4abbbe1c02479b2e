"""What a group of exceptions means for a task: handlers that run several things at once raise groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tranship.errors import Reject, Retry, TaskCancelled, TaskError
from tranship.outcomes import Snooze, Suspended
from tranship.retry import exception_names

__all__ = ["may_succeed_later", "meant", "shared_names"]

_SAID: Final = (TaskCancelled, Reject, Retry, Snooze, Suspended)
"""What a handler says rather than suffers, the strongest first."""


def meant(error: BaseException) -> BaseException:
    """Return what ``error`` comes down to: of a group its only failure, or the one that says what is to be done."""
    found = list(_leaves(error))
    if len(found) == 1:
        return found[0]
    return next((one for kind in _SAID for one in found if isinstance(one, kind)), error)


def shared_names(error: BaseException) -> tuple[str, ...]:
    """Return the names for ``retry_on``: of a group those that all its failures share, and its own."""
    first, *others = map(exception_names, _leaves(error))
    shared = tuple(name for name in first if all(name in names for names in others))
    return (*shared, *exception_names(error)) if isinstance(error, BaseExceptionGroup) else shared


def may_succeed_later(error: BaseException) -> bool:
    """Whether no failure in ``error`` says of itself that another attempt is useless."""
    return not any(isinstance(one, TaskError) and not one.retryable for one in _leaves(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the failures in ``error``, each once and in order; without recursion, however deep it is nested."""
    seen: set[int] = set()
    ahead = [error]
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            ahead.extend(reversed(one.exceptions))
        else:
            yield one
