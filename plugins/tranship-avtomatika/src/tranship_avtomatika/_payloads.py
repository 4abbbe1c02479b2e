"""What a worker says of itself, in an orchestrator's words. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tranship.ports import Heartbeat, HostFigures, RunningTask

__all__ = ["heartbeat_payload", "leaving_payload", "progress_payload", "registration_payload", "worker_id"]

_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST: Final = 128
_GIBIBYTE: Final = 1024**3


def worker_id(name: str) -> str:
    """Return a worker's name as orchestrators allow it: letters, digits, ``-`` and ``_``, at most 128 of them."""
    if len(name) <= _LONGEST and not _FOREIGN.search(name):
        return name
    # Two names that look the same afterwards are still two.
    mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{_FOREIGN.sub('-', name)[: _LONGEST - 9]}-{mark}"


def registration_payload(worker: str, beat: Heartbeat | None, *, kind: str, websocket: bool) -> dict[str, Any]:
    """Return how a worker is made known; ``beat`` None: it is not at work yet, and gets nothing to do."""
    skills = [] if beat is None else list(beat.tasks)
    return {
        "worker_id": worker,
        "worker_type": kind if beat is None else _kind(beat, kind),
        "supported_skills": [{"name": name} for name in skills],
        **_skills(beat),
        "resources": None if beat is None else _resources(beat.figures),
        "capabilities": _capabilities(beat, websocket=websocket),
        "skills_hash": _hash(skills),
    }


def heartbeat_payload(
    worker: str, beat: Heartbeat, current: Sequence[str], *, websocket: bool, idle: bool | None = None
) -> dict[str, Any]:
    """Return what is told every few seconds; ``idle``: whether more can be done, None: as the heartbeat says."""
    skills = _skills(beat)
    free = beat.free > 0 and bool(skills["available_skills"]) if idle is None else idle
    return {
        "worker_id": worker,
        "status": "idle" if free else "busy",
        "current_tasks": list(current),
        "usage": _usage(beat.figures),
        "skills_hash": _hash(list(beat.tasks)),
        **skills,
        # Whether cancels can be sent over a WebSocket is read here, and lost from a registration.
        "capabilities": {**_capabilities(beat, websocket=websocket), "websockets": websocket},
    }


def leaving_payload(worker: str, *, skilled: bool) -> dict[str, Any]:
    """Return what is told at the end: from now on nothing is to be given to this worker.

    Where it has a question under way (not ``skilled``), it has no skills any more: with some, the orchestrator would
    answer in the end with a task that it takes from another worker, to somebody who is gone. Where it has none, tasks
    may wait for it, and other workers get those as long as it has skills.
    """
    gone = {"worker_id": worker, "status": "offline", "available_skills": [], "current_tasks": []}
    return gone if skilled else {**gone, "supported_skills": [], "hot_skills": [], "skills_hash": "offline"}


def progress_payload(worker: str, event: str, job: str, task: RunningTask) -> dict[str, Any]:
    """Return what a handler has said of its progress."""
    return {
        "event_id": event,
        "worker_id": worker,
        "origin_worker_id": worker,
        "event_type": "progress",
        "payload": {"progress": task.progress, "message": task.note},
        "origin_task_id": task.id,
        "target_job_id": job,
        "target_task_id": task.id,
    }


def _skills(beat: Heartbeat | None) -> dict[str, Any]:
    if beat is None:
        return {"available_skills": [], "hot_skills": []}
    # A type without a limit of its own is as free as the whole worker.
    available = [name for name in beat.tasks if beat.free > 0 and beat.capacity.get(name, 1) > 0]
    return {"available_skills": available, "hot_skills": [name for name in beat.hot_skills if name in available]}


def _capabilities(beat: Heartbeat | None, *, websocket: bool) -> dict[str, Any]:
    labels: Mapping[str, Any] = {} if beat is None else beat.labels
    hostname = "unknown" if beat is None else beat.host
    return {"hostname": hostname, "extra": {**labels, "websockets": websocket}}


def _kind(beat: Heartbeat, kind: str) -> str:
    told = beat.labels.get("worker_type")
    return told if isinstance(told, str) and told else kind


def _resources(figures: HostFigures) -> dict[str, Any]:
    memory = None if figures.memory is None else round(figures.memory / _GIBIBYTE, 2)
    return {"properties": {"cpu_cores": figures.cpus, "ram_gb": memory}}


def _usage(figures: HostFigures) -> dict[str, Any] | None:
    if figures.load is None or not figures.cpus:
        return None
    used = (figures.process_memory or 0) / _GIBIBYTE
    return {"cpu_load_percent": round(100 * figures.load / figures.cpus, 1), "ram_used_gb": round(used, 3)}


def _hash(skills: Sequence[str]) -> str:
    return hashlib.sha256(orjson.dumps(sorted(skills))).hexdigest()
