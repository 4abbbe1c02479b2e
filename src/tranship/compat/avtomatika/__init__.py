"""The names of ``avtomatika-worker``, on tranship: change the import.

An orchestrator's URL is served by ``tranship-avtomatika``; a broker's URL in its place does without one.

::

    worker = Worker(worker_type="image-processing")

    @worker.task("resize_image")
    async def resize(params: dict, **kwargs): ...

    worker.run_with_health_check()

What clients submit: ``named("resize_image", queue="resize_image")`` with one dict, the handler's ``params``.
"""

from __future__ import annotations

from tranship.compat.avtomatika._config import WorkerConfig
from tranship.compat.avtomatika._files import FileMetadata, TaskFiles
from tranship.compat.avtomatika._identifiers import is_valid_identifier, validate_identifier
from tranship.compat.avtomatika._logging import setup_logging
from tranship.compat.avtomatika._orchestrator import OrchestratorClient
from tranship.compat.avtomatika._skills import SkillBlueprint, SkillInfo
from tranship.compat.avtomatika._usage import DeviceUsage, ResourcesUsage
from tranship.compat.avtomatika._worker import Worker

__all__ = [
    "DeviceUsage",
    "FileMetadata",
    "OrchestratorClient",
    "ResourcesUsage",
    "SkillBlueprint",
    "SkillInfo",
    "TaskFiles",
    "Worker",
    "WorkerConfig",
    "is_valid_identifier",
    "setup_logging",
    "validate_identifier",
]
