"""The consumers of the queues: one for each level, made where it is missing, never changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship_nats._api import Api, nanos
from tranship_nats._errors import CONSUMER_EXISTS, CONSUMER_MISSING, STREAM_MISSING, ApiError, api_error, passing
from tranship_nats._held import Pair
from tranship_nats._names import Names
from tranship_nats._options import NatsOptions
from tranship_nats._streams import Streams

__all__ = ["Consumers", "made", "pairs_of"]

log = logging.getLogger("tranship.nats")

MAX_WAITING: Final = 4096
"""Idle workers per level of a queue: each has one pull waiting."""


def pairs_of(names: Names, queues: Sequence[str]) -> list[Pair]:
    """Return the levels of ``queues``, in the order of the queues.

    Raises:
        InvalidOptionError: a name that is too long, or holds half a character.
    """
    return [
        Pair(
            queue,
            level,
            names.task(queue, level).encode(),
            f"{names.api}.CONSUMER.MSG.NEXT.{names.work}.{names.consumer(queue, level)}".encode(),
            names.consumer(queue, level),
            names.work,
        )
        for queue in queues
        for level in Priority
    ]


class Consumers:
    """Sees to it that the server has what pulls need, and knows how long its leases really are."""

    def __init__(self, api: Api, streams: Streams, options: NatsOptions) -> None:
        self._api = api
        self._streams = streams
        self._options = options
        self._leases: dict[str, float] = {}
        self._seen: set[str] = set()
        """Those that were there."""

    def lease(self, queues: Sequence[str]) -> float:
        """Return the shortest lease of ``queues``, as far as it is known; the option's, or less."""
        return min([self._options.lease, *(self._leases[queue] for queue in queues if queue in self._leases)])

    async def ensure(self, pairs: Sequence[Pair]) -> None:
        """Look up the consumer of each level, and make the missing ones.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        stream = await self._streams.need("work")
        found = await asyncio.gather(*(self._ensure(stream, pair) for pair in pairs))
        self._seen.update(pair.consumer for pair in pairs)
        for queue in {pair.queue for pair in pairs}:
            lease = min(seconds for pair, seconds in zip(pairs, found, strict=True) if pair.queue == queue)
            if abs(lease - self._options.lease) > 0.001 and self._leases.get(queue) != lease:
                log.warning(_DIFFERENT, queue, lease, self._options.lease, stream)
            self._leases[queue] = lease

    async def _ensure(self, stream: str, pair: Pair) -> float:
        options = self._options
        try:
            return await made(
                self._api,
                stream,
                pair.consumer,
                pair.subject.decode(),
                ack_wait=options.lease,
                pending=options.max_ack_pending,
            )
        except TranshipError as error:
            raise (passing(error) if pair.consumer in self._seen else error) from error


_DIFFERENT: Final = (
    "the consumers of queue %r were made with a lease of %g s, the URL says %g s: the first counts for all; "
    "`nats consumer edit %s --wait` changes it"
)


async def made(api: Api, stream: str, name: str, pattern: str, *, ack_wait: float, pending: int) -> float:
    """See to it that there is a durable consumer; return for how many seconds it really leases messages.

    Raises:
        BrokerRefused, BrokerUnreachable, StorageFull.
    """
    looking = f"CONSUMER.INFO.{stream}.{name}"
    info = await api.find(looking, CONSUMER_MISSING, STREAM_MISSING)
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
            info = await api.create(verb, {"stream_name": stream, "config": config, "action": "create"})
        except ApiError as error:
            if error.number != CONSUMER_EXISTS:
                raise api_error(error, f"making consumer {name} of {stream}") from error
            # Somebody else was faster: the first counts for all.
            info = await api.make(looking, {})
    return float(info["config"].get("ack_wait", 0)) / 1e9
