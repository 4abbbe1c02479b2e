"""The rows on NATS JetStream."""

from __future__ import annotations

from pathlib import Path

from harness import Bench, Row
from rows_brokers import ON_NATS

ROWS: dict[str, Row] = {row.key: row for row in ON_NATS}

ARGUMENT = 130
MESSAGE = "as on Redis"


def about(_bench: Bench, _disk: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {"server": "started for each measurement, as the test kit does, pinned to the second CPU"}
