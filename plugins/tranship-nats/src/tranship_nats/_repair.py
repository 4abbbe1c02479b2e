"""What a killed server gets wrong about a consumer, put right again.

nats-server 2.9 writes down acknowledgements and the removals that they cause at different times. Killed in between, it
comes back with *leftovers*: messages that were acknowledged and are stored again, which nobody will ever get and
everybody counts; and with *debts*: messages that are gone, and for ever in somebody's hands. A debt also holds back the
point up to which everything is acknowledged. Newer servers look for both themselves.

A debt is acknowledged: there is nothing behind it that could get lost. A leftover is deleted, where that is certain:

* below the consumer's ``ack_floor``, or, if nothing is in anybody's hands, below the last message it has delivered;
* if our own definition is what the consumer has: one that was given a limit of deliveries, or another filter, leaves
  messages behind that somebody may want to have;
* if it was stored before this connection was made. A server that lost the end of a stream at a power cut, and not what
  its consumers knew, gives new messages the numbers of lost ones: those are nobody's leftovers, and stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tranship.clocks import Clock
from tranship.errors import TranshipError
from tranship_nats._connection import Ask
from tranship_nats._delivery import ACK
from tranship_nats._errors import CONSUMER_MISSING, STREAM_MISSING
from tranship_nats._jetstream import JetStream

__all__ = ["Durable", "Repair"]

log = logging.getLogger("tranship.nats")

LOOKING: Final = 10.0
"""Seconds that one look may take; the next one goes on where it ended."""
BATCH: Final = 200
MOST: Final = 20_000
"""Holes in a stream that are gone through: with more, a queue that nobody works on lies in front of them."""


@dataclass(frozen=True, slots=True)
class Durable:
    """One durable consumer."""

    stream: str
    name: str
    pattern: str
    """The subjects of its messages."""


class Repair:
    """Looks for leftovers and debts of consumers over one connection, beside whatever else is done.

    Args:
        js: over the connection.
        clock: the server's.
    """

    def __init__(self, js: JetStream, clock: Clock) -> None:
        self._js, self._clock = js, clock
        self._paid: set[Durable] = set()
        """Consumers that were rid of their debts: a server makes them when it starts."""
        self._looking: set[asyncio.Task[bool]] = set()
        js.connection.on_close.append(self._close)

    def look(self, durable: Durable) -> None:
        """Have a consumer looked at, soon."""
        task = asyncio.get_running_loop().create_task(self.remove(durable))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def remove(self, durable: Durable) -> bool:
        """Put a consumer right; whether anything was wrong."""
        try:
            async with asyncio.timeout(LOOKING):
                return await self._remove(durable)
        except (TranshipError, TimeoutError) as error:
            # Only what is counted is wrong meanwhile; and a mere onlooker may not be allowed to.
            log.debug("consumer %s of %s was not put right: %r", durable.name, durable.stream, error)
            return False

    def _close(self) -> None:
        for task in self._looking:
            task.cancel()

    async def _remove(self, durable: Durable) -> bool:
        info = await self._info(durable)
        if info is None or not await self._wrong(durable, info):
            return False
        debts = info["num_ack_pending"] > 0 and await self._acknowledge_debts(durable, info)
        leftovers = await self._delete_leftovers(durable, await self._limit(durable))
        if leftovers:
            log.info(
                "deleted %d messages of %s that were acknowledged before the server ended", leftovers, durable.stream
            )
        return bool(debts or leftovers)

    async def _info(self, durable: Durable) -> Mapping[str, Any] | None:
        """Return what the server says of a consumer; None: it is not there, or not as we make it."""
        verb = f"CONSUMER.INFO.{durable.stream}.{durable.name}"
        info = await self._js.find(verb, CONSUMER_MISSING, STREAM_MISSING)
        config = {} if info is None else info["config"]
        ours = {
            "filter_subject": durable.pattern,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "max_deliver": -1,
        }
        return info if all(config.get(name) == value for name, value in ours.items()) else None

    async def _wrong(self, durable: Durable, info: Mapping[str, Any]) -> bool:
        """Whether more or less is stored than is ready or in somebody's hands; also while tasks come and go."""
        stored = sum((await self._js.subjects(durable.stream, durable.pattern)).values())
        return bool(stored != info["num_pending"] + info["num_ack_pending"])

    async def _acknowledge_debts(self, durable: Durable, info: Mapping[str, Any]) -> bool:
        """Acknowledge what the consumer waits for although it is gone; whether there was anything."""
        if durable in self._paid:
            return False
        stream = await self._js.make(f"STREAM.INFO.{durable.stream}", {})
        if stream["state"].get("num_deleted", 0) > MOST:
            return False
        stream = await self._js.make(f"STREAM.INFO.{durable.stream}", {"deleted_details": True})
        gone = stream["state"].get("deleted") or []
        first, last = info["ack_floor"]["stream_seq"] + 1, info["delivered"]["stream_seq"]
        asks = [_acknowledging(durable, seq) for seq in gone if first <= seq <= last]
        for start in range(0, len(asks), BATCH):
            for answer in await self._js.make_all(asks[start : start + BATCH]):
                if isinstance(answer, TranshipError):
                    raise answer
        self._paid.add(durable)
        now = await self._info(durable)
        return now is not None and now["num_ack_pending"] < info["num_ack_pending"]

    async def _limit(self, durable: Durable) -> int:
        """Return the number up to which nothing of a consumer is to come, nor in anybody's hands; 0: unknown."""
        info = await self._info(durable)
        if info is None:
            return 0
        floor, delivered = int(info["ack_floor"]["stream_seq"]), int(info["delivered"]["stream_seq"])
        if info["num_ack_pending"]:
            return floor
        # Looked at once more: a message that was on its way out just then is in somebody's hands by now.
        again = await self._info(durable)
        return floor if again is None or again["num_ack_pending"] else delivered

    async def _delete_leftovers(self, durable: Durable, limit: int) -> int:
        """Delete what is stored up to a number; return how many."""
        count, batch = 0, list[Ask]()
        async for seq in self._leftovers(durable, limit):
            batch.append(self._js.deleting(durable.stream, seq))
            count += 1
            # One by one: a purge can upset what the server counts for the stream's other consumers. An answer that
            # says no is another one's removal, or the next connection's business.
            if len(batch) == BATCH:
                await self._js.make_all(batch)
                batch.clear()
        await self._js.make_all(batch)
        return count

    async def _leftovers(self, durable: Durable, limit: int) -> AsyncIterator[int]:
        if not limit:
            return
        async for message in self._js.walk(durable.stream, durable.pattern):
            if message.seq > limit:
                return
            if message.time >= self._js.connection.since + self._clock.ahead:
                # Looked at once more: an acknowledgement may just have come, and its removal be under way.
                if await self._js.get(durable.stream, seq=message.seq) is not None:
                    log.warning(_LOST_END, durable.stream, message.seq)
                return
            yield message.seq


def _acknowledging(durable: Durable, seq: int) -> Ask:
    # A delivery's number that no delivery has: the server would conclude from a real one what is acknowledged.
    return f"$JS.ACK.{durable.stream}.{durable.name}.1.{seq}.0.0.0".encode(), b"", ACK


_LOST_END: Final = (
    "messages of %s from %d on are new, and their consumer will not hand them out: the server has lost the end of the "
    "stream, at a power cut perhaps (or its clock is ahead of ours); deleting the consumer while no worker runs, with "
    "`nats consumer rm`, has everything delivered"
)
