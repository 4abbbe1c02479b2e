"""The blocking facade: the same names as :class:`~tranship.AsyncClient`, without ``await``.

It runs the asynchronous core on the process's I/O loop thread and crosses over once per call, however many
tasks the call is about. A caller builds its own bytes before it crosses, so threads coalesce into one round trip.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tranship._lazy import lazy_names
from tranship.sync._client import Client
from tranship.sync._handle import TaskHandle

if TYPE_CHECKING:
    from tranship.sync._workflow_handle import WorkflowHandle

__all__ = ["Client", "TaskHandle", "WorkflowHandle"]

__getattr__: Callable[[str], Any] = lazy_names(globals(), {"_workflow_handle": ["WorkflowHandle"]})
