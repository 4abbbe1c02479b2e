"""``celery.chunks`` as a task: it sends a ``celery.starmap`` for each part of its items, as Celery's workers do."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from tranship.canvas import Expander
from tranship.errors import InvalidArgumentsError, MalformedMessage
from tranship.protocol import Signature, decode_signature
from tranship.task import Task, current, task
from tranship.worker._each import STARMAP
from tranship.worker._following import Following

__all__ = ["CHUNKS", "chunking"]

CHUNKS: Final = "celery.chunks"


def chunking(following: Following) -> Task[..., Any]:
    """Return the task; made on the I/O loop, which sends.

    As in Celery it has ended when the parts are sent, and its result is theirs as Celery writes it.

    Args:
        following: sends the parts.
    """
    io = asyncio.get_running_loop()

    @task(name=CHUNKS)
    async def chunks(task: Any, it: Any, n: Any) -> Any:
        parts = _parts(task, it, n)
        envelope = current().envelope
        expander = Expander(envelope, "chunks", time.time(), following.routing)
        result = expander.send(Signature.group(parts))
        sending = asyncio.run_coroutine_threadsafe(following.begin(expander.plan, envelope), io)
        await asyncio.wrap_future(sending)
        return result

    return chunks


def _parts(task: Any, it: Any, n: Any) -> list[Signature]:
    try:
        decode_signature(task, "task")
    except MalformedMessage as error:
        raise InvalidArgumentsError(f"{CHUNKS} takes the signature of a task: {error}") from None
    if not isinstance(it, list | tuple):
        raise InvalidArgumentsError(f"{CHUNKS} got 'it' of type {type(it).__name__}; expected a list of arguments")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise InvalidArgumentsError(f"{CHUNKS} got n={n!r}; expected how many items go together, at least 1")
    found = [it[start : start + n] for start in range(0, len(it), n)]
    return [Signature(task=STARMAP, kwargs={"task": task, "it": part}, immutable=True) for part in found]
