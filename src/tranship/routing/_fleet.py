"""All brokers of one router: who may be asked, who is next, and asking several at once."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from tranship.errors import BrokerError, BrokerRefused, BrokerUnreachable, ClosedError, TranshipError
from tranship.ports import Backend, Capabilities
from tranship.routing._background import Background
from tranship.routing._balance import Turns, rank
from tranship.routing._member import Member
from tranship.routing._options import RoutingOptions
from tranship.routing._status import BrokerStatus, Counts, RoutingStatus

__all__ = ["Fleet"]

log = logging.getLogger("tranship.routing")

T = TypeVar("T")


class Fleet:
    """The brokers in their order, with what everything of one router shares.

    Mutable state: which one is in use (``failover``), whose turn it is (``round-robin``), counts, and who waits for
    a broker to come or go.

    Args:
        members: the brokers, the preferred one first.
        options: the router's.
        in_turn: whether tasks are spread over them; else they go to one.
        background: where work goes on.
        url: the router's, without secrets.
    """

    def __init__(
        self, members: Sequence[Member], options: RoutingOptions, background: Background, *, in_turn: bool, url: str
    ) -> None:
        self.members: tuple[Member, ...] = tuple(members)
        self.options = options
        self.background = background
        self.url = url
        self.in_turn = in_turn
        self.counts: Counts = Counts()
        self.capabilities: Capabilities = Capabilities({})
        """Of all of them together; known once open."""
        self.max_message_size: int = sys.maxsize
        """The smallest limit of the brokers that have been open."""
        self.is_open = False
        self._active = self.members[0]
        self._turns = Turns({one: one.weight for one in members})
        self._places = {one: (one.place, one.weight) for one in members}
        self._watchers: set[asyncio.Future[None]] = set()

    def check(self) -> None:
        """Refuse to work while closed.

        Raises:
            ClosedError: not opened yet, or closed.
        """
        if not self.is_open:
            raise ClosedError(f"{self.url} is not open; await open() first, or make a new backend after aclose()")

    def usable(self) -> list[Member]:
        """The brokers that may be asked for something, in their order."""
        return [one for one in self.members if one.usable]

    # Who is next.

    def next(self, there: Sequence[Member]) -> Member:
        """Who of ``there`` (not empty) gets the next task."""
        return self._turns.next(there) if self.in_turn else self._in_use(there)

    def home(self, key: str, there: Sequence[Member]) -> Member:
        """Where everything with ``key`` belongs, among ``there`` (not empty), whoever asks."""
        order: Iterable[Member] = rank(key, self._places) if self.in_turn else self.members
        return next(one for one in order if one in there)

    def _in_use(self, there: Sequence[Member]) -> Member:
        """Stay with the broker in use for as long as it works; go back to a better one when it is well again."""
        now, patience = time.monotonic(), self.options.fail_back
        chosen = self._active if self._active in there else there[0]
        for better in there[: there.index(chosen)]:
            if patience is not None and better.breaker.healthy_for(now) >= patience:
                chosen = better
                break
        if chosen is not self._active:
            self.counts.switches += 1
            log.warning("tasks go to broker %s now, no longer to %s", chosen.url, self._active.url)
            self._active = chosen
        return chosen

    # Coming and going.

    def news(self) -> asyncio.Future[None]:
        """A future that is done when a broker has come or gone; cancel it when it is not needed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.add(future)
        future.add_done_callback(self._watchers.discard)
        return future

    def announce(self) -> None:
        """A broker has come or gone."""
        for future in tuple(self._watchers):
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait up to ``seconds`` for ``condition``, which only changes when a broker comes or goes; what it is."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            news = self.news()
            try:
                await asyncio.wait({news}, timeout=left)
            finally:
                news.cancel()
        return condition()

    def nobody(self, doing: str) -> BrokerUnreachable:
        """The error for a moment in which no broker can be used."""
        causes = "; ".join(f"{one.url}: {one.cause or one.breaker.state}" for one in self.members if not one.usable)
        return BrokerUnreachable(f"{doing} is not possible, no broker of {len(self.members)} can be used: {causes}")

    def none_opened(self) -> TranshipError:
        """The error for an opening in which every broker failed."""
        causes = [one.cause for one in self.members]
        text = "; ".join(f"{one.url}: {one.cause}" for one in self.members)
        permanent = all(cause is not None and not cause.retryable for cause in causes)
        kind = BrokerRefused if permanent else BrokerUnreachable
        return kind(f"none of the {len(causes)} brokers can be opened: {text}")

    # Asking several.

    async def each(
        self, members: Iterable[Member], work: Callable[[Member, Backend], Awaitable[T]]
    ) -> Mapping[Member, T | TranshipError]:
        """Do ``work`` with each of ``members`` at once; what each answered, or the error."""
        asked = list(members)
        answers = await asyncio.gather(*(self._one(one, work) for one in asked))
        return dict(zip(asked, answers, strict=True))

    async def all_usable(self, doing: str, work: Callable[[Backend], Awaitable[T]]) -> Mapping[Member, T]:
        """Do ``work`` with every usable broker; the answers of those that gave one.

        Raises:
            BrokerUnreachable: there is none, or none has answered.
            TranshipError: what one of them said that is not about the broker itself.
        """
        self.check()
        found = await self.each(self.usable(), lambda _member, backend: work(backend))
        good = {one: answer for one, answer in found.items() if not isinstance(answer, TranshipError)}
        for one, answer in found.items():
            if isinstance(answer, TranshipError):
                if not isinstance(answer, BrokerError | ClosedError):
                    raise answer
                log.warning("%s: broker %s is left out: %s", doing, one.url, answer)
        self.check()
        if not good:
            raise self.nobody(doing)
        return good

    @staticmethod
    async def _one(member: Member, work: Callable[[Member, Backend], Awaitable[T]]) -> T | TranshipError:
        try:
            return await member.call(lambda backend: work(member, backend))
        except TranshipError as error:
            return error

    def status(self) -> RoutingStatus:
        """A snapshot."""
        counts = self.counts
        return RoutingStatus(
            brokers=[self._status(one) for one in self.members],
            republished=counts.republished,
            duplicates=counts.duplicates,
            ran_twice=counts.ran_twice,
            switches=counts.switches,
        )

    def _status(self, one: Member) -> BrokerStatus:
        return BrokerStatus(
            url=one.url,
            weight=one.weight,
            circuit=one.breaker.state,
            active=one.usable and (self.in_turn or one is self._active),
            accepted=one.accepted,
            failures=one.failures,
            problem=None if one.usable else str(one.cause or one.breaker.state),
            backend=one.backend,
        )
