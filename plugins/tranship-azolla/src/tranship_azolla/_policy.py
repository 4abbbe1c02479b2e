"""When a failed task runs again, in the protocol's words."""

from __future__ import annotations

from typing import Any, Final

from tranship.errors import UnsupportedError
from tranship.retry import ExponentialBackoff, FixedBackoff, RetryPolicy
from tranship_azolla import wire_pb2 as wire

__all__ = ["policy_message"]

VERSION: Final = 1
ANY_ERROR: Final = "TaskError"
"""What an orchestrator takes for errors of every type."""


def policy_message(policy: RetryPolicy) -> Any:
    """Return the message for ``policy``.

    Raises:
        UnsupportedError: delays that the protocol has no words for.
    """
    return wire.RetryPolicy(
        version=VERSION,
        stop=wire.RetryPolicyStop(max_attempts=policy.max_attempts),
        wait=_wait(policy.backoff),
        retry=wire.RetryPolicyRetry(include_errors=_types(policy), exclude_errors=policy.stop_on_codes),
    )


def _types(policy: RetryPolicy) -> list[str]:
    """Return the types after which it runs again, which are names without a module there."""
    kinds = (str(name).rpartition(".")[2] for name in policy.retry_on)
    # An empty list would be no retry at all.
    return list(dict.fromkeys([*kinds, *policy.retry_on_types])) or [ANY_ERROR]


def _wait(backoff: Any) -> Any:
    if isinstance(backoff, ExponentialBackoff):
        delays = wire.RetryPolicyExponentialWait(
            initial_delay=backoff.initial, multiplier=backoff.multiplier, max_delay=backoff.max_delay
        )
        if backoff.jitter == "none":
            return wire.RetryPolicyWait(exponential=delays)
        return wire.RetryPolicyWait(exponential_jitter=delays)
    if isinstance(backoff, FixedBackoff) and backoff.jitter == "none":
        return wire.RetryPolicyWait(fixed=wire.RetryPolicyFixedWait(delay=backoff.delay))
    raise UnsupportedError(
        f"an Azolla orchestrator cannot wait by {backoff!r}: its protocol has fixed delays without jitter, and "
        "exponential ones; use FixedBackoff or ExponentialBackoff"
    )
