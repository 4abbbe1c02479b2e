"""Telling whoever waits for a task how it ended, from a process that did not take the task from the broker."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from tranship.compat.azolla.exceptions import WorkerError, translated
from tranship.connections import process_table
from tranship.envelope import TaskResult
from tranship.errors import BrokerError, BrokerUnreachable
from tranship.pauses import patiently
from tranship.ports import Backend, Capability, StoredResult
from tranship.protocol import encode_result
from tranship.registry import Registry
from tranship.settings import Settings

__all__ = ["report"]

log = logging.getLogger("tranship.compat.azolla.worker")


async def report(settings: Settings, result: TaskResult) -> None:
    """Store ``result`` where the clients of ``settings`` look for it, or tell the shepherd that they name.

    Whoever cannot be reached is tried again for ``submit_timeout`` seconds: what the task did is done, and if nobody
    heard of it, it would be done once more.

    Raises:
        ConnectionError: nobody could be reached.
        WorkerError: there was a result already, which stays; or the shepherd does not take this one.
        UnsupportedError: the broker keeps no results, and no result store is set.
    """
    stored = StoredResult(
        id=result.id,
        state=result.state,
        document=encode_result(replace(result, finished_at=result.finished_at or time.time())),
    )
    doubtful = False

    async def attempt() -> bool:
        nonlocal doubtful
        try:
            return await _reported(settings, stored)
        except BrokerUnreachable as error:
            log.warning("the result of task %s was not heard, and is reported again for a while: %s", result.id, error)
            doubtful = True
            raise

    with translated():
        won = await patiently(attempt, settings.submit_timeout, f"reporting the result of task {result.id}")
    # What is there after an answer that was lost may well be this one.
    if not (won or doubtful):
        raise WorkerError(f"task {result.id} had a result already, which stays; this one was not stored")


async def _reported(settings: Settings, stored: StoredResult) -> bool:
    backend = Registry().create(settings.results() or settings.broker(), shared=process_table().shared)
    try:
        await backend.open()
        _check_answers(backend)
        try:
            (won,) = await backend.results().put([stored])
        except BrokerError as error:
            if error.retryable:
                raise
            raise WorkerError(str(error)) from error
        return won
    finally:
        await backend.aclose()


def _check_answers(backend: Backend) -> None:
    """A shepherd keeps no results, and brings them to who does."""
    if backend.capabilities[Capability.RESULT_PUSH].properties.get("to") != "shepherd":
        backend.capabilities.check_keeps_results(backend.name)
