"""Pieces of work and their answers: all futures of one loop are resolved by one call into it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tranship.backends.sqlite._faults import again
from tranship.backends.sqlite._transaction import Kind
from tranship.errors import TranshipError

__all__ = ["Job", "answer", "refuse"]

log = logging.getLogger("tranship.sqlite")


@dataclass(slots=True, eq=False)
class Job:
    """One caller's piece of work and where the answer goes."""

    kind: Kind[Any, Any]
    argument: Any
    weight: int = 1
    """About how many rows it writes."""
    future: asyncio.Future[Any] | None = None
    """None: nobody waits."""
    abandoned: Callable[[Any], None] | None = None
    """Gets the answer when nobody waits for it any more."""
    value: Any = None
    error: BaseException | None = None


def answer(jobs: Iterable[Job]) -> None:
    """Hand answers to their callers; from the writer's thread."""
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            loops.setdefault(job.future.get_loop(), []).append(job)
        elif job.error is not None:
            log.warning("%s failed: %s", job.kind.name, job.error)
    for loop, answered in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, answered)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            _abandon(answered)


def refuse(jobs: Iterable[Job], error: TranshipError) -> None:
    """Give every job an exception of its own like ``error``."""
    for job in jobs:
        job.error = again(error)


def _resolve(jobs: Iterable[Job]) -> None:
    for job in jobs:
        assert job.future is not None
        if job.future.done():
            # Cancelled meanwhile.
            _abandon([job])
        elif job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.value)


def _abandon(jobs: Iterable[Job]) -> None:
    for job in jobs:
        if job.abandoned and job.error is None:
            job.abandoned(job.value)
