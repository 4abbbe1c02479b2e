"""The worker runtime."""

from tranship.worker._session import WorkerStatus
from tranship.worker._worker import Worker

__all__ = ["Worker", "WorkerStatus"]
