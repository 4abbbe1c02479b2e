"""A handler's own options, for messages that set none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tranship.envelope import Envelope
from tranship.task._options import TaskOptions

__all__ = ["Fill", "filler"]

Fill = Callable[[Envelope], Envelope]


def filler(options: TaskOptions) -> Fill | None:
    """Return what gives an envelope the options that it does not set; None: there are none to give."""
    result_ttl: Any = options.result_ttl  # checked and converted when the options were made
    given = {
        "retry": options.retry,
        "run_timeout": options.run_seconds,
        "store_result": options.store_result,
        "result_ttl": result_ttl,
    }
    own = [(name, value) for name, value in given.items() if value is not None]
    return (lambda envelope: _filled(envelope, own)) if own else None


def _filled(envelope: Envelope, own: list[tuple[str, Any]]) -> Envelope:
    missing = {name: value for name, value in own if getattr(envelope, name) is None}
    return replace(envelope, **missing) if missing else envelope
