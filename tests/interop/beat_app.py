"""Celery beat's schedule in these tests, for beat itself and for tranship's scheduler.

Where and how comes as JSON in ``INTEROP_CELERY``; without it only the mapping is of use, and no Celery is needed.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

from interop.celery_config import BEHIND, CONFIG

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

if CONFIG in os.environ:
    from celery import Celery

    app = Celery("interop-beat")
    app.conf.update(task_default_queue="interop", beat_schedule=BEAT, **json.loads(os.environ[CONFIG]))
    if BEHIND in os.environ:
        on_time = app.now
        app.now = lambda: on_time() - timedelta(hours=1)
