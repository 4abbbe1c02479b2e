"""Levels in Celery: a chain of groups, which it makes chords of."""

from __future__ import annotations

import time

from celery import chain, group, signals

from child import ready
from peer_celery import NOOP, make, work


def step(*_):
    return 1


def serve():
    """A worker until told to stop."""
    signals.worker_ready.connect(lambda **_: ready(), weak=False)
    work(step, "solo", 1)


def run(levels: int, width: int):
    """Tasks per second, from the first submit to the last result."""
    app = make(results=True)
    task = app.task(step, name=NOOP)

    def once(count: int) -> list[int]:
        return chain(*(group(task.si() for _ in range(width)) for _ in range(count)))().get(timeout=120)

    once(2)
    begun = time.perf_counter()
    last = once(levels)
    return {"rate": levels * width / (time.perf_counter() - begun), "last": len(last)}
