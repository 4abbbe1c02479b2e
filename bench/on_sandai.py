"""The rows of operator clients, on Redis: ``python bench --broker sandai``."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import server
from harness import Bench, Row
from rows_sandai import ANSWERS, CALLS, PRESSURE

ROWS: dict[str, Row] = {row.key: row for row in (PRESSURE, CALLS, ANSWERS)}

ARGUMENT = 0
MESSAGE = "without meaning here: tasks have one artifact and one option"


def about(_bench: Bench, _disk: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {"redis-server": server.version(), "sandai-operator-client": version("sandai-operator-client")}
