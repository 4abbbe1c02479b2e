"""What a killed server gets wrong about a consumer, put right again.

nats-server 2.9 writes down acknowledgements and the removals that they cause at different times. Killed in between, it
comes back with *ghosts*: messages that were acknowledged and are stored again, which nobody will ever get and everybody
counts; and with *phantoms*: messages that are gone, and for ever in somebody's hands. A phantom also holds the point
back up to which everything is acknowledged. Newer servers look for both themselves.

A phantom is acknowledged: there is nothing behind it that could get lost. A ghost is deleted, where that is certain:

* below the consumer's ``ack_floor``, or, if nothing is in anybody's hands, below the last message it has delivered;
* if our own definition is what the consumer has: one that was given a limit of deliveries, or another filter, leaves
  messages behind that somebody may want to have;
* if it was stored before this connection was made. A server that lost the end of a stream at a power cut, and not what
  its consumers knew, gives new messages the numbers of lost ones: those are nobody's ghosts, and stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tranship.clocks import Clock
from tranship.errors import TranshipError
from tranship_nats._api import Api
from tranship_nats._asks import Ask
from tranship_nats._errors import CONSUMER_MISSING, STREAM_MISSING
from tranship_nats._held import ACK
from tranship_nats._link import Link

__all__ = ["Ghosts", "Place"]

log = logging.getLogger("tranship.nats")

PATIENCE: Final = 10.0
"""Seconds that one look may take; the next one goes on where it ended."""
BATCH: Final = 200
MOST: Final = 20_000
"""Holes in a stream that are gone through: with more, a queue that nobody works on lies in front of them."""


@dataclass(frozen=True, slots=True)
class Place:
    """One consumer."""

    stream: str
    consumer: str
    pattern: str
    """The subjects of its messages."""


class Ghosts:
    """Looks for ghosts and phantoms of consumers, beside whatever else is done.

    Args:
        api: of ``link``.
        link: the backend's.
        clock: the server's.
    """

    def __init__(self, api: Api, link: Link, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._link = link
        self._rid: dict[Place, int] = {}
        """Over which connection each consumer was rid of its phantoms: a server makes them when it starts."""
        self._looking: set[asyncio.Task[bool]] = set()

    def look(self, place: Place) -> None:
        """Have a consumer looked at, soon."""
        task = asyncio.get_running_loop().create_task(self.remove(place))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def remove(self, place: Place) -> bool:
        """Put a consumer right; whether anything was wrong."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._remove(place)
        except (TranshipError, TimeoutError) as error:
            # Only what is counted is wrong meanwhile; and a mere onlooker may not be allowed to.
            log.debug("consumer %s of %s was not put right: %r", place.consumer, place.stream, error)
            return False

    async def aclose(self) -> None:
        """Look no more."""
        for task in self._looking:
            task.cancel()
        if self._looking:
            await asyncio.wait(self._looking)

    async def _remove(self, place: Place) -> bool:
        info = await self._info(place)
        if info is None or not await self._wrong(place, info):
            return False
        phantoms = info["num_ack_pending"] > 0 and await self._acknowledge_phantoms(place, info)
        ghosts = await self._delete_ghosts(place, await self._limit(place))
        if ghosts:
            log.info("deleted %d messages of %s that were acknowledged before the server ended", ghosts, place.stream)
        return bool(phantoms or ghosts)

    async def _info(self, place: Place) -> Mapping[str, Any] | None:
        """Return what the server says of a consumer; None: it is not there, or not as we make it."""
        verb = f"CONSUMER.INFO.{place.stream}.{place.consumer}"
        info = await self._api.find(verb, CONSUMER_MISSING, STREAM_MISSING)
        config = {} if info is None else info["config"]
        ours = {
            "filter_subject": place.pattern,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "max_deliver": -1,
        }
        return info if all(config.get(name) == value for name, value in ours.items()) else None

    async def _wrong(self, place: Place, info: Mapping[str, Any]) -> bool:
        """Whether more or less is stored than is ready or in somebody's hands; also while tasks come and go."""
        stored = sum((await self._api.subjects(place.stream, place.pattern)).values())
        return bool(stored != info["num_pending"] + info["num_ack_pending"])

    async def _acknowledge_phantoms(self, place: Place, info: Mapping[str, Any]) -> bool:
        """Acknowledge what the consumer waits for although it is gone; whether there was anything."""
        generation = self._link.generation
        if self._rid.get(place) == generation:
            return False
        stream = await self._api.make(f"STREAM.INFO.{place.stream}", {})
        if stream["state"].get("num_deleted", 0) > MOST:
            return False
        stream = await self._api.make(f"STREAM.INFO.{place.stream}", {"deleted_details": True})
        gone = stream["state"].get("deleted") or []
        first, last = info["ack_floor"]["stream_seq"] + 1, info["delivered"]["stream_seq"]
        asks = [_acknowledging(place, seq) for seq in gone if first <= seq <= last]
        for start in range(0, len(asks), BATCH):
            for answer in await self._api.make_all(asks[start : start + BATCH]):
                if isinstance(answer, TranshipError):
                    raise answer
        self._rid[place] = generation
        now = await self._info(place)
        return now is not None and now["num_ack_pending"] < info["num_ack_pending"]

    async def _limit(self, place: Place) -> int:
        """Return the number up to which nothing of a consumer is to come, nor in anybody's hands; 0: unknown."""
        info = await self._info(place)
        if info is None:
            return 0
        floor, delivered = int(info["ack_floor"]["stream_seq"]), int(info["delivered"]["stream_seq"])
        if info["num_ack_pending"]:
            return floor
        # Looked at once more: a message that was on its way out just then is in somebody's hands by now.
        again = await self._info(place)
        return floor if again is None or again["num_ack_pending"] else delivered

    async def _delete_ghosts(self, place: Place, limit: int) -> int:
        """Delete what is stored up to a number; return how many."""
        count, batch = 0, list[Ask]()
        async for seq in self._ghosts(place, limit):
            batch.append(self._api.deleting(place.stream, seq))
            count += 1
            # One by one: a purge can upset what the server counts for the stream's other consumers. An answer that
            # says no is another one's removal, or the next connection's business.
            if len(batch) == BATCH:
                await self._api.make_all(batch)
                batch.clear()
        await self._api.make_all(batch)
        return count

    async def _ghosts(self, place: Place, limit: int) -> AsyncIterator[int]:
        if not limit:
            return
        async for message in self._api.walk(place.stream, place.pattern):
            if message.seq > limit:
                return
            if message.time >= self._link.since + self._clock.ahead:
                # Looked at once more: an acknowledgement may just have come, and its removal be under way.
                if await self._api.get(place.stream, seq=message.seq) is not None:
                    log.warning(_LOST_END, place.stream, message.seq)
                return
            yield message.seq


def _acknowledging(place: Place, seq: int) -> Ask:
    # A delivery's number that no delivery has: the server would conclude from a real one what is acknowledged.
    return f"$JS.ACK.{place.stream}.{place.consumer}.1.{seq}.0.0.0".encode(), b"", ACK


_LOST_END: Final = (
    "messages of %s from %d on are new, and their consumer will not hand them out: the server has lost the end of the "
    "stream, at a power cut perhaps (or its clock is ahead of ours); deleting the consumer while no worker runs, with "
    "`nats consumer rm`, has everything delivered"
)
