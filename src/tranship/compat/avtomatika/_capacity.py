"""A task that the worker has no room for goes back, before anything is fetched for it."""

from __future__ import annotations

from typing import Any, Final

from tranship.compat.avtomatika.types import CapacityChecker
from tranship.middleware import Middleware, Next, RunCall
from tranship.outcomes import Snooze

__all__ = ["Capacity"]

NO_ROOM: Final = 1.0
"""Seconds after which a task comes again that the worker had no capacity for."""


class Capacity(Middleware):
    """Asks whether a skill could be run now.

    Args:
        checker: says it, given the skill's name.
    """

    def __init__(self, checker: CapacityChecker) -> None:
        self._checker = checker

    async def run(self, call: RunCall, call_next: Next[RunCall, Any]) -> Any:
        """Call the handler, or have the task come again as the same attempt."""
        skill = call.context.task
        if not self._checker(skill):
            raise Snooze(NO_ROOM, f"there is no capacity for {skill} here")
        return await call_next(call)
