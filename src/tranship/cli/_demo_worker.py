"""The worker process of the demo."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tranship.settings import Settings

__all__ = ["CONCURRENCY", "worker_process"]

CONCURRENCY = 8

END_PATIENCE = 10.0
"""Seconds the worker gets to end before it is killed."""


@asynccontextmanager
async def worker_process(settings: Settings, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``tranship worker`` for the demo's tasks in another process, and end it afterwards, in any case."""
    arguments = ["-m", "tranship", "worker", "tranship.cli._demo_tasks", "--concurrency", str(CONCURRENCY)]
    # Given also when empty: the settings file here may have another one.
    arguments += ["--namespace", settings.namespace]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=_environment(settings), stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            await _end(process)


def _environment(settings: Settings) -> dict[str, str]:
    """The broker's URL goes by environment: arguments are for everybody to see."""
    results = settings.result_url or settings.broker_url
    given = {"TRANSHIP_BROKER_URL": settings.broker_url.reveal(), "TRANSHIP_RESULT_URL": results.reveal()}
    return {**os.environ, **given}


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()
