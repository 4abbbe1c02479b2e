"""Celery's events: what is published for programs that look on, as Celery's own workers and clients write it.

How a message is wrapped is each broker's own. Nothing here does I/O.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

__all__ = ["EXCHANGE", "EventMessage", "event_messages"]

EXCHANGE: Final = "celeryev"
"""Where they go: Celery's setting ``event_exchange``."""
_TOGETHER: Final = 100
"""Events of tasks in one message: some milliseconds of whoever reads it."""


class EventMessage(NamedTuple):
    """One message of them."""

    routing_key: str
    body: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    """One event, or several of the same group."""


def event_messages(
    node: str, events: Sequence[tuple[str, Mapping[str, Any], float]], tick: Callable[[], int]
) -> Iterator[EventMessage]:
    """Yield the messages with which ``node`` tells of ``events``, in order.

    Args:
        node: who tells, as Celery's tools call it.
        events: of each the type, what is said of it, and when it happened.
        tick: returns the next time of the node's logical clock.
    """
    about = {"hostname": node, "utcoffset": _utc_offset(), "pid": os.getpid()}
    for are_of_tasks, several in groupby(events, lambda one: one[0].startswith("task-")):
        written = [{**about, "clock": tick(), **fields, "timestamp": at, "type": kind} for kind, fields, at in several]
        if are_of_tasks:
            for start in range(0, len(written), _TOGETHER):
                yield EventMessage("task.multi", written[start : start + _TOGETHER])
        else:
            yield from (EventMessage(one["type"].replace("-", "."), one) for one in written)


def _utc_offset() -> float:
    """Hours that local time is behind UTC, which is how Celery counts them."""
    return (time.altzone if time.localtime().tm_isdst else time.timezone) / 3600
