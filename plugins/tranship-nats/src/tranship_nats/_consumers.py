"""What pulls need at the server: a durable consumer for each level of a queue, made where it is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tranship.driver import Slot
from tranship.errors import TranshipError
from tranship_nats._errors import CONSUMER_EXISTS, CONSUMER_MISSING, STREAM_MISSING, ApiError, api_error, passing
from tranship_nats._jetstream import JetStream, nanos
from tranship_nats._naming import Names
from tranship_nats._options import NatsOptions
from tranship_nats._streams import Streams

__all__ = ["Consumers", "Place", "made", "place_at"]

log = logging.getLogger("tranship.nats")

MAX_WAITING: Final = 4096
"""Idle workers per level of a queue: each has one pull waiting."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One level of a queue at the server."""

    slot: Slot
    subject: bytes
    """Of its messages."""
    consumer: str
    pull: bytes
    """Where its messages are asked for."""
    about: bytes
    """Where is asked about its consumer."""


def place_at(names: Names, slot: Slot) -> Place:
    """Return where the messages of a slot are.

    Raises:
        InvalidOptionError: a name that is too long, or holds half a character.
    """
    consumer = names.consumer(*slot)
    pull = f"{names.api}.CONSUMER.MSG.NEXT.{names.work}.{consumer}".encode()
    about = f"{names.api}.CONSUMER.INFO.{names.work}.{consumer}".encode()
    return Place(slot, names.task(*slot).encode(), consumer, pull, about)


class Consumers:
    """Sees to it that the server has what pulls need, and knows how long its leases really are.

    Args:
        js: over the connection that they are used on.
        streams: over the same.
        options: of the URL.
        leases: of each queue, in seconds, as far as they are known; outlives the connection.
    """

    def __init__(self, js: JetStream, streams: Streams, options: NatsOptions, leases: dict[str, float]) -> None:
        self._js, self._streams, self._options = js, streams, options
        self.leases = leases

    def lease(self, queue: str) -> float:
        """Return the lease of a queue, as far as it is known; the option's, or less."""
        return min(self._options.lease, self.leases.get(queue, self._options.lease))

    async def ensure(self, places: Sequence[Place]) -> None:
        """Look up the consumer of each level, and make the missing ones.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        stream = await self._streams.need("work")
        found = await asyncio.gather(*(self._ensure(stream, place) for place in places))
        for queue in dict.fromkeys(place.slot[0] for place in places):
            lease = min(one for place, one in zip(places, found, strict=True) if place.slot[0] == queue)
            if abs(lease - self._options.lease) > 0.001 and self.leases.get(queue) != lease:
                log.warning(_DIFFERENT, queue, lease, self._options.lease, stream)
            self.leases[queue] = lease

    async def _ensure(self, stream: str, place: Place) -> float:
        pattern, options = place.subject.decode(), self._options
        try:
            return await made(
                self._js, stream, place.consumer, pattern, ack_wait=options.lease, pending=options.max_ack_pending
            )
        except TranshipError as error:
            # Of a queue that was there it may pass.
            raise (passing(error) if place.slot[0] in self.leases else error) from error


_DIFFERENT: Final = (
    "the consumers of queue %r were made with a lease of %g s, the URL says %g s: the first counts for all; "
    "`nats consumer edit %s --wait` changes it"
)


async def made(js: JetStream, stream: str, name: str, pattern: str, *, ack_wait: float, pending: int) -> float:
    """See to it that there is a durable consumer; return for how many seconds it really leases messages.

    Raises:
        BrokerRefused, BrokerUnreachable, StorageFull.
    """
    looking = f"CONSUMER.INFO.{stream}.{name}"
    info = await js.find(looking, CONSUMER_MISSING, STREAM_MISSING)
    if info is None:
        config = {
            "durable_name": name,
            "filter_subject": pattern,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_wait": nanos(ack_wait),
            # At a limit of its own the server would leave the message behind where nobody finds it.
            "max_deliver": -1,
            "max_ack_pending": pending,
            "max_waiting": MAX_WAITING,
        }
        verb = f"CONSUMER.DURABLE.CREATE.{stream}.{name}"
        try:
            # Without the action, and before nats-server 2.10, it would change one that somebody else has just made.
            info = await js.create(verb, {"stream_name": stream, "config": config, "action": "create"})
        except ApiError as error:
            if error.number != CONSUMER_EXISTS:
                raise api_error(error, f"making consumer {name} of {stream}") from error
            # Somebody else was faster: the first counts for all.
            info = await js.make(looking, {})
    return float(info["config"].get("ack_wait", 0)) / 1e9
