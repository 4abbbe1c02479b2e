"""What one consumer holds: renewed, given back, and what it holds without knowing found again.

An answer that is lost with the connection may leave claims behind that nobody knows of. Claim ids begin with the
consumer's own, so after a lost answer it looks for its claims among all leases and gives back those it does not
hold, instead of leaving them to the end of their lease. Only a claim that reaches the server later than that, over
the old connection, has to wait for its lease to end, and is counted then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import Delivery
from tranship_redis._context import Context
from tranship_redis._errors import Lost, error_of
from tranship_redis._held import MOST, Held, microseconds
from tranship_redis._link import Link
from tranship_redis._scripts import Script
from tranship_redis._wire import Reply

__all__ = ["Holding"]

log = logging.getLogger("tranship.redis")

_EXTEND: Final = Script("extend")
_RELEASE: Final = Script("release")
_PAGE: Final = 1000


class Holding:
    """The deliveries of one consumer that have not been settled.

    Args:
        ctx: the backend's.
        link: where they came from.
        name: begins the consumer's claim ids.
        returned: called with the lists that something has been given back to, of which the server does not tell us.
    """

    def __init__(self, ctx: Context, link: Link, name: str, returned: Callable[[Collection[bytes]], None]) -> None:
        keys = ctx.keys
        self._keys = keys
        self._release_keys = [keys.unacked, keys.unacked_index, keys.leases, keys.letters, keys.letter_names]
        self._link = link
        self._name = name.encode()
        self._lease = microseconds(ctx.options.lease)
        self._returned = returned
        self._held: dict[bytes, Held] = {}
        self._unheard = False
        self._under_way: set[asyncio.Future[Reply]] = set()

    def __len__(self) -> int:
        """How many."""
        return len(self._held)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Hold ``deliveries``."""
        for delivery in deliveries:
            self._held[delivery.token.token] = delivery.token

    def drop(self, ended: Iterable[Held]) -> None:
        """They are not ours any more."""
        for one in ended:
            self._held.pop(one.token, None)

    def post(self, script: Script, data: bytes, then: Callable[[Reply], object]) -> None:
        """Post a script that changes what is held; :meth:`aclose` waits for its answer.

        Raises:
            BrokerUnreachable, BrokerRefused, ClosedError: it was not sent.
        """
        done = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            self._under_way.discard(done)
            self._unheard = self._unheard or isinstance(reply, Lost)
            try:
                then(reply)
            finally:
                done.set_result(None)

        self._link.hold()
        try:
            self._link.post_script(script, data, answered)
        finally:
            self._link.flush()
        self._under_way.add(done)

    async def extend(self, deliveries: Sequence[Held]) -> list[bool]:
        """Renew leases; those that were lost are not held any more."""
        leased = [one for one in deliveries if not one.letter]
        parts = [leased[start : start + MOST] for start in range(0, len(leased), MOST)]
        renewed = {one.token for part in await asyncio.gather(*map(self._extend, parts)) for one in part}
        answers = [one.letter or one.token in renewed for one in deliveries]
        self.drop(one for one, ours in zip(deliveries, answers, strict=True) if not ours)
        return answers

    async def release(self, deliveries: Iterable[Held]) -> None:
        """Give deliveries back, at the front of their lists.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull: they come back later.
        """
        answers = [self._later(data, lists) for data, lists in self._releases(deliveries)]
        for answer in await asyncio.gather(*answers):
            if isinstance(answer, TranshipError):
                raise answer

    def give_back(self, deliveries: Iterable[Held]) -> None:
        """The same without waiting; what fails is logged."""
        for data, lists in self._releases(deliveries):
            self._later(data, lists).add_done_callback(_log_failure)

    async def recover(self) -> None:
        """Connected again: give back what was claimed by a command whose answer was lost."""
        if not self._unheard:
            return
        try:
            tokens = [token for token in await self._find() if token not in self._held]
            for start in reversed(range(0, len(tokens), MOST)):
                part = tokens[start : start + MOST]
                await self._link.run(_RELEASE, self._release_keys, [len(part), *part])
                self._returned({token.partition(b"\0")[0] for token in part})
        except TranshipError as error:
            log.warning("looking for claims whose answer was lost failed, they come back after their lease: %s", error)
        except Exception:
            # A hook that raises would give every new connection up.
            log.exception("looking for claims whose answer was lost failed in an unexpected way")
        else:
            self._unheard = False
            log.debug("gave back %d claims whose answer was lost", len(tokens))

    async def aclose(self) -> None:
        """Wait for what is under way, then give everything back."""
        while self._under_way:
            await asyncio.wait(set(self._under_way))
        self.give_back(list(self._held.values()))
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _extend(self, deliveries: Sequence[Held]) -> list[Held]:
        keys = [self._keys.unacked, self._keys.unacked_index, self._keys.leases]
        tokens, tags = [one.token for one in deliveries], [one.tag for one in deliveries]
        said = await self._link.run(_EXTEND, keys, [self._lease, len(deliveries), *tokens, *tags])
        return [one for one, answer in zip(deliveries, said, strict=True) if answer == ord("1")]

    def _releases(self, deliveries: Iterable[Held]) -> Iterator[tuple[bytes, frozenset[bytes]]]:
        """Return commands and the lists they push to, to be posted in this order.

        Each goes to the front, so what was taken last goes first.
        """
        ordered = sorted(deliveries, key=attrgetter("number"))
        self.drop(ordered)
        for start in reversed(range(0, len(ordered), MOST)):
            part = ordered[start : start + MOST]
            tokens = [one.token for one in part if not one.letter]
            letters = [value for one in part if one.letter for value in (one.place.key, one.token)]
            lists = frozenset(one.place.key for one in part)
            yield _RELEASE.pack(self._release_keys, [len(tokens), *tokens, *letters]), lists

    def _later(self, data: bytes, lists: Collection[bytes]) -> asyncio.Future[TranshipError | None]:
        """Post a release; the future is resolved with what went wrong."""
        outcome: asyncio.Future[TranshipError | None] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            self._returned(lists)
            if not outcome.done():
                outcome.set_result(self._failure(reply))

        try:
            self.post(_RELEASE, data, answered)
        except TranshipError as error:
            self._unheard = True
            outcome.set_result(error)
        return outcome

    def _failure(self, reply: Any) -> TranshipError | None:
        if isinstance(reply, TranshipError | Lost):
            self._unheard = True
            return reply if isinstance(reply, TranshipError) else BrokerUnreachable(str(reply))
        if not isinstance(reply, ResponseError):
            refusal = reply[1].decode(errors="replace")
            if not refusal:
                return None
            reply = ResponseError(refusal)
        return error_of(reply, doing=f"{self._link.place}: giving deliveries back")

    async def _find(self) -> list[bytes]:
        """Return the tokens of all our claims, in the order in which they were made."""
        pattern = b"*\0" + self._name + b"-*"
        found: dict[bytes, float] = {}
        cursor = b"0"
        while True:
            cursor, page = await self._link.call(b"ZSCAN", self._keys.leases, cursor, "MATCH", pattern, "COUNT", _PAGE)
            found.update(zip(page[::2], map(float, page[1::2]), strict=True))
            if cursor == b"0":
                return sorted(found, key=found.__getitem__)


def _log_failure(outcome: asyncio.Future[TranshipError | None]) -> None:
    if not outcome.cancelled() and (error := outcome.result()) is not None:
        log.warning("deliveries could not be given back, and come again after their lease: %s", error)
