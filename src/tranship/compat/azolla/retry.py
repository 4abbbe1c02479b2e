"""The core's retry policies with Azolla's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from tranship import retry

__all__ = ["ExponentialBackoff", "FixedBackoff", "LinearBackoff", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class ExponentialBackoff(retry.ExponentialBackoff):
    """``initial``, then ``multiplier`` times longer each time, never above ``max_delay``; seconds, with jitter."""

    max_delay: float = 300.0


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
    """How often, how soon and after which failures a task runs again; see :class:`tranship.RetryPolicy`."""

    backoff: retry.Backoff = field(default_factory=ExponentialBackoff)
