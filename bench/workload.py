"""The tasks that tranship runs here, and where."""

from __future__ import annotations

import time
from pathlib import Path

import address
from tranship import task


def url(durability: str = "power") -> str:
    """The server that was started for this measurement, else a database in its directory."""
    if (server := address.given()) is not None:
        return server
    option = "" if durability == "power" else f"?durability={durability}"
    return f"sqlite:///{Path('tranship.db').resolve()}{option}"


@task
async def noop(payload: str) -> int:  # noqa: ARG001 - it only has to travel
    return 1


unheard = noop.options(store_result=False)
"""The same, and nobody is told."""


@task
def noop_def(payload: str) -> int:  # noqa: ARG001
    return 1


@task
async def began(payload: str) -> int:  # noqa: ARG001
    # CLOCK_MONOTONIC is one clock for all processes of a host.
    return time.monotonic_ns()


TASKS = [noop, noop_def, began]
