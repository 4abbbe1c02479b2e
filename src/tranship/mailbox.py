"""A worker's mailbox in Celery's remote control: revokes are taken in, pings and newcomers are answered.

Everything else that Celery can ask of a worker (its tasks, its pool, a shutdown) is the worker's to answer and do: the
mailbox passes it to the worker's :data:`~tranship.ports.Panel`. How broadcasts come and answers go is the broker's: a
plugin of one where Celery's programs are peers derives from :class:`Mailbox`.
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
from tranship.ports import Panel, PeerEvent, Tombstone
from tranship.protocol.broadcast import Broadcast, revoked_ids, revoked_stamps
from tranship.protocol.events import EventMessage, event_messages

__all__ = ["TOLD", "LogicalClock", "Mailbox", "PeerTalk", "node_name"]

log: logging.Logger = logging.getLogger("tranship.mailbox")

REVOKE_MEMORY: Final = 10800.0
"""Seconds for which Celery's workers remember what is revoked; so do we."""
TOLD: Final = 10_000
"""How many cancelled ids a newcomer is told at most."""
_JOBS: Final = 100
_LONGEST: Final = 1000
"""Characters of an error that is answered."""
_QUIET: Final = 60.0
"""Seconds between two warnings: whoever sends garbage sends much of it."""


def node_name(worker: str) -> str:
    """Return what Celery's tools call the worker: ``name@host``."""
    return worker if "@" in worker else f"{worker}@{socket.gethostname()}"


class LogicalClock:
    """Lamport's: it puts what is said and heard at one node in order."""

    def __init__(self) -> None:
        self.value: int = 0

    def tick(self, heard: int = 0) -> int:
        """Count something that is said, or that was ``heard`` with its own time; return what time it is then."""
        self.value = max(self.value, heard) + 1
        return self.value


class PeerTalk(abc.ABC):
    """What a control channel has for Celery's programs, whichever way its messages go.

    See :class:`~tranship.ports.PeerControl`.

    Args:
        speaks: whether there are such programs, as far as the options say.
    """

    def __init__(self, *, speaks: bool) -> None:
        self._speaks_celery = speaks
        self._panel: Panel | None = None
        self._clock = LogicalClock()

    @property
    def has_peers(self) -> bool:
        """Whether Celery's programs are spoken to."""
        return self._speaks_celery

    @property
    def clock(self) -> int:
        """What the logical clock says that Celery's programs go by."""
        return self._clock.value

    def obey(self, panel: Panel) -> None:
        """Have ``panel`` do what they command."""
        self._panel = panel

    async def announce(self, node: str, events: Sequence[PeerEvent]) -> None:
        """Publish events for whoever looks on.

        Raises:
            BrokerUnreachable, BrokerRefused, ClosedError.
        """
        told = [(one.kind, one.fields, one.at) for one in events]
        await self.tell(node, list(event_messages(node, told, self._clock.tick)))

    @abc.abstractmethod
    async def tell(self, node: str, messages: Sequence[EventMessage]) -> None:
        """Publish what :meth:`announce` has written."""


class Mailbox(abc.ABC):
    """Understands what is broadcast to Celery's workers.

    Args:
        worker: the worker's name.
        hear: called with what others have revoked, before anything else happens.
        keep: stores it, for workers that start later.
        panel: does and answers everything else; None: nobody.
        clock: of what is said at this node.
    """

    def __init__(
        self,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        panel: Panel | None = None,
        clock: LogicalClock | None = None,
    ) -> None:
        self.node: Final = node_name(worker)
        """The worker's name among Celery's."""
        self._hear = hear
        self._keep = keep
        self._panel = panel
        self._clock = clock or LogicalClock()
        self._warned = -_QUIET
        self._jobs: set[asyncio.Task[None]] = set()
        self._methods: Mapping[str, Callable[[Broadcast], None]] = {
            "ping": lambda asked: self._answer(asked, {"ok": "pong"}),
            "clock": lambda asked: self._answer(asked, {"clock": self._clock.value}),
            "revoke": self._revoke,
            "terminate": self._revoke,
            "revoke_by_stamped_headers": self._revoke_stamps,
            "revoked": self._tell_revoked,
            "dump_revoked": self._tell_revoked,
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
            if self._may_warn():
                log.warning("ignoring what is no broadcast of Celery's remote control (%d bytes): %s", size, error)
            return
        self._clock.tick(asked.clock)
        if asked.refusal is not None and self._may_warn():
            log.warning("ignoring Celery's control command %r: %s", asked.method[:80], asked.refusal)
        if asked.ours or not asked.is_for(self.node):
            return
        method = self._methods.get(asked.method)
        if method is not None:
            method(asked)
        elif self._panel is not None:
            self._start(self._operate(asked, self._panel))
        else:
            log.debug("ignoring Celery's control command %r", asked.method[:80])

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

    def _revoke_stamps(self, asked: Broadcast) -> None:
        stamps = revoked_stamps(asked.arguments.get("headers"))
        running = bool(asked.arguments.get("terminate"))
        revoked = _tombstones([f"{name}={stamp}" for name, stamp in stamps], running=running, kind="stamp")
        if revoked:
            self._hear(revoked)
            self._start(self._store(revoked))
        by_name: dict[str, list[str]] = {}
        for name, stamp in stamps:
            by_name.setdefault(name, []).append(stamp)
        said = "revoked" if running else "flagged as revoked, but not terminated"
        self._answer(asked, {"ok": f"headers {by_name} {said}"})

    async def _store(self, revoked: Sequence[Tombstone]) -> None:
        await self._keep(revoked)

    def _tell_revoked(self, asked: Broadcast) -> None:
        if asked.reply_to is not None:
            self._start(self._send_revoked(asked))

    async def _send_revoked(self, asked: Broadcast) -> None:
        await self._send(asked, list(await self.known()))

    async def _operate(self, asked: Broadcast, panel: Panel) -> None:
        """Have the worker do what is asked for, and say what came of it: also that it could not be done."""
        try:
            answer = await panel(asked.method, asked.arguments)
        except Exception as error:  # noqa: BLE001 - whatever a stranger asks for, the mailbox goes on
            # As kombu says it, which Celery's tools and Flower show.
            answer = {"error": repr(error)[:_LONGEST]}
            log.info("Celery's control command %r was not carried out: %r", asked.method[:80], error)
        if asked.reply_to is not None:
            await self._send(asked, answer)

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
        await self._send(asked, {"revoked": sorted(await self.known()), "clock": self._clock.value + 1})

    def _answer(self, asked: Broadcast, answer: Any) -> None:
        if asked.reply_to is not None:
            self._start(self._send(asked, answer))

    async def _send(self, asked: Broadcast, answer: Any) -> None:
        await self.reply(asked, answer, self._clock.tick())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._jobs) >= _JOBS:
            work.close()
            if self._may_warn():
                log.warning("too many of Celery's control commands at once; some are not answered")
            return
        job = asyncio.get_running_loop().create_task(_tried(work))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _may_warn(self) -> bool:
        """Whether the last warning is long enough ago; then this is the next one."""
        now = time.monotonic()
        quiet = now - self._warned < _QUIET
        if not quiet:
            self._warned = now
        return not quiet


def _tombstones(values: Sequence[str], *, running: bool, kind: str = "id") -> list[Tombstone]:
    expires = time.time() + REVOKE_MEMORY
    return [Tombstone(kind=kind, value=value, expires=expires, running=running) for value in values]


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TranshipError as error:
        log.debug("a control command of Celery's was not answered: %s", error)
    except Exception:
        log.exception("answering a control command of Celery's failed")
