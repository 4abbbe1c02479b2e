"""One claim under way, from the command to deliveries, whether somebody still waits for them or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from redis.exceptions import ResponseError

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Delivery
from tranship_redis._claims import CLAIM, Claim, Claims, Found
from tranship_redis._errors import error_of
from tranship_redis._held import Held
from tranship_redis._holding import Holding
from tranship_redis._keys import Keys
from tranship_redis._link import Link
from tranship_redis._pack import Part
from tranship_redis._scripts import Script
from tranship_redis._selection import Pick
from tranship_redis._wire import Reply

__all__ = ["Claiming"]

_QUARANTINE: Final = Script("quarantine")


class Claiming:
    """Claims for one consumer.

    Args:
        keys: of the backend.
        link: where to claim.
        claims: makes the commands and reads the answers.
        holding: holds what comes.
        heard: called with each answer, in the order of the server's pushes.
    """

    def __init__(
        self, keys: Keys, link: Link, claims: Claims, holding: Holding, heard: Callable[[Claim, Found], None]
    ) -> None:
        self._keys = [keys.unacked, keys.unacked_index, keys.leases, keys.letters, keys.letter_names]
        self._link = link
        self._claims = claims
        self._holding = holding
        self._heard = heard

    async def __call__(self, where: tuple[str, ...] | Pick, limit: int) -> Found:
        """Claim up to ``limit`` messages from all lists of some queues, or from those that were picked.

        Cancelled: what comes all the same is given back.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, ClosedError.
        """
        claims = self._claims
        claim = claims.select(where, limit) if isinstance(where, Pick) else claims.claim(where, limit)
        waiter: asyncio.Future[Found | TranshipError] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            try:
                self._answered(claim, reply, waiter)
            except Exception as error:
                # A reply that cannot be read must not leave its reader waiting.
                if not waiter.done():
                    waiter.set_exception(error)
                raise

        self._holding.post(CLAIM, claim.data, answered)
        try:
            found = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._unwanted(waiter.result())
            raise
        if isinstance(found, TranshipError):
            raise found
        return found

    def _answered(self, claim: Claim, reply: Reply, waiter: asyncio.Future[Found | TranshipError]) -> None:
        if isinstance(reply, Exception):
            return self._arrived(self._error(reply), waiter)
        found = self._claims.read(claim, reply)
        self._holding.add(found.deliveries)
        self._heard(claim, found)
        if found.odd:
            return self._quarantine(found, waiter)
        return self._arrived(found, waiter)

    def _arrived(self, found: Found | TranshipError, waiter: asyncio.Future[Found | TranshipError]) -> None:
        if waiter.done():
            self._unwanted(found)
        else:
            waiter.set_result(found)

    def _unwanted(self, found: Found | TranshipError) -> None:
        if isinstance(found, Found) and found.deliveries:
            self._holding.give_back([one.token for one in found.deliveries])

    def _quarantine(self, found: Found, waiter: asyncio.Future[Found | TranshipError]) -> None:
        """Move what is no JSON out of Celery's way before anybody sees it."""
        args: list[Part] = []
        for delivery in found.odd:
            held: Held = delivery.token
            args += (held.token, held.tag, held.place.queue, held.place.step, "malformed", "this is not JSON")

        def answered(reply: Reply) -> None:
            if isinstance(reply, Exception):
                self._unwanted(found)
                return self._arrived(self._error(reply), waiter)
            self._set_apart(found.odd, reply)
            return self._arrived(found, waiter)

        try:
            self._holding.post(_QUARANTINE, _QUARANTINE.pack(self._keys, args), answered)
        except TranshipError as error:
            answered(error)

    def _set_apart(self, odd: list[Delivery], letters: list[bytes]) -> None:
        for delivery, letter in zip(odd, letters, strict=True):
            held: Held = delivery.token
            if letter:
                self._holding.drop([held])
                delivery.token = Held(letter, b"", held.place, held.number, letter=True)
                self._holding.add([delivery])

    def _error(self, reply: Exception) -> TranshipError:
        if isinstance(reply, ResponseError):
            return error_of(reply, doing=f"{self._link.place}: claiming")
        return reply if isinstance(reply, TranshipError) else BrokerUnreachable(str(reply))
