"""An event loop whose clock jumps to the next timer when there is nothing else to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Jumping(selectors.DefaultSelector):
    loop: VirtualLoop

    def select(self, timeout=None):
        if timeout:
            self.loop.now = self.loop._scheduled[0]._when  # the timeout itself is never above a day
        elif timeout is None:
            raise AssertionError("deadlock: nothing is ready and no timer is set")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 with each ``run``; ``each_turn``, if set, is called before every turn of the loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.each_turn: Callable[[], None] | None = None
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 0.5  # times are whole numbers

    def time(self) -> float:
        return self.now

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        self.now = 0.0
        try:
            return self.run_until_complete(coroutine)
        finally:
            self.each_turn = None
            left = asyncio.all_tasks(self)
            assert not left, f"still running: {left}"

    def _run_once(self) -> None:
        if self.each_turn is not None:
            self.each_turn()
        super()._run_once()
