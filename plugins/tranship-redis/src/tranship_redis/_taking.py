"""Taking messages over one connection: claims for all consumers, and waking those that have found nothing.

An empty claim has read every list it wants, which makes the server send one ``invalidate`` for the next change of
each, by whoever but ourselves. Where it does not (RESP2, no permission, switched off) consumers look every few
milliseconds instead.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.checks import invalid
from tranship.driver import Slot, Taken, TakenBatch, Undo
from tranship.envelope import Priority
from tranship.errors import TranshipError
from tranship.timers import next_round
from tranship_redis._broker import Broker
from tranship_redis._channel import Channel
from tranship_redis._claims import CLAIM, MOST, Claim, Found, Held
from tranship_redis._errors import Lost, error_of
from tranship_redis._key_warnings import KeyWarnings
from tranship_redis._pack import Part, pack
from tranship_redis._scripts import Script
from tranship_redis._selection import MANY, Pick, Selection, pick_of
from tranship_redis._wire import Reply

__all__ = ["Taking"]

log = logging.getLogger("tranship.redis")

SAFETY: Final = 5.0
"""Seconds after which a waiting consumer looks again even if nothing was heard: a push may get lost."""
FIRST_POLL: Final = 0.005
LONGEST_POLL: Final = 0.05
_LEVELS: Final = len(Priority)
_VIEWS: Final = 256
_PAGE: Final = 1000
_TRACK: Final = pack(b"CLIENT", b"TRACKING", b"ON", b"NOLOOP")
_QUARANTINE: Final = Script("quarantine")
_RELEASE: Final = Script("release")


class _View:
    """What is known of the lists of some queues.

    Args:
        broker: what is known beyond the connection.
        names: of the queues.
        heard: called when something may have come; None: nobody waits.
    """

    def __init__(self, broker: Broker, names: tuple[str, ...], heard: Callable[[], None] | None) -> None:
        self.names, self.all, self.heard = names, frozenset(names), heard
        self.selection = Selection(broker.options, broker.keys, broker.levels, names) if len(names) > MANY else None
        lists = {key for key, _, _ in broker.levels.lists(names)}
        self.keys = frozenset(lists | {broker.keys.delayed(name) for name in names})
        self.emptied: Collection[str] = frozenset()
        """The queues of which the last claim took all that there was, if nothing has come since."""
        self.due = self.again = 0.0
        """When the next delayed message is due, and when to look again whatever is heard, by the loop's clock."""
        self.looks = 0
        """Looks in a row that have found nothing."""
        self.turn = 0

    def ring(self, keys: Collection[bytes] | None) -> None:
        """Something may have come into these lists and schedules; None: into any."""
        self.emptied = frozenset()
        if self.selection is not None:
            self.selection.mark(keys)
        if self.heard is not None:
            self.heard()

    def knows(self, names: tuple[str, ...], now: float) -> bool:
        """Whether a look at these queues would find nothing, as far as the server tells of changes."""
        if now >= self.again or now >= self.due:
            return False
        return self.emptied == frozenset(names) if self.selection is None else not self.selection.open


class Taking:
    """Takes, for the queue of one connection.

    Args:
        broker: what is known beyond the connection.
        main: where what is known of queues is kept.
        work: returns the socket for claims, opened by the first who asks.
    """

    def __init__(self, broker: Broker, main: Channel, work: Callable[[], Awaitable[Channel]]) -> None:
        self._broker, self._main, self._work = broker, main, work
        self._channel: Channel | None = None
        self._tracking = False
        self._watched: list[_View] = []
        self._by_slots: dict[int, tuple[Sequence[Slot], _View]] = {}
        self._others: dict[tuple[str, ...], _View] = {}
        self._last: tuple[Sequence[Slot], tuple[str, ...], _View] | None = None
        self._warnings = KeyWarnings(f"{main.place}: taking from")

    async def start(self, channel: Channel) -> None:
        """Use a new socket for work: be told of changes over it, and give back what was claimed without an answer."""
        if self._broker.options.tracking == "auto" and channel.server.is_resp3:
            channel.post(_TRACK, self._tracked)
        try:
            await self._recover(channel)
        except (TranshipError, Lost) as error:
            log.warning("looking for claims whose answer was lost failed, they come back after their lease: %s", error)

    def _tracked(self, reply: Reply) -> None:
        self._tracking = not isinstance(reply, Exception)
        if isinstance(reply, ResponseError):
            log.warning("the server does not tell of changes, so workers look for themselves: %s", reply)

    # Waking.

    def watch(self, slots: Sequence[Slot], heard: Callable[[], None]) -> Undo:
        """Call ``heard`` when something may have come."""
        view = _View(self._broker, _names(slots), heard)
        self._watched.append(view)
        self._by_slots[id(slots)] = slots, view
        # Inspectors are to know of them; whatever becomes of that, tasks run.
        if view.names and not self._main.is_gone:
            self._main.post(pack(b"SADD", self._broker.keys.queues, *view.names), _ignore)

        def undo() -> None:
            if view in self._watched:
                self._watched.remove(view)
                del self._by_slots[id(slots)]
                self._last = None

        return undo

    def changed(self, frame: Sequence[Any]) -> None:
        """Hear which keys have changed; None: any, because somebody flushed the database."""
        self.ring(frame[1])

    def ring(self, keys: Collection[bytes] | None = None) -> None:
        """Something may have come into these lists and schedules; None: into any."""
        for view in (*self._watched, *self._others.values()):
            if keys is None or not view.keys.isdisjoint(keys):
                view.ring(keys)

    # Taking.

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Claim what is ready, or say that nothing is."""
        channel = self._channel = self._channel or await self._work()
        names, view = self._view(slots)
        loop = asyncio.get_running_loop()
        now = loop.time()
        if wait > 0 and self._tracking and view.knows(names, now):
            return self._nothing(view, now)
        view.again = next_round(now, SAFETY)
        taken: Sequence[Taken]
        if len(slots) != _LEVELS * len(names):
            where = pick_of(self._broker.options, self._broker.keys, self._broker.levels, slots)
            taken = (await self._claim(channel, view, where, limit, names)).taken
        elif view.selection is None:
            taken = await self._take_any(channel, view, names, limit)
        else:
            taken = await self._take_some(channel, view, view.selection, names, limit, look=wait == 0)
        now = loop.time()
        if not taken:
            view.looks += 1
            return self._nothing(view, now)
        view.looks = 0
        if not self._tracking or not view.knows(names, now):
            return TakenBatch(taken)
        return TakenBatch(taken, emptied=True, next_due=min(view.due, view.again) - now)

    def _view(self, slots: Sequence[Slot]) -> tuple[tuple[str, ...], _View]:
        """Return the queues of slots, and what is known of them."""
        if self._last is not None and self._last[0] is slots:
            return self._last[1:]
        names = _names(slots)
        _, view = self._by_slots.get(id(slots), (slots, None))
        if view is None:
            # Some queues of a consumer: what is known of all of them is true of these.
            view = next((one for one in self._watched if one.all.issuperset(names)), None) or self._others.get(names)
        if view is None:
            if len(self._others) >= _VIEWS:
                self._others.clear()
            view = self._others[names] = _View(self._broker, names, None)
        self._last = slots, names, view
        return names, view

    def _nothing(self, view: _View, now: float) -> TakenBatch:
        if self._tracking:
            patience = view.again - now
        else:
            patience = min(LONGEST_POLL, FIRST_POLL * 1.5 ** min(view.looks, 10)) * random.uniform(0.8, 1.2)
        return TakenBatch((), next_due=max(0.0, min(view.due - now, patience)))

    async def _take_any(self, channel: Channel, view: _View, names: tuple[str, ...], limit: int) -> Sequence[Taken]:
        """Claim from all lists."""
        start = view.turn % len(names)
        view.turn += 1
        found = await self._claim(channel, view, names[start:] + names[:start], limit, names)
        view.due = asyncio.get_running_loop().time() + found.due
        if found.promoted:
            self.ring()
        return found.taken

    async def _take_some(
        self, channel: Channel, view: _View, selection: Selection, names: tuple[str, ...], limit: int, *, look: bool
    ) -> Sequence[Taken]:
        """The same with many queues: claim from those that may hold something, until something comes."""
        loop = asyncio.get_running_loop()
        if look:
            selection.mark_queues(names)
        skip = () if len(names) == len(view.names) else view.all - frozenset(names)
        selection.refresh(loop.time(), SAFETY if self._tracking else 0.0)
        while (pick := selection.pick(limit, skip, loop.time())) is not None:
            found = await self._claim(channel, view, pick, limit, names)
            if found.promoted:
                self.ring([self._broker.keys.list(queue.name, 0) for queue in pick.schedules])
            if found.taken:
                return found.taken
        view.due = selection.due
        return ()

    async def _claim(
        self, channel: Channel, view: _View, where: tuple[str, ...] | Pick, limit: int, names: tuple[str, ...]
    ) -> Found:
        """Claim up to ``limit`` messages from all lists of some queues, or from those that were picked."""
        claims = self._broker.claims
        claim = claims.select(where, limit) if isinstance(where, Pick) else claims.claim(where, limit)
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()

        def answered(reply: Reply) -> None:
            if answer.done():
                return
            try:
                answer.set_result(self._answered(view, claim, reply))
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits is to hear it
                answer.set_exception(error)

        channel.hold()
        try:
            channel.post_script(CLAIM, claim.data, answered)
        finally:
            channel.flush()
        found = await answer
        if found.odd:
            await self._quarantine(channel, found)
        if found.trouble:
            self._warn(view, found, names)
        return found

    def _answered(self, view: _View, claim: Claim, reply: Reply) -> Found:
        """Take in what a claim says of its lists, before anything that the server says next."""
        if isinstance(reply, Lost):
            self._broker.lost_claims[claim.suffix] = asyncio.get_running_loop().time()
            raise reply
        if isinstance(reply, ResponseError):
            raise error_of(reply, doing=f"{self._main.place}: claiming")
        if isinstance(reply, Exception):
            raise reply
        found = self._broker.claims.read(claim, reply)
        if claim.pick is None:
            view.emptied = claim.queues if found.emptied else frozenset()
        elif view.selection is not None and found.report is not None:
            view.selection.learn(claim.pick, found.report, asyncio.get_running_loop().time())
        return found

    def _warn(self, view: _View, found: Found, names: tuple[str, ...]) -> None:
        """Raise when a list of every queue cannot be used; else warn of the keys now and then, and serve the rest."""
        queue_of = {key: queue for key, queue, _ in self._broker.levels.lists(names)}
        troubled = {queue_of[key] for key in found.trouble[::2] if key in queue_of}
        if view.selection is not None:
            troubled |= view.selection.troubled
            view.selection.troubled |= troubled
        useless = troubled.issuperset(names)
        for key, error in self._warnings.errors(found.trouble):
            if useless and not found.taken:
                raise error
            self._warnings.warn(key, error)

    async def _quarantine(self, channel: Channel, found: Found) -> None:
        """Move what is no JSON out of Celery's way before anybody sees it."""
        keys, args = self._broker.keys, list[Part]()
        for one in found.odd:
            held: Held = one.token
            args += (held.token, held.tag, held.place.queue, held.place.step, "malformed", "this is not JSON")
        names = [keys.unacked, keys.unacked_index, keys.leases, keys.letters, keys.letter_names]
        try:
            letters = await channel.run(_QUARANTINE, names, args)
        except BaseException:
            self._broker.unreturned.update(one.token.token for one in found.taken if not one.token.letter)
            raise
        for one, letter in zip(found.odd, letters, strict=True):
            if letter:
                one.token = one.token.as_letter(letter)

    # What was claimed without an answer.

    async def _recover(self, channel: Channel) -> None:
        """Give back what was claimed by a command whose answer was lost, or was to be given back by one.

        Claim ids are our own, so that it is found among all leases, instead of being left to the end of its lease. Only
        a claim that reaches the server later than this, over the old connection, has to wait for that, and is counted
        then; unless there is another connection before.
        """
        broker = self._broker
        oldest = asyncio.get_running_loop().time() - broker.options.lease
        broker.lost_claims = {one: at for one, at in broker.lost_claims.items() if at > oldest}
        lost, tokens = tuple(broker.lost_claims), dict.fromkeys(broker.unreturned)
        if lost:
            tokens |= dict.fromkeys(await self._found(channel, lost))
        ordered = list(tokens)
        keys = broker.keys
        names = [keys.unacked, keys.unacked_index, keys.leases, keys.letters, keys.letter_names]
        for start in reversed(range(0, len(ordered), MOST)):
            part = ordered[start : start + MOST]
            await channel.run(_RELEASE, names, [len(part), *part])
        broker.unreturned.difference_update(ordered)
        if ordered:
            self.ring()
            log.debug("gave back %d claims whose answer was lost", len(ordered))

    async def _found(self, channel: Channel, suffixes: tuple[bytes, ...]) -> list[bytes]:
        """Return the tokens of claims, in the order in which they were made."""
        pattern = b"*\0" + self._broker.claims.id.encode() + b"-*"
        found: dict[bytes, float] = {}
        cursor = b"0"
        while True:
            page: list[bytes]
            cursor, page = await channel.call(
                b"ZSCAN", self._broker.keys.leases, cursor, "MATCH", pattern, "COUNT", _PAGE
            )
            pairs = zip(page[::2], map(float, page[1::2]), strict=True)
            found.update((token, score) for token, score in pairs if token.endswith(suffixes))
            if cursor == b"0":
                return sorted(found, key=found.__getitem__)


def _names(slots: Sequence[Slot]) -> tuple[str, ...]:
    """Return the queues of slots.

    Raises:
        InvalidOptionError: a name with a zero character or half a character in it.
    """
    names = tuple(dict.fromkeys(queue for queue, _ in slots))
    for name in names:
        try:
            usable = b"\0" not in name.encode()
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise invalid("queue", name, "a name without zero characters and half characters")
    return names


def _ignore(_reply: Reply) -> None:
    pass
