"""What the blocking facade shares with the asynchronous one; not for applications."""

from tranship.client._connector import Connector
from tranship.client._gather import Arrivals, Budget, check_stored, terminal, wait_for_end
from tranship.client._prepare import (
    as_call,
    as_calls,
    batch_handles,
    cancel_target,
    ids_of,
    known_task,
    prepare,
    prepare_one,
)
from tranship.client._probe import run_probe
from tranship.client._through import envelopes_of, result_through, submit_many_through, submit_through

__all__ = [
    "Arrivals",
    "Budget",
    "Connector",
    "as_call",
    "as_calls",
    "batch_handles",
    "cancel_target",
    "check_stored",
    "envelopes_of",
    "ids_of",
    "known_task",
    "prepare",
    "prepare_one",
    "result_through",
    "run_probe",
    "submit_many_through",
    "submit_through",
    "terminal",
    "wait_for_end",
]
