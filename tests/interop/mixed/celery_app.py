"""The fleet's Celery application, for workers and for the client that sends the canvases."""

from __future__ import annotations

import json
import os
import time

from celery import Celery, Task

from interop.celery_config import CONFIG
from interop.mixed import plan
from interop.mixed.log import noted

app = Celery("mixed")
app.conf.update(
    task_default_queue=plan.queue("steps"),
    task_routes={"mixed.collect": {"queue": plan.queue("bodies")}},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
app.conf.update(json.loads(os.environ[CONFIG]))


@app.task(name="mixed.step", bind=True)
def step(self: Task, value, place):
    with noted(self.request.id):
        time.sleep(plan.pause(value, place))
    return plan.step(value, place)


@app.task(name="mixed.collect", bind=True)
def collect(self: Task, values):
    with noted(self.request.id):
        return values
