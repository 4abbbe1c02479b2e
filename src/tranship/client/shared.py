"""What the blocking facade shares with the asynchronous one; not for applications."""

from tranship.client._connector import Connector
from tranship.client._gather import Arrivals, Budget, check_stored, wait_for_end
from tranship.client._prepare import (
    AnyTask,
    as_call,
    as_calls,
    batch_handles,
    cancel_target,
    ids_of,
    prepare,
    prepare_one,
)
from tranship.client._probe import run_probe

__all__ = [
    "AnyTask",
    "Arrivals",
    "Budget",
    "Connector",
    "as_call",
    "as_calls",
    "batch_handles",
    "cancel_target",
    "check_stored",
    "ids_of",
    "prepare",
    "prepare_one",
    "run_probe",
    "wait_for_end",
]
