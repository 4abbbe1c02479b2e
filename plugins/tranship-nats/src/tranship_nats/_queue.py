"""The queues: tasks in one stream with a durable consumer for each level of each queue, and a schedule beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from tranship.driver import Answer as Sent
from tranship.driver import End, Ending, Outgoing, QueueTraits, SendLimits, Slot, Stored, Taken, TakenBatch
from tranship.envelope import Priority
from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship.ports import CountKind, QueueInfo, Settled
from tranship_nats._backlog import Backlog
from tranship_nats._broker import Broker
from tranship_nats._connection import Answer, Ask
from tranship_nats._consumers import Consumers, Place, place_at
from tranship_nats._counting import counted
from tranship_nats._delivery import ACK, NAK, PROGRESS, Token, told_by
from tranship_nats._errors import Lost, again, error_in, no_responders
from tranship_nats._jetstream import JetStream, Seen
from tranship_nats._message import RESERVE, block_of, copied, escaped, frame
from tranship_nats._pulling import Inbox, Pull
from tranship_nats._repair import Durable, Repair
from tranship_nats._schedule import Schedule
from tranship_nats._streams import Streams

__all__ = ["NatsQueue"]

log = logging.getLogger("tranship.nats")

SUSPECT: Final = 3
"""Delivered this often, a message goes back as a copy: the server would count that it was here in vain."""
GRACE: Final = 0.1
"""Seconds that a message may lie here while nobody takes: idle workers elsewhere would have it."""
PAUSE: Final = 0.2
"""Seconds between two attempts at a server that answers with errors, or not at all."""
BELIEVED: Final = 0.9
"""The share of a lease that counts here. The server counts from when it sent the message, and who renews too late is
told that it was done, although somebody else has the task."""
CHECK: Final = 2.0
"""Seconds that looking after the consumers may take at least."""


class NatsQueue:
    """See :class:`tranship.driver.Queue`.

    Args:
        broker: what is known beyond the connection.
        js: over the connection.
        streams: over the connection.
    """

    def __init__(self, broker: Broker, js: JetStream, streams: Streams) -> None:
        self._broker, self._js, self._streams, self._connection = broker, js, streams, js.connection
        self._loop = asyncio.get_running_loop()
        self.consumers = Consumers(js, streams, broker.options, broker.leases)
        self.repair = Repair(js, broker.clock)
        self.schedule, self.backlog = Schedule(broker, js, streams, self.repair), Backlog(broker, js)
        self._places: dict[Slot, Place] = {}
        self._ready: set[Place] = set()
        """Places whose consumers have been there, over this connection."""
        self._idle: list[Inbox] = []
        self._pulls: dict[Pull, Sequence[Slot]] = {}
        """What waits, and for which slots, as they were given."""
        self._late: list[Token] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        js.connection.lost.add_done_callback(self._lost)
        js.connection.on_close.append(self._close)

    @property
    def traits(self) -> QueueTraits:
        """What the server does; the lease is that which its consumers have, as far as they are known."""
        size = max(1, self._connection.max_payload - RESERVE)
        return QueueTraits(
            lease=min([self._broker.options.lease, *self._broker.leases.values()]),
            counts=CountKind.AT_LEAST,
            order="keeps-place",
            levels=True,
            waits=True,
            delays=True,
            unique=True,
            finds="delayed",
            limits=SendLimits(message=size),
        )

    # Sending.

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Sent]:
        """Publish each message under an id that the server recognises."""
        now = self._broker.clock.now()
        kinds = [_kind(one, now) for one in batch]
        for kind in dict.fromkeys(kinds):
            await self._streams.need(kind)
        answers = await self._connection.ask_all(self._publishing(batch, kinds))
        return [self._sent(one, kind, answer) for one, kind, answer in zip(batch, kinds, answers, strict=True)]

    def post(self, batch: Sequence[Outgoing], done: Callable[[Sequence[Sent] | Exception], None]) -> None:
        """Do the same without a task, where the streams are known to be there."""
        now = self._broker.clock.now()
        kinds = [_kind(one, now) for one in batch]
        if any(kind not in self._streams.found for kind in kinds) or self._connection.lost.done():
            task = self._loop.create_task(self.send(batch))
            self._tasks.add(task)
            task.add_done_callback(partial(self._sent_all, done))
            return

        def answered(answers: Sequence[Answer]) -> None:
            done([self._sent(one, kind, answer) for one, kind, answer in zip(batch, kinds, answers, strict=True)])

        self._connection.ask(self._publishing(batch, kinds), answered)

    def _sent_all(self, done: Callable[[Sequence[Sent] | Exception], None], task: asyncio.Task[Sequence[Sent]]) -> None:
        self._tasks.discard(task)
        error = Lost("the connection was closed") if task.cancelled() else task.exception()
        done(error if isinstance(error, Exception) else task.result())

    def _publishing(self, batch: Sequence[Outgoing], kinds: Sequence[str]) -> list[Ask]:
        asks: list[Ask] = []
        for one, kind in zip(batch, kinds, strict=True):
            # No task's id is written with "%:", so that none is mistaken for what was sent under its id later.
            msg_id = escaped(one.id) if one.mark is None else b"%%:%b" % escaped(f"{one.mark}:{one.id}")
            if kind == "work":
                asks.append((self._place(one.slot).subject, *block_of(one.message, msg_id)))
            else:
                subject = self._broker.names.delayed(*one.slot, one.id, one.ready)
                asks.append((subject.encode(), *block_of(one.message, msg_id, not_before=one.ready)))
        return asks

    def _sent(self, message: Outgoing, kind: str, answer: Answer) -> Sent:
        if isinstance(answer, tuple) and answer[1].startswith(b'{"stream"') and b'"duplicate"' not in answer[1]:
            return None
        try:
            self._streams.stored(kind, answer)
        except Lost as lost:
            unknown = SubmitUnknown(f"the answer was lost: {lost}", task_id=message.id)
            unknown.__cause__ = lost
            return unknown
        except TranshipError as error:
            error.task_id = message.id
            return error
        return message.id

    # Taking.

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:
        """Look level by level; if there is nothing, leave a request at each, and return what comes first."""
        self.schedule.start()
        until = self._loop.time() + wait
        places = [self._place(slot) for slot in slots]
        try:
            ready = await self._ensured(places, wait)
        except BrokerUnreachable as error:
            # A server that leaves, or has lost its stream, is asked again, or the next one.
            if wait < PAUSE or self._connection.lost.done():
                raise
            log.debug("nothing can be received now, trying again: %s", error)
            ready = False
        if not ready:
            await asyncio.sleep(min(wait, PAUSE))
            return TakenBatch(confirmed=False)
        tokens, heard = await self._pulled(slots, places, limit, until)
        return TakenBatch([token.taken() for token in tokens], confirmed=heard)

    def interrupt(self, slots: Sequence[Slot]) -> None:
        """End the waiting of the take that was given ``slots``."""
        for pull, asked in self._pulls.items():
            if asked is slots:
                pull.interrupt()

    async def _pulled(
        self, slots: Sequence[Slot], places: Sequence[Place], limit: int, until: float
    ) -> tuple[list[Token], bool]:
        """Return what was there, or came, and whether the server answered."""
        if late := self._taken_late(places):
            return late, True
        inbox = self._idle.pop() if self._idle else Inbox(self._connection, self._came_late)
        pull = Pull(self._connection, places, inbox, self._read)
        self._pulls[pull] = slots
        waited = False
        try:
            heard = await pull.sweep(limit)
            left = until - self._loop.time()
            if heard and not pull.tokens and not pull.troubled and left > 0:
                waited = True
                heard = await pull.wait(left)
        except BaseException:
            await self._abandon(inbox, pull)
            raise
        finally:
            del self._pulls[pull]
        self._ready -= pull.troubled
        if heard and not waited:
            inbox.rest()
            self._idle.append(inbox)
        else:
            self._leave(inbox, pull)
        if not heard or pull.troubled:
            await self._rest(until, pull)
        return pull.tokens, heard

    async def _abandon(self, inbox: Inbox, pull: Pull) -> None:
        """Give back what a take has brought that nobody wants any more, and what was under way."""
        with suppress(TranshipError):
            inbox.leave(late=False)
            await self._connection.settled()
            await self.end([Ending(token, End.RELEASE) for token in pull.tokens])

    async def _rest(self, until: float, pull: Pull) -> None:
        """Wait a little before the server is asked again."""
        if pull.troubled:
            self._streams.found.pop("work", None)
        if not pull.tokens:
            await asyncio.sleep(max(0.0, min(until - self._loop.time(), PAUSE)))

    def _leave(self, inbox: Inbox, pull: Pull) -> None:
        if not self._connection.lost.done():
            inbox.leave()
            # The server has to forget the pulls that were left.
            self._forget(list(pull.open))

    def _forget(self, places: Sequence[Place]) -> None:
        """Make the server forget requests that nobody waits for any more.

        A pull whose inbox has gone stays in the server's list until it expires. nats-server (seen with 2.9) handles one
        that it meets while it redelivers as if the message were new: the message that was given back is lost until its
        lease ends, and the last one of the stream is handed out twice. Asking about a consumer makes the server clean
        its list.
        """
        if places:
            self._connection.ask([(place.about, b"", b"") for place in places], lambda _answers: None)

    async def _ensured(self, places: Sequence[Place], wait: float) -> bool:
        """Make the consumers where they are missing; False: nothing was heard of them in time."""
        missing = [place for place in places if place not in self._ready]
        if not missing and "work" in self._streams.found:
            return True
        try:
            async with asyncio.timeout(max(wait, CHECK)):
                await self.consumers.ensure(places)
        except TimeoutError:
            return False
        self._ready.update(places)
        for place in missing:
            self.repair.look(Durable(self._broker.names.work, place.consumer, place.subject.decode()))
        return True

    def _place(self, slot: Slot) -> Place:
        found = self._places.get(slot)
        if found is None:
            if len(self._places) > 10_000:
                self._places.clear()
            found = self._places[slot] = place_at(self._broker.names, slot)
        return found

    def _read(self, place: Place, ack: bytes, block: bytes | None, data: bytes) -> Token | None:
        """Return the token of a message that has come; None: it was settled here, or is in our hands."""
        told = told_by(ack)
        if told is None:
            return None
        now = self._loop.time()
        until = now + BELIEVED * self.consumers.lease(place.slot[0])
        if self._broker.was_settled(told):
            self._connection.post(frame(ack, b"", b"", ACK))
            return None
        if (token := self._broker.holds(told, now)) is not None:
            # The new delivery stands for the old one.
            token.ack, token.until = ack, until
            return None
        token = Token(place.slot, told, ack, block, data, until)
        self._broker.held(token, now)
        return token

    # What comes when nobody takes.

    def _came_late(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        place = next((one for one in self._places.values() if one.subject == subject), None)
        if reply and place is not None and (token := self._read(place, reply, block, data)) is not None:
            if not self._late:
                self._loop.call_later(GRACE, self._give_back_late)
            self._late.append(token)

    def _taken_late(self, places: Sequence[Place]) -> list[Token]:
        slots = {place.slot for place in places}
        found = [token for token in self._late if token.slot in slots]
        self._late = [token for token in self._late if token.slot not in slots]
        return found

    def _give_back_late(self) -> None:
        """Give back what came and was not taken since; nobody waits for the answer."""
        late, self._late = self._late, []
        for token in late:
            token.done = True
            self._connection.post(frame(token.ack, b"", b"", NAK))

    def _lost(self, _lost: object) -> None:
        for pull in self._pulls:
            pull.wake()

    def _close(self) -> None:
        self._give_back_late()
        for task in self._tasks:
            task.cancel()

    # Ending.

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:
        """Acknowledge what is ours, or give it back."""
        await self._disown([one.token for one in endings])
        now = self._loop.time()
        ours = {one.token: one.end for one in endings if one.token.is_ours(now)}
        told = {token: await self.schedule.end(token, end) for token, end in ours.items() if token.source == "delay"}
        told |= await self.backlog.end({token: end for token, end in ours.items() if token.source == "work"})
        told |= await self._end({token: end for token, end in ours.items() if not token.source})
        return [told.get(one.token, Settled.LOST) for one in endings]

    async def _end(self, ours: Mapping[Token, End]) -> dict[Token, Settled | TranshipError]:
        """Tell the ends of messages to their consumers."""
        back = [token for token, end in ours.items() if end is not End.REMOVE]
        if back:
            places = {self._place(token.slot) for token in back}
            await self._connection.ask_all([(place.about, b"", b"") for place in places])
        copied = await self._copied([one for one in back if ours[one] is End.RELEASE and one.count >= SUSPECT])
        removed = {token for token, end in ours.items() if end is End.REMOVE or token in copied}
        for token in back:
            # Before the server knows: what it sends again at once is not taken for what we hold.
            token.done = True
        asks = [(token.ack, b"", ACK if token in removed else NAK) for token in ours]
        answers = zip(ours, await self._connection.ask_all(asks), strict=True)
        told = {token: _ended(token, answer) for token, answer in answers}
        self._broker.settled(token for token in removed if token.done)
        return told

    async def _copied(self, tokens: Sequence[Token]) -> set[Token]:
        """Copy messages to the end of their queue, as if they had not come; return those that have a copy.

        The server counts what it has sent, not what was tried. What is fetched beside one that may have killed its
        workers would be counted up to the limit without ever having run.
        """
        if not tokens:
            return set()
        copies = [
            (
                self._place(one.slot).subject,
                copied(one.block, msg_id=b"%%:released:%d" % one.told.seq, tried=one.count - 1),
                one.data,
            )
            for one in tokens
        ]
        answers = await self._connection.ask_all(copies)
        stored = {one for one, answer in zip(tokens, answers, strict=True) if _is_done(answer)}
        # Before the server knows: killed now, it sends those again that have a copy.
        self._broker.settled(stored)
        return stored

    async def renew(self, tokens: Sequence[Token]) -> Sequence[bool]:
        """Say that they are in progress; one whose lease has ended by our clock stays lost."""
        await self._disown(tokens)
        now = self._loop.time()
        ours = [one for one in tokens if one.is_ours(now) and one.ack]
        answers = await self._connection.ask_all([(one.ack, b"", PROGRESS) for one in ours])
        for one, answer in zip(ours, answers, strict=True):
            if isinstance(answer, TranshipError):
                raise answer
            if _is_done(answer):
                one.until = now + BELIEVED * self.consumers.lease(one.slot[0])
            else:
                one.done = True
        return [not one.done and one.until > now for one in tokens]

    async def _disown(self, tokens: Sequence[Token]) -> None:
        """Give up what came from a stream that was deleted and made again: its end would be another message's."""
        born = await self._streams.born("work")
        for one in tokens:
            if one.ack and one.told.stored_at < born:
                one.done = True

    # What nobody holds.

    async def find(self, ids: Sequence[str], cancel_keys: Sequence[str]) -> Sequence[Stored]:  # noqa: ARG002 - no index
        """Look for tasks that are not due, by id."""
        return await self.schedule.find(ids)

    async def search(self, queue: str, ids: Sequence[str]) -> Sequence[Stored]:
        """Look for them in the schedule, and through what no consumer has handed out."""
        delayed = [one for one in await self.schedule.find(ids) if one.facts.queue == queue]
        return [*await self.backlog.search(queue, ids), *delayed]

    async def scan(self, queue: str, state: str, limit: int) -> Sequence[Stored]:
        """Look through the schedule, or through what no consumer has handed out."""
        if state == "delayed":
            return await self.schedule.scan(queue, limit)
        return await self.backlog.scan(queue, limit) if state == "ready" else []

    async def pick(self, refs: Sequence[Seen]) -> Sequence[Taken]:
        """Take what is there still, from the stream that each is in."""
        ready = f"{self._broker.names.root}.t."
        waiting = [one for one in refs if one.subject.startswith(ready)]
        picked = {one.token.told.seq: one for one in await self.backlog.pick(waiting)} if waiting else {}
        delayed = [one for one in refs if not one.subject.startswith(ready)]
        early = {one.token.told.seq: one for one in await self.schedule.pick(delayed)} if delayed else {}
        found = [(picked if one.subject.startswith(ready) else early).get(one.seq) for one in refs]
        return [one for one in found if one is not None]

    # Looking.

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what the streams hold, and what the consumers have handed out."""
        return await counted(self._broker, self._js, self._streams, self.repair)

    async def ensure(self, queues: Sequence[str]) -> None:
        """Make the stream of the tasks, and the consumers of ``queues``, where they are missing."""
        await self.consumers.ensure([self._place((queue, level)) for queue in queues for level in Priority])


def _kind(message: Outgoing, now: float) -> str:
    """Return the stream of a message. What is submitted goes to the schedule also when its time has come meanwhile:
    submitted again, it is recognised there.
    """
    return "delay" if message.ready > now or (message.ready and message.mark is None) else "work"


def _ended(token: Token, answer: Answer) -> Settled | TranshipError:
    token.done = not isinstance(answer, TranshipError)
    if isinstance(answer, TranshipError):
        return again(answer)
    # The consumer, or its stream, was deleted with everything it knew.
    return Settled.CONFIRMED if _is_done(answer) else Settled.LOST


def _is_done(answer: Answer) -> bool:
    return not (isinstance(answer, TranshipError) or no_responders(answer[0]) or error_in(answer[1]) is not None)
