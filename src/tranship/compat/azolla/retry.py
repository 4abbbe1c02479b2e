"""The core's retry policies with Azolla's defaults."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import Any

from tranship import retry

__all__ = ["ExponentialBackoff", "FixedBackoff", "LinearBackoff", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class ExponentialBackoff(retry.ExponentialBackoff):
    """``initial``, then ``multiplier`` times longer each time, never above ``max_delay``; seconds.

    ``jitter=True`` makes each delay up to a quarter shorter or longer, as Azolla does; the core's kinds have names.
    """

    max_delay: float = 300.0
    jitter: retry.Jitter | bool = "around"

    def __post_init__(self) -> None:
        if self.jitter is True:
            object.__setattr__(self, "jitter", "around")
        retry.ExponentialBackoff.__post_init__(self)


@dataclass(frozen=True, slots=True)
class LinearBackoff(retry.LinearBackoff):
    """``initial``, then ``increment`` longer each time, never above ``max_delay``; seconds."""

    initial: float = 1.0
    increment: float = 1.0
    max_delay: float | None = 300.0


@dataclass(frozen=True, slots=True)
class FixedBackoff(retry.FixedBackoff):
    """The same ``delay`` every time; seconds."""

    delay: float = 1.0


@dataclass(frozen=True, slots=True)
class RetryPolicy(retry.RetryPolicy):
    """How often, how soon and after which failures a task runs again; see :class:`tranship.RetryPolicy`.

    ``retry_on`` takes plain names as well: the ``error_type`` of a ``TaskError``, or the name of a class, whatever
    module it is in. A class counts by that name, too.
    """

    backoff: retry.Backoff = field(default_factory=ExponentialBackoff)

    def __post_init__(self) -> None:
        if isinstance(self.retry_on, list | tuple):
            kinds = [one for one in self.retry_on if not _is_plain(one) or _is_builtin(one)]
            types = [one if isinstance(one, str) else one.__name__ for one in self.retry_on if _is_plain(one)]
            object.__setattr__(self, "retry_on", kinds)
            object.__setattr__(self, "retry_on_types", (*self.retry_on_types, *types))
        retry.RetryPolicy.__post_init__(self)


def _is_plain(kind: Any) -> bool:
    """Whether it has a name without a module."""
    return isinstance(kind, type) or (isinstance(kind, str) and kind != "" and "." not in kind)


def _is_builtin(kind: Any) -> bool:
    found = kind if isinstance(kind, type) else getattr(builtins, kind, None)
    return isinstance(found, type)
