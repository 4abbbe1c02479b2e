"""The operator of ``celery_operator``, started as operators in the field are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Self

from sides import NAME, VERSION

from interop.workers import WorkerProcess

PRIORITIES = ("high", "normal", "low", "very_low")


class CeleryOperator(WorkerProcess):
    """The operator of ``celery_operator``, in a process of its own. Leaving the block kills it.

    Args:
        url, result_backend: as its Celery knows them.
        folder: for its logs.
        concurrency: threads.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        result_backend: str | None = None,
        name: str = NAME,
        version: str = VERSION,
        concurrency: int = 4,
        **config: Any,
    ) -> None:
        queues = ",".join(f"{one}.{name}.{version}" for one in PRIORITIES)
        node = f"{name}.{version}@field"
        command = [sys.executable, "-m", "celery", "-A", "celery_operator", "worker", "-l", "INFO", "-P", "threads"]
        command += ["-c", str(concurrency), "-Q", queues, "-n", node, "--without-mingle", "--without-gossip"]
        keys = {"broker_url": url, "result_backend": result_backend or url, **config}
        environ = {"INTEROP_CELERY": json.dumps(keys), "OPERATOR": f"{name},{version}"}
        super().__init__(command, folder, f"{name}-{version}", environ)
        paths = [self._environ["PYTHONPATH"], str(Path(__file__).parent)]
        self._environ["PYTHONPATH"] = os.pathsep.join(paths)
        self._node = node

    def __enter__(self) -> Self:
        self.start(f"{self._node} ready.")
        return self

    def leave(self) -> None:
        # Stopping would take another second for each.
        self.kill()
