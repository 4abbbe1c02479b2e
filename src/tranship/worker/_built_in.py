"""Tasks that every worker has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import JOIN_TASK, PROBE_TASK
from tranship.task import Task, task

__all__ = ["BUILT_IN", "CLEANUP"]

CLEANUP: Final = "celery.backend_cleanup"


@task(name=PROBE_TASK)
async def _probe() -> str:
    return "ok"


@task(name=JOIN_TASK)
async def _join(*args: Any, index: int | None = None) -> Any:
    """Return the arguments, or one of them: as Celery's own task of that name."""
    return args if index is None else args[index]


@task(name=CLEANUP)
async def _cleanup() -> None:
    """Celery's beat sends it each night where its result store keeps what has expired. Ours lets it go by itself."""


BUILT_IN: Final[Mapping[str, Task[..., Any]]] = {one.name: one for one in (_probe, _join, _cleanup)}
