"""The result store: Celery's result keys, and Celery's channels of the same names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

from tranship.envelope import TaskState
from tranship.errors import MessageTooLarge, TranshipError
from tranship.ports import ResultSink, StoredResult
from tranship_redis._context import Context
from tranship_redis._documents import stored
from tranship_redis._scripts import Script
from tranship_redis._subscriptions import Subscriptions
from tranship_redis._writer import millis

__all__ = ["RedisResults"]

READ: Final = 500
"""Ids per command."""
WRITE: Final = 100
"""Results per script call; the server does nothing else meanwhile."""
BYTES: Final = 1 << 20
POLL: Final = 0.25
"""Seconds between two reads of results that this user may not be told of, at first."""
LONGEST_POLL: Final = 2.0
"""The same when nothing new has been asked for meanwhile: many of them may never come."""
READ_BYTES: Final = 4 << 20
"""Bytes after which a read is answered: a connection with subscriptions is cut off with 32 MiB on its way (the
server's ``client-output-buffer-limit pubsub``)."""
_PUT: Final = Script("put")
_READ: Final = Script("read")


class RedisResults:
    """Keeps results; see :class:`tranship.ports.ResultStore`."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._subscriptions: Subscriptions = ctx.subscriptions
        self._sink: ResultSink | None = None
        self._unheard: dict[str, None] = {}
        self._more = asyncio.Event()
        self._reading: set[asyncio.Task[None]] = set()
        self._subscriptions.attach(self._published, self._poll)

    @property
    def waiting(self) -> int:
        """How many results are expected."""
        return len(self._subscriptions)

    def attach(self, sink: ResultSink) -> None:
        """From now on push to ``sink``."""
        self._sink = sink

    def expect(self, ids: Sequence[str]) -> None:
        """Push the results of ``ids``; subscribed in the same write as what is submitted or read next."""
        if not self._ctx.closed:
            self._subscriptions.add(ids)

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nobody waits for ``ids``."""
        self._subscriptions.drop(ids)

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Store results, each unless a terminal one is there."""
        self._ctx.check()
        for result in results:
            self._check_size(result)
        self._subscriptions.flush()
        parts = list(_parts(results))
        if len(parts) == 1:
            return await self._put(parts[0])
        return [won for part in await asyncio.gather(*map(self._put, parts)) for won in part]

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Read what is known of ``ids``; an id without a result is PENDING, whether it exists or not."""
        self._ctx.check()
        if self._ctx.is_resp3:
            self._subscriptions.flush()
        else:
            await self._subscriptions.confirmed()
        documents: list[bytes | None] = []
        while len(documents) < len(ids):
            documents += await self._get(ids[len(documents) : len(documents) + READ])
        return [
            StoredResult(id=task_id, state=TaskState.PENDING) if document is None else stored(task_id, document)
            for task_id, document in zip(ids, documents, strict=True)
        ]

    async def forget_many(self, ids: Sequence[str]) -> None:
        """Delete results, and what is remembered of the ids themselves."""
        self._ctx.check()
        keys = self._ctx.keys
        parts = [ids[start : start + READ] for start in range(0, len(ids), READ)]
        names = [[name for one in part for name in (keys.result(one), keys.known(one))] for part in parts]
        await asyncio.gather(*(self._ctx.main.call(b"DEL", *part) for part in names))

    async def aclose(self) -> None:
        """Push nothing any more."""
        self._sink = None
        self._subscriptions.clear()
        for task in self._reading:
            task.cancel()

    async def _put(self, results: Sequence[StoredResult]) -> list[bool]:
        keys = [self._ctx.keys.result(result.id) for result in results]
        default = self._ctx.options.result_ttl
        args: list[bytes] = []
        for result in results:
            args += (millis(default if result.ttl is None else result.ttl), result.document)
        return [won == 1 for won in await self._ctx.main.run(_PUT, keys, args)]

    async def _get(self, ids: Sequence[str]) -> list[bytes | None]:
        """Read the first documents, at least one: the server cuts us off when too much is on its way to us."""
        keys = [self._ctx.keys.result(one) for one in ids]
        found: list[Any] = await self._ctx.main.run(_READ, keys, [READ_BYTES])
        if type(found[-1]) is int:
            last = len(found) - 1
            found[last] = await self._in_pieces(ids[last], keys[last], found[last])
        return found

    async def _in_pieces(self, task_id: str, key: bytes, size: int) -> bytes | None:
        """Read a document that is too long for one answer: being cut off for it would go on for ever."""
        pieces = [
            await self._ctx.main.call(b"GETRANGE", key, start, start + READ_BYTES - 1)
            for start in range(0, size, READ_BYTES)
        ]
        document = b"".join(pieces)
        # Replaced or forgotten meanwhile: see what is there now.
        return document if len(document) == size else (await self._get([task_id]))[0]

    def _check_size(self, result: StoredResult) -> None:
        size, limit = len(result.document), self._ctx.options.max_message_size
        if size > limit:
            text = f"the result of task {result.id} is {size:,} bytes, the limit is {limit:,}; return a reference"
            raise MessageTooLarge(text, size=size, limit=limit, task_id=result.id)

    # Pushing.

    def _published(self, task_id: str, document: bytes) -> None:
        self._push([stored(task_id, document)])

    def _push(self, results: Sequence[StoredResult]) -> None:
        terminal = [one for one in results if one.state.terminal]
        if terminal and self._sink is not None:
            self._sink(terminal)

    # Reading, where nothing can be heard.

    def _start(self, reading: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(reading)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    def _poll(self, ids: Sequence[str]) -> None:
        if not self._unheard:
            self._start(self._read_until_found())
        self._unheard.update(dict.fromkeys(ids))
        self._more.set()

    async def _read_until_found(self) -> None:
        pause = POLL
        await asyncio.sleep(0)
        while self._unheard:
            self._more.clear()
            await self._read_once(list(self._unheard))
            await asyncio.sleep(POLL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), pause - POLL)
            pause = POLL if self._more.is_set() else min(2 * pause, LONGEST_POLL)
            self._unheard = {one: None for one in self._unheard if one in self._subscriptions}

    async def _read_once(self, ids: Sequence[str]) -> None:
        # Where the other connection is lost, too, its return makes the core read everything again.
        with contextlib.suppress(TranshipError):
            self._push(await self.get_many(ids))


def _parts(results: Sequence[StoredResult]) -> Iterator[list[StoredResult]]:
    """Cut results into portions that the server stores at once."""
    part: list[Any] = []
    size = 0
    for result in results:
        if part and (len(part) >= WRITE or size >= BYTES):
            yield part
            part, size = [], 0
        part.append(result)
        size += len(result.document)
    if part:
        yield part
