"""The rows of the staged executor; no broker, but for Celery's."""

from __future__ import annotations

from pathlib import Path

import server
from harness import Bench, Row
from rows_stages import BESIDE_CELERY, GROWTH, LEVELS, LEVELS_TURN, WIDE, WIDE_TURN

ROWS: dict[str, Row] = {row.key: row for row in (LEVELS, WIDE, LEVELS_TURN, WIDE_TURN, GROWTH, BESIDE_CELERY)}

ARGUMENT = 0
MESSAGE = "there are no messages"


def about(_bench: Bench, _disk: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {"redis-server": f"{server.version()}, for Celery"}
