"""What the blocking facade shares with the asynchronous one; not for applications."""

from tranship.client._connector import Connector
from tranship.client._gather import Arrivals, Budget, check_stored, wait_blocking, wait_for_end
from tranship.client._prepare import (
    as_call,
    as_calls,
    batch_handles,
    cancel_target,
    has_single,
    ids_of,
    known_task,
    prepare,
    prepare_one,
)
from tranship.client._readers import check_read
from tranship.client._routed import routed, routed_all
from tranship.client._through import (
    Chains,
    Passed,
    chains_of,
    end_through,
    envelopes_of,
    own_middleware,
    states_through,
    submit_many_through,
    submit_through,
)

__all__ = [
    "Arrivals",
    "Budget",
    "Chains",
    "Connector",
    "Passed",
    "as_call",
    "as_calls",
    "batch_handles",
    "cancel_target",
    "chains_of",
    "check_read",
    "check_stored",
    "end_through",
    "envelopes_of",
    "has_single",
    "ids_of",
    "known_task",
    "own_middleware",
    "prepare",
    "prepare_one",
    "routed",
    "routed_all",
    "states_through",
    "submit_many_through",
    "submit_through",
    "wait_blocking",
    "wait_for_end",
]
