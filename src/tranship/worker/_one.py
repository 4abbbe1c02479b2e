"""One call, here and now: through everything that a delivery goes through, with no broker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from tranship._defaults import default_registry
from tranship.connections import process_table
from tranship.envelope import TaskResult, TaskState
from tranship.protocol import Encoder, decode_result
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.task import TaskCall

__all__ = ["place", "run_one"]


def place() -> BrokerURL:
    """Return a place in this process's memory that nobody else knows."""
    return BrokerURL.parse(f"memory://one-{secrets.token_hex(8)}")


async def run_one(
    url: BrokerURL,
    call: TaskCall[Any],
    *,
    registry: Registry | None,
    work: Callable[[], Awaitable[Any]],
    timeout: float | None,
) -> TaskResult:
    """Run one call with a worker that consumes from ``url``, and return its result; PENDING: it has not ended.

    Args:
        url: of :func:`place`.
        call: which task, with what.
        registry: None: this process's own.
        work: has the worker work until nothing is left to do.
        timeout: seconds for all of it; None: as long as it takes.
    """
    table = process_table()
    backend = (registry or default_registry(table)).create(url, shared=table.shared)
    await backend.open()
    try:
        envelope = call.task.options(store_result=True).envelope(call.args, call.kwargs, now=time.time())
        (receipt,) = await backend.submitter().submit([Encoder().encode(envelope)])
        if isinstance(receipt, Exception):
            raise receipt
        working = asyncio.ensure_future(work())
        await asyncio.wait({working}, timeout=timeout)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
        elif not working.cancelled():
            working.result()
        (stored,) = await backend.results().get_many([envelope.id])
        if not stored.document:
            return TaskResult(id=envelope.id, state=TaskState.PENDING)
        return decode_result(stored.document)
    finally:
        await backend.aclose()
