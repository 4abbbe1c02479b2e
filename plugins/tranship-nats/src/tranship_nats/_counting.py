"""What is in the queues: numbers of the streams and of their consumers.

Numbers of one queue come from several answers: while tasks come and go they may not fit together.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from tranship.envelope import Priority
from tranship.ports import QueueInfo
from tranship_nats._broker import Broker
from tranship_nats._jetstream import JetStream
from tranship_nats._naming import Names
from tranship_nats._repair import Durable, Repair
from tranship_nats._streams import Streams

__all__ = ["counted"]

_PAGE: Final = 256
"""Consumers per answer of CONSUMER.LIST, as the server has it."""

Levels = Mapping[Priority, int]


async def counted(broker: Broker, js: JetStream, streams: Streams, repair: Repair) -> list[QueueInfo]:
    """Return every queue with something in it.

    Raises:
        BrokerUnreachable, BrokerRefused, StorageFull.
    """
    names = broker.names

    async def counts(kind: str, part: str) -> Mapping[str, Levels]:
        found: dict[str, Counter[Priority]] = defaultdict(Counter)
        subjects = await js.subjects(await streams.need(kind), f"{names.root}.{part}.>")
        for subject, count in subjects.items():
            queue, level = names.place_of(subject)
            found[queue][level] += count
        return found

    async def info(queue: str) -> QueueInfo:
        seen = {level: consumers.get(names.consumer(queue, level), {}) for level in Priority}
        held = {level: one.get("num_ack_pending", 0) for level, one in seen.items()}
        ready = {level: max(0, stored.get(queue, {}).get(level, 0) - held[level]) for level in Priority}
        ages = [await age(names.task(queue, level), seen[level]) for level in Priority if ready[level]]
        late = sum(delayed.get(queue, {}).values())
        oldest = max(ages, default=0.0)
        return QueueInfo(name=queue, ready=ready, delayed=late, in_flight=sum(held.values()), oldest_age=oldest)

    async def age(subject: str, consumer: Mapping[str, Any]) -> float:
        """Return the age of the first message that has not been delivered; of the first at all where all have."""
        undelivered = consumer.get("num_pending", 1)
        begin = consumer.get("delivered", {}).get("stream_seq", 0) + 1 if undelivered else 1
        found = await js.get(names.work, seq=begin, next_by_subj=subject)
        return 0.0 if found is None else max(0.0, broker.clock.now() - found.time)

    stored, delayed, consumers = await asyncio.gather(
        counts("work", "t"), counts("delay", "d"), _consumers(js, streams)
    )
    if await _put_right(names, repair, stored, consumers):
        stored, consumers = await asyncio.gather(counts("work", "t"), _consumers(js, streams))
    return [await info(queue) for queue in sorted({*stored, *delayed})]


async def _put_right(
    names: Names, repair: Repair, stored: Mapping[str, Levels], consumers: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Look closer where not as much is stored as is ready or held; whether the server was wrong."""
    doubtful = []
    for queue, level in ((queue, level) for queue in stored for level in Priority):
        seen = consumers.get(names.consumer(queue, level))
        if seen and stored[queue].get(level, 0) != seen["num_pending"] + seen["num_ack_pending"]:
            doubtful.append(Durable(names.work, names.consumer(queue, level), names.task(queue, level)))
    return any(await asyncio.gather(*map(repair.remove, doubtful)))


async def _consumers(js: JetStream, streams: Streams) -> Mapping[str, Mapping[str, Any]]:
    """Return what the server says of the consumers of the queues, by name."""
    stream = await streams.need("work")
    found: dict[str, Mapping[str, Any]] = {}
    while True:
        answer = await js.make(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        page = answer.get("consumers") or []
        found |= {one["name"]: one for one in page}
        if len(page) < _PAGE:
            return found
