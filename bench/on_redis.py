"""The rows on Redis."""

from __future__ import annotations

from pathlib import Path

import server
from harness import Bench, Row
from rows_redis_drain import DRAINING
from rows_redis_submit import CONCURRENT_SUBMITS, SERIAL_SUBMITS, SUBMIT_MANY, THREADED_SUBMITS
from rows_redis_work import MANY_TRIPS, ROUND_TRIPS, WAITING, WAKING

ROWS: dict[str, Row] = {
    row.key: row
    for row in (
        SUBMIT_MANY,
        CONCURRENT_SUBMITS,
        SERIAL_SUBMITS,
        THREADED_SUBMITS,
        ROUND_TRIPS,
        MANY_TRIPS,
        DRAINING,
        WAKING,
        WAITING,
    )
}

ARGUMENT = 130
MESSAGE = "Celery's message then has about 1,233 bytes"


def about(_bench: Bench, _disk: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {"redis-server": server.version()}
