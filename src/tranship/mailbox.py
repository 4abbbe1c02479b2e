"""A worker's mailbox in Celery's remote control: revokes are taken in, pings and newcomers are answered.

Everything else that Celery can ask of a worker (its tasks, its pool, a shutdown) is not ours to answer or do. How
broadcasts come and answers go is the broker's: a plugin of one where Celery's programs are peers derives from
:class:`Mailbox`.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from tranship.errors import MalformedMessage, TranshipError
from tranship.ports import Tombstone
from tranship.protocol.broadcast import Broadcast, revoked_ids

__all__ = ["TOLD", "Mailbox", "node_name"]

log = logging.getLogger("tranship.mailbox")

REVOKE_MEMORY: Final = 10800.0
"""Seconds for which Celery's workers remember what is revoked; so do we."""
TOLD: Final = 10_000
"""How many cancelled ids a newcomer is told at most."""
_JOBS: Final = 100
_QUIET: Final = 60.0
"""Seconds between two warnings: whoever sends garbage sends much of it."""


def node_name(worker: str) -> str:
    """Return what Celery's tools call the worker: ``name@host``."""
    return worker if "@" in worker else f"{worker}@{socket.gethostname()}"


class Mailbox(abc.ABC):
    """Understands what is broadcast to Celery's workers.

    Args:
        worker: the worker's name.
        hear: called with what others have revoked, before anything else happens.
        keep: stores it, for workers that start later.
    """

    def __init__(
        self,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
    ) -> None:
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

    @abc.abstractmethod
    async def known(self) -> Iterable[str]:
        """Return the ids that are cancelled, for newcomers: at most ``TOLD``, those remembered longest.

        Raises:
            TranshipError: they cannot be read now; the newcomer is not answered.
        """

    @abc.abstractmethod
    async def reply(self, asked: Broadcast, answer: Any, clock: int) -> None:
        """Send ``answer`` to where ``asked.reply_to`` says, which is not None; one attempt.

        Raises:
            TranshipError: it was not sent; nobody tries again.
        """

    def take(self, read: Callable[[], Broadcast], size: int) -> None:
        """Take in what came, whatever it is.

        Args:
            read: returns it, or raises MalformedMessage.
            size: bytes, for the warning about what is no broadcast.
        """
        try:
            asked = read()
        except MalformedMessage as error:
            self._warn(f"ignoring what is no broadcast of Celery's remote control ({size} bytes): {error}")
            return
        self._clock = max(self._clock, asked.clock) + 1
        if asked.refusal is not None:
            self._warn(f"ignoring Celery's control command {asked.method[:80]!r}: {asked.refusal}")
        if asked.ours or not asked.is_for(self.node):
            return
        method = self._methods.get(asked.method)
        if method is None:
            log.debug("ignoring Celery's control command %r", asked.method[:80])
        else:
            method(asked)

    def close(self) -> None:
        """Answer nobody any more."""
        for job in tuple(self._jobs):
            job.cancel()

    async def aclose(self) -> None:
        """The same; returns once what was under way has ended."""
        self.close()
        if self._jobs:
            await asyncio.wait(self._jobs)

    def _revoke(self, asked: Broadcast) -> None:
        ids = revoked_ids(asked.arguments.get("task_id"))
        running = asked.method == "terminate" or bool(asked.arguments.get("terminate"))
        revoked = _tombstones(ids, running=running)
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
        ids = revoked_ids(asked.arguments.get("revoked"))
        if ids:
            self._hear(_tombstones(ids, running=False))
        if asked.reply_to is not None:
            self._start(self._welcome(asked))

    async def _welcome(self, asked: Broadcast) -> None:
        await self._send(asked, {"revoked": sorted(await self.known()), "clock": self._clock + 1})

    def _answer(self, asked: Broadcast, answer: Any) -> None:
        if asked.reply_to is not None:
            self._start(self._send(asked, answer))

    async def _send(self, asked: Broadcast, answer: Any) -> None:
        self._clock += 1
        await self.reply(asked, answer, self._clock)

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


def _tombstones(ids: Sequence[str], *, running: bool) -> list[Tombstone]:
    expires = time.time() + REVOKE_MEMORY
    return [Tombstone(kind="id", value=task_id, expires=expires, running=running) for task_id in ids]


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TranshipError as error:
        log.debug("a control command of Celery's was not answered: %s", error)
    except Exception:
        log.exception("answering a control command of Celery's failed")
