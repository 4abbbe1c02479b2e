"""An operator as it is in the field: a plain Celery application with one task, which knows nothing of tranship.

``OPERATOR`` in the environment is its name and version, separated by a comma; ``INTEROP_CELERY`` holds configuration
keys of Celery. What a task is to do is said in its options: ``do``, with whatever that needs.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from redis import Redis

from interop.celery_config import CONFIG
from interop.runs import note

OPERATOR = "OPERATOR"

name, version = os.environ[OPERATOR].split(",")
app = Celery(f"sandai_operator.{name}.{version}")
app.conf.update(
    accept_content=["json", "msgpack"],
    result_accept_content=["json", "msgpack"],
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"queue_order_strategy": "priority"},
    worker_redirect_stdouts=False,
)
app.conf.update(json.loads(os.environ[CONFIG]))
flags = Redis.from_url(app.conf.result_backend) if app.conf.result_backend.startswith("redis") else None
"""Where cancel keys are looked for."""


@app.task(name=f"sandai_operator.{name}.{version}.process_task", bind=True)
def process_task(self: Task, **payload: Any) -> Any:
    if payload.get("task_type") == "desc":
        note(self.request.id, "celery", "desc")
        return {
            "status": "success",
            "doc": f"{name} {version}",
            "options_schema": {"type": "object"},
            "results_schema": None,
        }
    deadline, now = payload.get("deadline"), time.time()
    if deadline is not None and now > deadline:
        return error("TaskDeadlineExceededError", "too late", {"deadline": deadline, "current_time": now})
    key = payload.get("cancel_key")
    if key and flags is not None and flags.exists(key):
        return error("TaskCancelledError", "cancelled", {"cancel_key": key})
    note(self.request.id, "celery", payload["options"].get("label", "process"))
    return do(self, payload, payload["options"])


def error(kind: str, message: str, details: Any) -> dict[str, Any]:
    return {"status": "error", "error": {"error_type": kind, "error_message": message, "error_details": details}}


def do(task: Task, payload: dict[str, Any], options: dict[str, Any]) -> Any:
    time.sleep(options.get("seconds", 0))
    match options.get("do", "echo"):
        case "raw":
            return options["value"]
        case "fail":
            return error(options.get("type", "ValueError"), options.get("text", "no good"), options.get("details", {}))
        case "crash":
            raise RuntimeError(options.get("text", "crashed"))
        case "progress":
            task.update_state(state="PROGRESS", meta={"percent": 50})
            time.sleep(0.3)
        case "vanish":
            task.update_state(state="HALFWAY", meta={"percent": 50})
            raise Ignore
    results = {"payload": payload, "queue": task.request.delivery_info["routing_key"], "id": task.request.id}
    return {"status": "success", "artifacts": payload["artifacts"], "results": results}
