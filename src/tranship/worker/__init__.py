"""The worker runtime."""

from tranship.worker._checkup import WorkerStatus
from tranship.worker._worker import Worker

__all__ = ["Worker", "WorkerStatus"]
