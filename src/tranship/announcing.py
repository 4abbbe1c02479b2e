"""Telling programs of Celery's that look on what happens: gathered for a moment, kept while the broker is away.

Nobody waits for it, and no task depends on it.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tranship.envelope import Envelope
from tranship.errors import BrokerUnreachable, TranshipError, UnsupportedError
from tranship.ports import Backend, Capability, PeerControl, PeerEvent
from tranship.protocol import Message

__all__ = ["Announcer", "SentEvents", "about", "peers_of"]

log: logging.Logger = logging.getLogger("tranship.announcing")

TOGETHER: Final = 0.05
"""Seconds for which what happens is gathered."""
AGAIN: Final = 1.0
"""Seconds before a broker that could not be reached is told again."""
TIMEOUT: Final = 5.0
"""Seconds that telling may take."""
MOST: Final = 10_000
"""Events that wait for a broker; the oldest are dropped."""
AT_ONCE: Final = 1_000
"""Events that are told in one go."""
HIDDEN: Final = "..."
"""What is said of arguments that are nobody's business: those of tranship's clients."""


def peers_of(backend: Backend) -> PeerControl | None:
    """Return the control channel over which Celery's programs are spoken to; None: there are none."""
    control = backend.control() if backend.capabilities.has(Capability.CONTROL) else None
    return control if isinstance(control, PeerControl) and control.has_peers else None


class Announcer:
    """Of one node, on the backend's loop.

    Args:
        control: where events go.
        node: who tells, as Celery's tools call it.
    """

    def __init__(self, control: PeerControl, node: str) -> None:
        self._control = control
        self._node = node
        self._waiting: collections.deque[PeerEvent] = collections.deque(maxlen=MOST)
        self._telling: asyncio.Task[None] | None = None

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Tell that something has happened now, soon."""
        self._waiting.append(PeerEvent(kind, fields, time.time()))
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_soon())

    async def aclose(self) -> None:
        """Tell what is left, in one go."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        while self._waiting and await self._say():
            pass

    async def _tell_soon(self) -> None:
        try:
            # What happens meanwhile is told with it.
            await asyncio.sleep(TOGETHER)
            while self._waiting:
                if not await self._say():
                    await asyncio.sleep(AGAIN)
        finally:
            self._telling = None

    async def _say(self) -> bool:
        """Tell a part of what waits; whether it makes sense to go on."""
        events = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._control.announce(self._node, events)
        except (BrokerUnreachable, TimeoutError) as error:
            log.debug("%d events were not told: %r", len(events), error)
            # The newest count: what does not fit any more is dropped at this end.
            room = MOST - len(self._waiting)
            self._waiting.extendleft(reversed(events[len(events) - min(room, len(events)) :]))
            return False
        except TranshipError as error:
            log.warning("%d events for programs that look on cannot be told: %s", len(events), error)
        except Exception:
            log.exception("telling %d events failed in an unexpected way", len(events))
        return True


class SentEvents:
    """What a client tells of the tasks that it has submitted.

    Args:
        backend: opened.

    Raises:
        UnsupportedError: nobody of Celery's could hear it there.
    """

    def __init__(self, backend: Backend) -> None:
        control = peers_of(backend)
        if control is None:
            raise UnsupportedError(
                f"sent_events are for Celery's programs, such as Flower, and {backend.name} has none (on Redis and "
                "RabbitMQ it has, unless the URL says celery=off); leave the setting out"
            )
        self._announcer = Announcer(control, f"gen{os.getpid()}@{socket.gethostname()}")
        self.aclose: Callable[[], Awaitable[None]] = self._announcer.aclose

    def sent(self, messages: Sequence[Message]) -> None:
        """Tell of messages that the broker has."""
        for one in messages:
            fields = about(one.envelope, HIDDEN, HIDDEN)
            where = {"queue": one.envelope.queue, "exchange": "", "routing_key": one.envelope.queue}
            self._announcer.tell("task-sent", {**fields, **where})


def about(envelope: Envelope, args: str, kwargs: str) -> dict[str, Any]:
    """Return what an event says of a task that was sent or received, with its arguments as they are shown."""
    return {
        "uuid": envelope.id,
        "name": envelope.task,
        "args": args,
        "kwargs": kwargs,
        "root_id": envelope.root_id or envelope.id,
        "parent_id": envelope.parent_id,
        "retries": envelope.attempt,
        "eta": _date(envelope.not_before),
        "expires": _date(envelope.deadline),
    }


def _date(epoch: float | None) -> str | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC).isoformat()
