"""A worker's mailbox in Celery's remote control: revokes are taken in, pings and newcomers are answered.

Everything else that Celery can ask of a worker (its tasks, its pool, a shutdown) is not ours to answer or do.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from tranship.errors import MalformedMessage, TranshipError
from tranship.ports import Tombstone
from tranship.protocol import revoked_ids
from tranship_redis._context import Context
from tranship_redis._keys import SEPARATOR
from tranship_redis._mailbox_envelope import Broadcast, broadcast_of, reply_message
from tranship_redis._scripts import Script
from tranship_redis._signals import id_of

__all__ = ["Mailbox", "node_name"]

log = logging.getLogger("tranship.redis")

REVOKE_MEMORY: Final = 10800.0
"""Seconds for which Celery's workers remember what is revoked; so do we."""
_TOLD: Final = 10_000
"""How many cancelled ids a newcomer is told: the ones that will be remembered longest."""
_UNFETCHED: Final = 60
"""Seconds after which answers that nobody fetched are forgotten."""
_JOBS: Final = 100
_QUIET: Final = 60.0
"""Seconds between two warnings: whoever sends garbage sends much of it."""
_REPLY: Final = Script("mailbox_reply")


def node_name(worker: str) -> str:
    """Return what Celery's tools call the worker: ``name@host``."""
    return worker if "@" in worker else f"{worker}@{socket.gethostname()}"


class Mailbox:
    """Understands what is broadcast to Celery's workers.

    Args:
        context: of the backend.
        worker: the worker's name.
        hear: called with what others have revoked, before anything else happens.
        keep: stores it, for workers that start later.
    """

    def __init__(
        self,
        context: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
    ) -> None:
        self._context = context
        self.node: Final = node_name(worker)
        """The worker's name among Celery's."""
        self._hear = hear
        self._keep = keep
        self._clock = 0
        self._warned = -_QUIET
        self._jobs: set[asyncio.Task[None]] = set()
        self._methods: Mapping[str, Callable[[Broadcast], None]] = {
            "ping": lambda asked: self._answer(asked, {"ok": "pong"}),
            "revoke": self._revoke,
            "terminate": self._revoke,
            "hello": self._hello,
        }

    def heard(self, payload: bytes) -> None:
        """Take in what came on the channel, whatever it is."""
        try:
            asked = broadcast_of(payload)
        except MalformedMessage as error:
            self._warn(f"ignoring what is no broadcast on Celery's control channel ({len(payload)} bytes): {error}")
            return
        self._clock = max(self._clock, asked.clock) + 1
        if asked.ours or not asked.is_for(self.node):
            return
        method = self._methods.get(asked.method)
        if method is None:
            log.debug("ignoring Celery's control command %r", asked.method[:80])
            return
        method(asked)

    def close(self) -> None:
        """Answer nobody any more."""
        for job in tuple(self._jobs):
            job.cancel()

    def _revoke(self, asked: Broadcast) -> None:
        ids = revoked_ids(asked.arguments.get("task_id"))
        running = asked.method == "terminate" or bool(asked.arguments.get("terminate"))
        expires = time.time() + REVOKE_MEMORY
        revoked = [Tombstone(kind="id", value=task_id, expires=expires, running=running) for task_id in ids]
        if revoked:
            self._hear(revoked)
            self._start(self._store(revoked))
        self._answer(asked, {"ok": f"tasks {', '.join(ids)} flagged as revoked"})

    async def _store(self, revoked: Sequence[Tombstone]) -> None:
        await self._keep(revoked)

    def _hello(self, asked: Broadcast) -> None:
        """A Celery worker starts: each of us says what is revoked."""
        if asked.arguments.get("from_node") == self.node:
            return
        expires = time.time() + REVOKE_MEMORY
        ids = revoked_ids(asked.arguments.get("revoked"))
        if ids:
            self._hear([Tombstone(kind="id", value=task_id, expires=expires, running=False) for task_id in ids])
        if asked.reply_to is not None:
            self._start(self._welcome(asked))

    async def _welcome(self, asked: Broadcast) -> None:
        newest = ("ZRANGE", self._context.keys.tombstones, "+inf", repr(time.time()), "BYSCORE", "REV")
        members = await self._context.main.call(*newest, "LIMIT", 0, _TOLD)
        ids = {task_id for member in members if (task_id := id_of(member))}
        await self._reply(asked, {"revoked": sorted(ids), "clock": self._clock + 1})

    def _answer(self, asked: Broadcast, answer: Any) -> None:
        if asked.reply_to is not None:
            self._start(self._reply(asked, answer))

    async def _reply(self, asked: Broadcast, answer: Any) -> None:
        to = asked.reply_to
        assert to is not None
        self._clock += 1
        message = reply_message(self.node, answer, asked, clock=self._clock)
        # The binding is the asker's: what it writes is how it waits, and gone when it has gone.
        binding = SEPARATOR.join((to.routing_key.encode(), b"", to.queue.encode()))
        keys = self._context.keys
        await self._context.main.run(
            _REPLY, [keys.binding(to.exchange), keys.list(to.queue, 0)], [binding, message, _UNFETCHED]
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._jobs) >= _JOBS:
            work.close()
            self._warn("too many of Celery's control commands at once; some are not answered")
            return
        job = asyncio.get_running_loop().create_task(_tried(work))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _warn(self, text: str) -> None:
        now = time.monotonic()
        if now - self._warned >= _QUIET:
            self._warned = now
            log.warning("%s", text)


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TranshipError as error:
        log.debug("a control command of Celery's was not answered: %s", error)
    except Exception:
        log.exception("answering a control command of Celery's failed")
