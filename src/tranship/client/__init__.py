"""The asynchronous client and its handles."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.client._client import CANCEL_TTL, AsyncClient
from tranship.client._handle import AsyncTaskHandle

if TYPE_CHECKING:
    from tranship.client._events import event_record, send_event
    from tranship.client._parts import PartReader, read_progress
    from tranship.client._probe import Probe, run_probe
    from tranship.client._workflow_handle import AsyncWorkflowHandle

__all__ = [
    "CANCEL_TTL",
    "AsyncClient",
    "AsyncTaskHandle",
    "AsyncWorkflowHandle",
    "PartReader",
    "Probe",
    "event_record",
    "read_progress",
    "run_probe",
    "send_event",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(),
    {
        "_events": ["event_record", "send_event"],
        "_parts": ["PartReader", "read_progress"],
        "_probe": ["Probe", "run_probe"],
        "_workflow_handle": ["AsyncWorkflowHandle"],
    },
)
