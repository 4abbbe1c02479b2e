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

from tranship import codec
from tranship.errors import MalformedMessage, TranshipError
from tranship.ports import Tombstone
from tranship.protocol import Broadcast, read_broadcast, revoke_broadcast, revoked_ids
from tranship_rabbitmq._context import Context
from tranship_rabbitmq.amqp.channel import Arrived
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.table import TableError, encode_table

__all__ = ["Mailbox", "broadcast_revoke", "mailbox_exchange", "node_name"]

log = logging.getLogger("tranship.rabbitmq")

REVOKE_MEMORY: Final = 10800.0
"""Seconds for which Celery's workers remember what is revoked; so do we."""
_TOLD: Final = 10_000
_JOBS: Final = 100


def node_name(worker: str) -> str:
    """Return what Celery's tools call the worker: ``name@host``."""
    return worker if "@" in worker else f"{worker}@{socket.gethostname()}"


def mailbox_exchange(ctx: Context) -> str:
    """The exchange of Celery's remote control; a namespace's peers set ``control_exchange`` to match."""
    return f"{ctx.names.prefix}celery.pidbox"


async def broadcast_revoke(ctx: Context, ids: Sequence[str]) -> None:
    """Tell Celery's workers not to start ``ids``.

    Raises:
        BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
    """
    exchange = mailbox_exchange(ctx)
    await declare_mailbox(ctx)
    # Celery's clock only orders events; a command from outside never advances it.
    headers, body = revoke_broadcast(ids, clock=0)
    properties = Properties(codec.JSON, "utf-8", encode_table(headers), 2, 0)
    await ctx.aside.publish(properties, codec.dumps(body), routing_key="", exchange=exchange, mandatory=False)


async def declare_mailbox(ctx: Context) -> None:
    """Have the exchange, as Celery declares it.

    Raises:
        BrokerUnreachable, BrokerRefused.
    """
    declaration: tuple[Any, ...] = (0, mailbox_exchange(ctx), "fanout", False, False, False, False, False, {})
    await ctx.topology.call("declaring Celery's mailbox", "exchange.declare", *declaration)


class Mailbox:
    """Understands what is broadcast to Celery's workers.

    Args:
        ctx: of the backend.
        worker: the worker's name.
        hear: called with what others have revoked, before anything else happens.
        keep: stores it, for workers that start later.
        known: the ids that are cancelled, for newcomers.
    """

    def __init__(
        self,
        ctx: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        known: Callable[[], Sequence[str]],
    ) -> None:
        self._ctx = ctx
        self.node: Final = node_name(worker)
        self._hear = hear
        self._keep = keep
        self._known = known
        self._clock = 0
        self._jobs: set[asyncio.Task[None]] = set()
        self._methods: Mapping[str, Callable[[Broadcast], None]] = {
            "ping": lambda asked: self._answer(asked, {"ok": "pong"}),
            "revoke": self._revoke,
            "terminate": self._revoke,
            "hello": self._hello,
        }

    @property
    def queue(self) -> str:
        """The queue that Celery's tools expect this worker to read."""
        return f"{self.node}.{mailbox_exchange(self._ctx)}"

    def heard(self, arrived: Arrived) -> None:
        """Take in what came, whatever it is."""
        try:
            properties = properties_of(arrived.header)
            headers = properties.headers()
            asked = read_broadcast(headers, arrived.body, properties.content_type, properties.content_encoding)
        except (TableError, MalformedMessage) as error:
            log.debug("ignoring what is no broadcast in Celery's mailbox (%d bytes): %s", len(arrived.body), error)
            return
        self._clock = max(self._clock, asked.clock) + 1
        if asked.ours or not asked.is_for(self.node):
            return
        method = self._methods.get(asked.method)
        if method is None:
            log.debug("ignoring Celery's control command %r", asked.method[:80])
        else:
            method(asked)

    async def aclose(self) -> None:
        """Answer nobody any more."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        if jobs:
            await asyncio.wait(jobs)

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
        ids = revoked_ids(asked.arguments.get("revoked"))
        if ids:
            expires = time.time() + REVOKE_MEMORY
            self._hear([Tombstone(kind="id", value=task_id, expires=expires, running=False) for task_id in ids])
        self._answer(asked, {"revoked": sorted(self._known()[-_TOLD:]), "clock": self._clock + 1})

    def _answer(self, asked: Broadcast, answer: Any) -> None:
        if asked.reply_to is not None:
            self._start(self._reply(asked, answer))

    async def _reply(self, asked: Broadcast, answer: Any) -> None:
        to = asked.reply_to
        assert to is not None
        self._clock += 1
        table = encode_table({"ticket": to.ticket, "clock": self._clock})
        encoding = codec.content_encoding_of(asked.content_type)
        body = codec.dumps({self.node: answer}, asked.content_type, name="answer")
        await self._ctx.aside.publish(
            Properties(asked.content_type, encoding, table, 1, 0),
            body,
            routing_key=to.routing_key,
            exchange=to.exchange,
            mandatory=False,
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._jobs) >= _JOBS:
            work.close()
            log.warning("too many of Celery's control commands at once; some are not answered")
            return
        job = asyncio.get_running_loop().create_task(_tried(work))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except TranshipError as error:
        log.debug("a control command of Celery's was not answered: %s", error)
    except Exception:
        log.exception("answering a control command of Celery's failed")
