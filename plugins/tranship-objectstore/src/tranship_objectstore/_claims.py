"""The claim check: bodies and results that are too large for a broker are kept in the store, and a claim is sent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tranship import codec
from tranship.envelope import Claim
from tranship.errors import EncodeError, MalformedMessage, MessageTooLarge
from tranship_objectstore._directories import plain_name
from tranship_objectstore._errors import ObjectRefused
from tranship_objectstore._keys import until
from tranship_objectstore._location import location_of
from tranship_objectstore._store import PART, ObjectStore

__all__ = ["Claims"]


class Claims:
    """Keeps what is larger than a threshold, and fetches it again.

    Args:
        store: where.
        threshold: bytes of JSON that are still sent.
        largest: bytes of what is kept at most; it is in memory as a whole.
        ttl: seconds that it is kept.
        turn: what a transfer waits for, so that only some go on at once.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        threshold: int | None,
        largest: int,
        ttl: float,
        turn: Callable[[], AbstractAsyncContextManager[Any]],
    ) -> None:
        self._store = store
        self._folder = store.root.under("claims")
        self._threshold = threshold
        self._largest = largest
        self._ttl = ttl
        self._turn = turn

    async def deposit(self, value: Any, task_id: str, what: str, needed: float = 0.0) -> Claim | None:
        """Return the claim for ``value``; None: it is small enough, or the codec refuses it, which says so itself.

        Args:
            value: what is to be sent.
            task_id: whose it is.
            what: it is: ``"body"`` or ``"result"``.
            needed: epoch seconds until which it is needed in any case.

        Raises:
            MessageTooLarge: it is larger than is kept.
            ObjectStoreError: it cannot be kept.
        """
        if self._threshold is None or self._written(value, task_id, what) is None:
            return None
        # Written once more when it is its turn: of those that wait none is in memory twice.
        async with self._turn():
            written = self._written(value, task_id, what)
            assert written is not None
            name = f"{plain_name(task_id)}-{what}-{secrets.token_hex(4)}.json"
            place = self._folder.under(until(max(time.time() + self._ttl, needed)), name)
            await self._store.upload(place, written)
            return Claim(place.uri, len(written))

    async def redeem(self, claim: Claim) -> Any:
        """Return what ``claim`` stands for.

        Raises:
            ObjectRefused: it is not kept by this store, too large, or nothing that was kept by one of us.
            ObjectStoreError: it cannot be had.
        """
        place = location_of(claim.uri)
        if not self._folder.holds(place):
            raise ObjectRefused(
                f"{place.uri} is not below {self._folder.uri}; give sender, worker and client the same store"
            )
        self._check(claim.size, place.uri)
        async with self._turn():
            found = await self._store.find(place)
            self._check(found.size, place.uri)
            written = bytearray()
            while len(written) < found.size:
                written += await self._store.read(found, len(written), min(len(written) + PART, found.size))
            try:
                return codec.loads(bytes(written), codec.JSON)
            except MalformedMessage as error:
                raise ObjectRefused(f"{place.uri} cannot be read: {error}") from None

    def _written(self, value: Any, task_id: str, what: str) -> bytes | None:
        assert self._threshold is not None
        try:
            written = codec.dumps(value, codec.JSON, name=what)
        except EncodeError:
            return None
        size = len(written)
        if size <= self._threshold:
            return None
        if size > self._largest:
            raise MessageTooLarge(
                f"the {what} of task {task_id} has {size} bytes; expected at most {self._largest} (max_body_size); "
                "write it to a file and pass the file",
                size=size,
                limit=self._largest,
                task_id=task_id,
            )
        return written

    def _check(self, size: int, uri: str) -> None:
        if size > self._largest:
            raise ObjectRefused(f"{uri} has {size} bytes; expected at most {self._largest} (max_body_size)")
