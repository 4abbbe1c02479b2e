"""The worker runtime."""

from tranship.worker._checkup import WorkerStatus
from tranship.worker._health import Answer, HealthServer
from tranship.worker._worker import Worker

__all__ = ["Answer", "HealthServer", "Worker", "WorkerStatus"]
