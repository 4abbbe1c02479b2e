"""Clocks that are the same for tranship and peers: of a worker's handler calls, and of many threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable


class Gauge:
    """Counts handler calls from any thread.

    Args:
        warm: calls that are start-up.
        amount: calls that count after them.
        then: called once, by the last.
    """

    def __init__(self, warm: int, amount: int, then: Callable[[], None]) -> None:
        self._numbers = itertools.count(1)
        self._warm, self._total = warm, warm + amount
        self._then = then
        self.begun = self.ended = 0.0

    def tick(self) -> None:
        number = next(self._numbers)
        if number == self._warm:
            self.begun = time.perf_counter()
        elif number == self._total:
            self.ended = time.perf_counter()
            self._then()

    @property
    def rate(self) -> float:
        """Calls per second."""
        return (self._total - self._warm) / (self.ended - self.begun)


def in_threads(threads: int, each: int, call: Callable[[], object]) -> float:
    """Seconds from the first thread's start to the last one's end, after two calls by each."""
    together = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def caller() -> None:
        for count in (2, each):
            together.wait()
            begun = time.perf_counter()
            for _ in range(count):
                call()
        spans.append((begun, time.perf_counter()))

    callers = [threading.Thread(target=caller) for _ in range(threads)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert len(spans) == threads, "a thread failed"
    return max(ended for _, ended in spans) - min(begun for begun, _ in spans)
