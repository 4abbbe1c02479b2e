"""How often an event loop wakes up although nothing has come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tranship.testing.context import CaseContext

__all__ = ["Wakeups"]


class Wakeups:
    """Counts the times that the running loop has waited for something, and only a timer ended it."""

    def __init__(self) -> None:
        self.by_timer = 0

    @classmethod
    @contextmanager
    def counted(cls, context: CaseContext) -> Iterator[Self]:
        """Inside, they are counted; the case is skipped on a loop without a selector."""
        selector: Any = getattr(asyncio.get_running_loop(), "_selector", None)
        if selector is None:
            context.skip("the event loop has no selector whose waits could be counted")
        counter, select = cls(), selector.select

        def counting(timeout: float | None = None) -> Any:
            events = select(timeout)
            counter.by_timer += not events and timeout != 0
            return events

        selector.select = counting
        try:
            yield counter
        finally:
            del selector.select
