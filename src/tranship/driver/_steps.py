"""Running a coroutine without a task of its own, step by step: at once, or with an eye on how long a step takes."""

from __future__ import annotations

import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

__all__ = ["BLOCKED", "Waits", "at_once", "stepped", "steps_of"]

T = TypeVar("T")
Steps = Coroutine[Any, Any, T] | Generator[Any, Any, T]

BLOCKED: Final = 0.9
"""Seconds for which nothing but one verb has run, after which somebody is told."""


class Waits(Exception):
    """Something that was to be done at once waits for something."""


def steps_of(work: Awaitable[T]) -> Steps[T]:
    """Return what can be run step by step."""
    return work if isinstance(work, types.CoroutineType) else work.__await__()


def at_once(work: Awaitable[T], told: Callable[[float], None] | None = None) -> T:
    """Run to its end what never waits, without a task; ``told`` as of :func:`stepped`.

    Raises:
        Waits: it does; it has been closed.
    """
    steps, began = steps_of(work), time.monotonic()
    try:
        steps.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        if told is not None and (seconds := time.monotonic() - began) > BLOCKED:
            told(seconds)
    steps.close()
    raise Waits


@types.coroutine
def stepped(steps: Steps[T], told: Callable[[float], None]) -> Generator[Any, Any, T]:
    """Run it in the current task, as ``await`` would.

    Args:
        steps: what is run; see :func:`steps_of`.
        told: called with the seconds of a step that lets nobody else run for long.
    """
    error: BaseException | None = None
    while True:
        began = time.monotonic()
        try:
            waits_for = steps.send(None) if error is None else steps.throw(error)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            if (seconds := time.monotonic() - began) > BLOCKED:
                told(seconds)
        try:
            yield waits_for
            error = None
        except BaseException as thrown:  # noqa: BLE001 - whatever is thrown in, a cancel above all, is its own to hear
            error = thrown
