"""Steps in levels, or by name, inside one process: set up, work, and clean up whatever happens.

Stands alone: the standard library, and nothing else of tranship. How-to: ``docs/how-to/stages.md``.
"""

from tranship.stages._declare import AsyncTask, Phase, TaskFunction
from tranship.stages._errors import PhaseCancelled, PlanError
from tranship.stages._observe import Attempt, Observer
from tranship.stages._processor import AsyncTaskProcessor, AsyncTaskProcessorBuilder
from tranship.stages._threads import cancelled, wait_cancelled

__all__ = [
    "AsyncTask",
    "AsyncTaskProcessor",
    "AsyncTaskProcessorBuilder",
    "Attempt",
    "Observer",
    "Phase",
    "PhaseCancelled",
    "PlanError",
    "TaskFunction",
    "cancelled",
    "wait_cancelled",
]
