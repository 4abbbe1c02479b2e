"""The control channel: cancels that outlive everybody, live signals, heartbeats; Celery's workers hear of cancels."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tranship.guards import one_listener
from tranship.mailbox import node_name
from tranship.ports import CancelReport, Command, Heartbeat, SignalSink, Tombstone
from tranship.protocol import CANCELLED, encode_cancelled
from tranship_redis._context import Context
from tranship_redis._feed import Feed
from tranship_redis._keys import SEPARATOR
from tranship_redis._mailbox import RedisMailbox
from tranship_redis._mailbox_envelope import revoke_message
from tranship_redis._pack import Part
from tranship_redis._scripts import Script
from tranship_redis._signals import command_text, member_of, text_of_beat, tombstones_text

__all__ = ["WORKER_MEMORY", "RedisControl"]

log = logging.getLogger("tranship.redis")

WORKER_MEMORY: Final = 60.0
"""Seconds after which a worker without a heartbeat is forgotten."""
_CHUNK: Final = 250
"""Tombstones per script: some milliseconds of this loop, and of the server."""
_CANCEL: Final = Script("cancel")
_BEAT: Final = Script("beat")


class RedisControl:
    """See :class:`tranship.ports.ControlChannel`.

    A cancel by id is told to Celery's workers as a plain revoke, unless the option ``celery`` is ``off``: they do
    not start the task any more, and what runs there already runs on. What Celery's clients revoke is heard as a
    tombstone (of queued tasks only, unless it says ``terminate``), and kept like one of ours. It answers
    :class:`~tranship.ports.CancelMarks`, too.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._celery = context.options.celery_queues.mode != "off"
        self._feed: Feed | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Replay live tombstones, then follow."""
        self._context.check()
        one_listener(self._feed)
        self._context.node = node_name(worker)
        feed = self._feed = Feed(self._context, sink, worker)
        if self._celery:
            feed.mailbox = RedisMailbox(self._context, worker, hear=feed.hear, keep=self._keep)
        try:
            await feed.start()
        except BaseException:
            feed.close()
            self._feed = None
            raise

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, remove what is not due yet, and tell listeners; several hundred in each step.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
            InvalidOptionError: a tombstone that cannot be stored; nothing was done.
        """
        self._context.check()
        return CancelReport(removed=await self._store(tombstones, tell=True))

    async def marked(self, keys: Sequence[str]) -> Sequence[bool]:
        """Whether the keys of these names are set: by ``cancel_template``, without one the bare cancel keys.

        A name that may be Celery's or ours is no mark.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        self._context.check()
        template = self._context.options.cancel_template or "{key}"
        return await asyncio.gather(*(self._is_set(template.replace("{key}", key)) for key in keys))

    async def _is_set(self, name: str) -> bool:
        return not self._is_reserved(name) and bool(await self._context.main.call("EXISTS", name))

    async def send(self, command: Command) -> None:
        """Tell listeners.

        Raises:
            BrokerUnreachable, BrokerRefused.
            EncodeError: an argument cannot be written.
        """
        self._context.check()
        await self._context.main.call("PUBLISH", self._context.keys.signals, command_text(command))

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known."""
        self._context.check()
        text = b"" if heartbeat.stopping else text_of_beat(heartbeat)
        await self._context.main.run(_BEAT, [self._context.keys.workers], [heartbeat.worker, text, WORKER_MEMORY])

    async def aclose(self) -> None:
        """End the feed."""
        if self._feed is not None:
            self._feed.close()

    async def _keep(self, tombstones: Sequence[Tombstone]) -> None:
        """Store what Celery has told everybody itself."""
        await self._store(tombstones, tell=False)

    async def _store(self, tombstones: Sequence[Tombstone], *, tell: bool) -> list[str]:
        members = [member_of(one) for one in tombstones]
        keys = [self._context.keys.tombstones, self._context.keys.delayed_queues]
        removed: list[bytes] = []
        for start in range(0, len(tombstones), _CHUNK):
            part = slice(start, start + _CHUNK)
            arguments = self._arguments(tombstones[part], members[part], tell=tell)
            removed += await self._context.main.run(_CANCEL, keys, arguments)
        return [task_id.decode(errors="replace") for task_id in removed]

    def _arguments(self, tombstones: Sequence[Tombstone], members: Sequence[bytes], *, tell: bool) -> list[Part]:
        keys, options = self._context.keys, self._context.options
        signal = tombstones_text(tombstones) if tell else b""
        ids = [one.value for one in tombstones if one.kind == "id"]
        # Celery's clock only orders events; a command from outside never advances it.
        revoke = revoke_message(ids, clock=0) if tell and ids and self._celery else b""
        out: list[Part] = [keys.prefix, keys.signals, signal, keys.mailbox, revoke, options.result_ttl * 1000]
        out.append(len(tombstones))
        for one, member in zip(tombstones, members, strict=True):
            out += [member, one.expires, *self._particulars(one)]
        return out

    def _particulars(self, tombstone: Tombstone) -> tuple[str, bytes, str]:
        if tombstone.kind == "id":
            return tombstone.value, self._document(tombstone.value), ""
        return "", b"", self._flag(tombstone.value)

    def _document(self, task_id: str) -> bytes:
        return encode_cancelled(task_id, CANCELLED, content_type=self._context.options.result_type)

    def _flag(self, cancel_key: str) -> str:
        """The key that other programs ask for to know whether ``cancel_key`` is cancelled; empty: none."""
        flag = self._context.options.cancel_template.replace("{key}", cancel_key)
        if flag and self._is_reserved(flag):
            log.warning("cancel key %r is not set as a key of its own: the name is taken", cancel_key[:200])
            return ""
        return flag

    def _is_reserved(self, flag: str) -> bool:
        """Whether the name may be one that Celery or we use for something else, and would trip over."""
        prefix = self._context.keys.prefix.decode()
        names = ("unacked", "_kombu.", "celery", "tranship:")
        return SEPARATOR.decode() in flag or flag.startswith(tuple(prefix + name for name in names))
