"""Celery beat's schedule in these tests, for beat itself and for tranship's scheduler.

Where and how comes as JSON in ``INTEROP_CELERY``; without it only the mapping is of use, and no Celery is needed.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from interop.celery_config import CONFIG, SHIFT

BEAT: dict[str, dict[str, Any]] = {
    "count": {"task": "interop.count", "schedule": timedelta(seconds=1), "args": (7,), "options": {"queue": "interop"}},
    # The same for Celery's own workers, where they are to do what tranship's do.
    "control": {"task": "interop.count", "schedule": 1.0, "args": (8,), "options": {"queue": "control"}},
    "add": {
        "task": "interop.add",
        "schedule": 1.0,
        "kwargs": {"a": 2, "b": 3},
        "options": {"queue": "interop", "expires": 60, "headers": {"team": "a"}},
    },
}

LATER = {
    "task": "interop.echo",
    "schedule": 1.0,
    "args": (9,),
    "options": {"queue": "interop", "countdown": 1},
}
"""Only where the clock is wrong: what is to run at a time of day."""

if CONFIG in os.environ:
    from celery import Celery

    app = Celery("interop-beat")
    schedule = BEAT
    if SHIFT in os.environ:
        on_time, shift = app.now, timedelta(hours=float(os.environ[SHIFT]))
        app.now = lambda: on_time() + shift
        schedule = {**BEAT, "later": LATER}
    app.conf.update(task_default_queue="interop", beat_schedule=schedule, **json.loads(os.environ[CONFIG]))
