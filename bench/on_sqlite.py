"""The rows on SQLite."""

from __future__ import annotations

from pathlib import Path

import machine
from harness import Bench, Row
from rows_start import STARTING
from rows_submit import CONCURRENT_SUBMITS, SERIAL_SUBMITS, SUBMIT_MANY
from rows_work import DRAINING, ROUND_TRIPS, WAKING

ROWS: dict[str, Row] = {
    row.key: row for row in (SUBMIT_MANY, CONCURRENT_SUBMITS, SERIAL_SUBMITS, DRAINING, ROUND_TRIPS, WAKING, STARTING)
}

ARGUMENT = 768
MESSAGE = "a message of 1,233 bytes"


def about(bench: Bench, disk: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {**machine.sqlite(disk), "one fdatasync, p50 ms": f"{bench.run('bound:sync', bench.root)['p50']:.3f}"}
