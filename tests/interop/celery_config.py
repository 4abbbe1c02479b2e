"""Celery's configuration as these tests use it; no Celery is needed to make it."""

from __future__ import annotations

from typing import Any

CONFIG = "INTEROP_CELERY"
"""Names the configuration, as JSON, in the environment of Celery's processes."""
SHIFT = "INTEROP_SHIFT"
"""Names the hours that the clock of Celery's app is ahead of the time, where it is; below zero: behind."""


def celery_config(url: str, **more: Any) -> dict[str, Any]:
    """Return configuration keys of Celery for the broker at ``url``, which keeps the results, unless told otherwise."""
    return {"broker_url": url, "result_backend": url, **more}
