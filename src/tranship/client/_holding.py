"""Submits of tasks with limits, which wait in the line of their key; loaded with the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from tranship.clocks import Clock
from tranship.limits import LinedHandOver, Lines, held_ids, keeper_of, marks_ids
from tranship.ports import Backend, ResultStore
from tranship.submission import Submission

__all__ = ["held_back", "held_of"]


def held_back(
    backend: Backend,
    result_backend: Backend | None,
    submission: Submission,
    *,
    clock: Clock,
    loop: asyncio.AbstractEventLoop,
    results: ResultStore | None,
) -> LinedHandOver:
    """Have all that a client submits from now on pass through what is returned, which sends some of it to lines.

    Raises:
        UnsupportedError: neither broker nor result store keeps records.
    """
    records = keeper_of(backend, result_backend).records()
    size, marks = backend.submitter().max_message_size, marks_ids(backend, result_backend)
    made: list[LinedHandOver] = []

    def through(broker: Any) -> LinedHandOver:
        lined = LinedHandOver(broker, loop)
        lined.lines = Lines(records, lined.send, clock=clock, max_size=size, marks_ids=marks, results=results)
        made.append(lined)
        return lined

    submission.divert(through)
    return made[0]


async def held_of(backend: Backend, result_backend: Backend | None, ids: Sequence[str]) -> Collection[str]:
    """Return which of ``ids``, of which the store knows nothing, are of tasks that wait for their turn."""
    return await held_ids(keeper_of(backend, result_backend).records(), ids)
