"""Running a coroutine without a task of its own: to its end where it never waits, or on from where it waits."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

__all__ = ["Waits", "at_once", "rest"]

T = TypeVar("T")


class Waits(Exception):
    """Something that was to be done at once waits for something."""


def at_once(work: Awaitable[T]) -> T:
    """Run to its end what never waits, without a task.

    Raises:
        Waits: it does; it has been closed.
    """
    steps = work if isinstance(work, types.CoroutineType) else work.__await__()
    try:
        steps.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    steps.close()
    raise Waits


async def rest(work: Coroutine[Any, Any, T], waits_for: Any) -> T:
    """Go on with work that waits for something already."""
    return await _going_on(work, waits_for)


@types.coroutine
def _going_on(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    while True:
        try:
            received = yield waits_for
        except BaseException as error:  # noqa: BLE001 - a cancel above all, which is the work's to hear
            step = partial(work.throw, error)
        else:
            step = partial(work.send, received)
        try:
            waits_for = step()
        except StopIteration as done:
            value: T = done.value
            return value
