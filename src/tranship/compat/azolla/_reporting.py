"""Telling whoever waits for a task how it ended, from a process that did not take the task from the broker."""

from __future__ import annotations

import time
from dataclasses import replace

from tranship.compat.azolla.exceptions import WorkerError, translated
from tranship.connections import process_table
from tranship.envelope import TaskResult
from tranship.ports import StoredResult
from tranship.protocol import encode_result
from tranship.registry import Registry
from tranship.settings import Settings

__all__ = ["report"]


async def report(settings: Settings, result: TaskResult) -> None:
    """Store ``result`` where the clients of ``settings`` look for it.

    Raises:
        ConnectionError: the broker cannot be reached.
        WorkerError: there was a result already, which stays.
        UnsupportedError: the broker keeps no results, and no result store is set.
    """
    backend = Registry().create(settings.results() or settings.broker(), shared=process_table().shared)
    document = encode_result(replace(result, finished_at=result.finished_at or time.time()))
    try:
        with translated():
            await backend.open()
            backend.capabilities.check_keeps_results(backend.name)
            (won,) = await backend.results().put([StoredResult(id=result.id, state=result.state, document=document)])
    finally:
        await backend.aclose()
    if not won:
        raise WorkerError(f"task {result.id} had a result already, which stays; this one was not stored")
