"""``celery.chord_unlock``: what Celery's clients send beside a chord where their result store cannot count.

It looks whether every member of the header has its result, and comes again until that is so. Then the body is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tranship import codec
from tranship.canvas import Ended
from tranship.errors import InvalidArgumentsError, Retry
from tranship.ports import ChordCount, ChordPart, ResultStore, StoredResult
from tranship.retry import FixedBackoff, RetryPolicy
from tranship.task import Task, current, task
from tranship.worker._following import Following

__all__ = ["UNLOCK", "unlocking"]

UNLOCK: Final = "celery.chord_unlock"
EVERY: Final = 1.0
"""Seconds between two looks, where the message does not say."""
_FOR_EVER: Final = RetryPolicy(max_attempts=1_000_000, backoff=FixedBackoff(EVERY))


def unlocking(results: ResultStore, following: Following) -> Task[..., Any]:
    """Return the task; made on the I/O loop, which it asks.

    Args:
        results: where the members' results are.
        following: sends the body.
    """
    io = asyncio.get_running_loop()

    @task(name=UNLOCK, retry=_FOR_EVER, store_result=False)
    async def unlock(group_id: str, callback: dict[str, Any], **options: Any) -> None:
        ids = _leaves(options.get("result"))
        if not isinstance(group_id, str) or not isinstance(callback, dict) or ids is None:
            raise InvalidArgumentsError(f"{UNLOCK} takes a group's id, a signature, and the results of its members")
        asking = asyncio.run_coroutine_threadsafe(_look(results, ids), io)
        parts = await asyncio.wrap_future(asking)
        if parts is None:
            raise Retry(delay=_interval(options), reason="not all members of the chord have ended")
        last = parts[-1] if parts else ChordPart(task_id=group_id, index=None, status="SUCCESS", value=None)
        tree = [[group_id, None], list(options["result"])]
        ended = Ended(group_id=group_id, part=last, body=callback)
        sending = following.complete(ended, ChordCount(parts=parts, tree=tree), current().envelope)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, io))

    return unlock


async def _look(results: ResultStore, ids: Sequence[str]) -> list[ChordPart] | None:
    """Return the members' results; None: one of them has not ended."""
    found = await results.get_many(ids) if ids else ()
    if not all(one.state.terminal for one in found):
        return None
    return [_part(one) for one in found]


def _part(result: StoredResult) -> ChordPart:
    packed = result.document.lstrip()[:1] != b"{"
    document = codec.loads(result.document, codec.MSGPACK if packed else codec.JSON)
    said: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    return ChordPart(task_id=result.id, index=None, status=str(said.get("status")), value=said.get("result"))


def _leaves(result: Any) -> list[str] | None:
    """Return the ids in Celery's tuples of results, in order; None: they are none."""
    found: list[str] = []
    left = list(reversed(result)) if isinstance(result, list | tuple) else [None]
    while left:
        node = left.pop()
        if not isinstance(node, list | tuple) or len(node) != 2 or not isinstance(node[0], list | tuple):
            return None
        (task_id, *_), members = node
        if isinstance(members, list | tuple):
            left.extend(reversed(members))
        elif isinstance(task_id, str):
            found.append(task_id)
        else:
            return None
    return found


def _interval(options: Mapping[str, Any]) -> float:
    found = options.get("interval")
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) and found > 0 else EVERY
