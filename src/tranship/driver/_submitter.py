"""Submitting: what is refused, what travels together, what waits, and what became of each message."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from tranship.driver._dedup import Dedup
from tranship.driver._delay import Delays
from tranship.driver._nouns import Answer, Outgoing, SendLimits
from tranship.driver._posts import Posts
from tranship.driver._rows import Rows
from tranship.driver._supervisor import OF_ALL, AnswerLost, Supervisor
from tranship.envelope import Priority, Receipt, receipts
from tranship.errors import (
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    PluginError,
    SubmitUnknown,
    TranshipError,
    UnsupportedError,
)
from tranship.protocol import Message

__all__ = ["DriverSubmitter"]

log = logging.getLogger("tranship.driver")

Said = Receipt | TranshipError
"""What the core hears of one message."""
UNSURE: Final = (AnswerLost, PluginError)
"""Errors after which a message may be stored all the same."""


class DriverSubmitter:
    """The submitter; see :class:`tranship.ports.Submitter`.

    Args:
        supervisor: of the backend.
        rows: the table.
        dedup, delays: of the backend.
        limit: bytes of headers and body of one message.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows, dedup: Dedup, delays: Delays, limit: int) -> None:
        self._supervisor, self._rows, self._dedup, self._delays = supervisor, rows, dedup, delays
        self._posts = Posts(supervisor)
        self._limit = limit
        self._ready: tuple[int, object, int] = 0, None, limit
        """Over which connection, what the last message was like that could be posted, and how large one may be."""

    @property
    def max_message_size(self) -> int:
        """The option of that name, or less where the broker takes less."""
        return min(self._limit, self._supervisor.traits.limits.message or self._limit)

    async def submit(self, messages: Sequence[Message]) -> Sequence[Said]:
        """Store messages and say of each what became of it."""
        self._supervisor.gate.check()
        try:
            connection = self._supervisor.current
        except BrokerUnreachable as error:
            return [error] * len(messages)
        answers: dict[int, Said] = {}
        left: dict[int, Message] = {}
        for at, message in enumerate(messages):
            refusal = self._refusal(message, keeps_rows=connection.table is not None)
            if refusal is None:
                left[at] = message
            else:
                answers[at] = refusal
        if left:
            limits = self._supervisor.traits.limits
            answers |= await self._supervisor.together(self._all(list(_parts(left, limits)), limits.under_way))
        return [answers[at] for at in range(len(messages))]

    def post(self, messages: Sequence[Message], answered: Callable[[Sequence[Said]], None]) -> None:
        """Do the same, and call ``answered`` later: without a task, where the driver needs none."""
        batch = self._ready_to_go(messages) if self._posts.possible else None
        if batch is not None:
            self._posts.post(batch, partial(self._posted, messages, batch, answered))
        else:
            self._tell_later(self._submitted(messages), [one.envelope.id for one in messages], answered)

    async def _submitted(self, messages: Sequence[Message]) -> Sequence[Said]:
        try:
            return await self.submit(messages)
        except TranshipError as error:
            return [error] * len(messages)

    def _tell_later(
        self,
        work: Coroutine[Any, Any, Sequence[Said]],
        ids: Sequence[str],
        answered: Callable[[Sequence[Said]], None],
    ) -> None:
        """Call ``answered`` when ``work`` is done, or when it has ended with the backend."""

        def ended(done: asyncio.Task[Sequence[Said]]) -> None:
            if done.cancelled() or done.exception() is not None:
                closed = ClosedError(f"{self._supervisor.url} is closed")
                answered([_unknown(one, closed) for one in ids])
            else:
                answered(done.result())

        self._supervisor.spawn(work).add_done_callback(ended)

    def _ready_to_go(self, messages: Sequence[Message]) -> list[Outgoing] | None:
        """Return what can be posted: all of it in one batch, with nothing to do before it or after it."""
        traits, octets = self._supervisor.traits, 0
        generation, like, limit = self._ready
        if generation != self._supervisor.generation:
            like, limit = None, self.max_message_size
        for one in messages:
            size = len(one.headers) + len(one.body)
            octets += size
            # What is like the one before needs nothing else: most are, tens of thousands in a second.
            if one.like is not like or like is None or one.check_id or size > limit:
                if not self._goes_at_once(one):
                    return None
                like = one.like
        self._ready = self._supervisor.generation, like, limit
        if not traits.limits.hold(len(messages), octets):
            return None
        return [self._outgoing(one, fused=traits.fuses) for one in messages]

    def _goes_at_once(self, message: Message) -> bool:
        """Whether nothing has to be done before a message is sent, and nothing after it."""
        supervisor, envelope = self._supervisor, message.envelope
        traits, keeps_rows = supervisor.traits, supervisor.current.table is not None
        if self._refusal(message, keeps_rows=keeps_rows) is not None:
            return False
        if not traits.fuses and envelope.dedup_key is not None:
            return False
        if message.check_id and not (traits.fuses and traits.unique):
            return False
        if message.check_id and self._dedup.asks_a_store:
            return False
        return traits.delays or (envelope.not_before or 0.0) <= supervisor.clock.now()

    def _posted(
        self,
        messages: Sequence[Message],
        batch: Sequence[Outgoing],
        answered: Callable[[Sequence[Said]], None],
        found: Sequence[Answer] | TranshipError,
    ) -> None:
        if isinstance(found, ClosedError):
            answered([found] * len(batch))
        elif not isinstance(found, TranshipError):
            answered(_all_said(batch, found) if any(found) else receipts([one.envelope.id for one in messages]))
        elif self._concerns_all(sent := dict(enumerate(batch)), found):
            answered(_all_said(batch, _each_failed(sent, found).values()))
        else:
            self._tell_later(self._again(batch), [one.id for one in batch], answered)

    async def _again(self, batch: Sequence[Outgoing]) -> list[Said]:
        return _all_said(batch, (await self._one_by_one(dict(enumerate(batch)))).values())

    def _refusal(self, message: Message, *, keeps_rows: bool) -> TranshipError | None:
        envelope, size, name, traits = message.envelope, message.size, self._supervisor.name, self._supervisor.traits
        limit = self.max_message_size
        if size > limit:
            text = f"{size} bytes are more than the {limit} of max_message_size; pass a reference to the data"
            return MessageTooLarge(text, size=size, limit=limit, task_id=envelope.id)
        if envelope.priority is not Priority.NORMAL and not traits.levels:
            lacks = f"has no priorities, and the task's is {envelope.priority.label!r}"
        elif envelope.not_before is not None and not (traits.delays or keeps_rows):
            lacks = "cannot delay tasks, and this one has a not_before"
        elif envelope.dedup_key is not None and not (traits.fuses or keeps_rows):
            lacks = "cannot recognise duplicates, and the task has a dedup_key"
        else:
            return None
        return UnsupportedError(f"{name} {lacks}; leave it out, or use another broker", task_id=envelope.id)

    async def _all(self, parts: Sequence[Mapping[int, Message]], under_way: int) -> dict[int, Said]:
        if len(parts) == 1 or under_way == 1:
            found = [await self._sent(part) for part in parts]
        else:
            found = await self._side_by_side(parts, under_way)
        return {
            at: _said(part[at].envelope.id, answer)
            for part, answers in zip(parts, found, strict=True)
            for at, answer in answers.items()
        }

    async def _side_by_side(self, parts: Sequence[Mapping[int, Message]], under_way: int) -> list[dict[int, Answer]]:
        places = asyncio.Semaphore(under_way)

        async def one(part: Mapping[int, Message]) -> dict[int, Answer]:
            async with places:
                return await self._sent(part)

        return await asyncio.gather(*map(one, parts))

    async def _sent(self, part: Mapping[int, Message]) -> dict[int, Answer]:
        """Sort out duplicates, then send what is ready and keep what is not; note both."""
        traits, now = self._supervisor.traits, self._supervisor.clock.now()
        # Whether an id is there already only a queue that keeps ids unique can answer in one step.
        apart_ids = {at for at, one in part.items() if one.check_id and not traits.unique}
        if traits.fuses and traits.delays and not apart_ids:
            return await self._sent_at_once(part)
        later = {at for at, one in part.items() if not traits.delays and (one.envelope.not_before or 0.0) > now}
        fused = {at for at in part if traits.fuses and at not in later and at not in apart_ids}
        apart = {at: one for at, one in part.items() if at not in fused}
        answers = await self._known(apart)
        going = {at: self._outgoing(one, fused=at in fused) for at, one in part.items() if at not in answers}
        answers |= await self._kept({at: one for at, one in going.items() if at in later})
        answers |= await self._queued({at: one for at, one in going.items() if at not in later})
        await self._noted(apart, answers, going)
        return answers

    async def _sent_at_once(self, part: Mapping[int, Message]) -> dict[int, Answer]:
        """Send to a queue that recognises duplicates and waits by itself."""
        ended: dict[int, Answer] = {}
        if self._dedup.asks_a_store:
            ended = await self._told_before(part, self._dedup.ended)
        return ended | await self._queued(
            {at: self._outgoing(one, fused=True) for at, one in part.items() if at not in ended}
        )

    def _outgoing(self, message: Message, *, fused: bool) -> Outgoing:
        made = Outgoing(None, message, message.envelope.not_before or 0.0, mark=message.mark)
        if fused and (message.check_id or message.envelope.dedup_key is not None):
            made.first, made.unless = self._dedup.first(message), self._dedup.unless(message)
        return made

    async def _known(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        asked = {at: one for at, one in messages.items() if one.check_id or one.envelope.dedup_key is not None}
        if not asked or self._supervisor.current.table is None:
            return {}
        return await self._told_before(asked, self._dedup.known)

    async def _told_before(
        self,
        messages: Mapping[int, Message],
        ask: Callable[[Mapping[int, Message]], Awaitable[dict[int, Answer]]],
    ) -> dict[int, Answer]:
        """Ask for duplicates before anything is sent."""
        try:
            return await ask(messages)
        except TranshipError as error:
            # Nothing has been sent, whatever became of the question.
            made = BrokerUnreachable(str(error)) if isinstance(error, AnswerLost) else error
            made.__cause__ = error.__cause__
            return dict.fromkeys(messages, made)

    async def _kept(self, messages: Mapping[int, Outgoing]) -> dict[int, Answer]:
        try:
            await self._rows.create([self._delays.row(one) for one in messages.values()])
        except TranshipError as error:
            return self._failed(messages, error)
        return dict.fromkeys(messages)

    async def _queued(self, messages: Mapping[int, Outgoing]) -> dict[int, Answer]:
        if not messages:
            return {}
        batch = list(messages.values())
        try:
            found = await self._answers(batch)
            return dict(zip(messages, found, strict=True))
        except TranshipError as error:
            if self._concerns_all(messages, error):
                return self._failed(messages, error)
        return await self._one_by_one(messages)

    async def _answers(self, batch: Sequence[Outgoing]) -> Sequence[Answer]:
        if self._posts.recalled:
            return await self._posts.sent(batch)
        return await self._supervisor.answers("send", lambda c: c.queue.send(batch), len(batch))

    @staticmethod
    def _concerns_all(messages: Mapping[int, Outgoing], error: TranshipError) -> bool:
        return len(messages) == 1 or isinstance(error, OF_ALL)

    async def _one_by_one(self, messages: Mapping[int, Outgoing]) -> dict[int, Answer]:
        """One bad message does not harm its neighbours, where the driver refuses them all."""
        return {at: answer for at, one in messages.items() for answer in (await self._queued({at: one})).values()}

    def _failed(self, messages: Mapping[int, Outgoing], error: TranshipError) -> dict[int, Answer]:
        """Say of each message what an error means for it; one that concerns the whole backend is raised."""
        self._supervisor.gate.check()
        if isinstance(error, ClosedError):
            raise error
        return _each_failed(messages, error)

    async def _noted(
        self, messages: Mapping[int, Message], answers: Mapping[int, Answer], going: Mapping[int, Outgoing]
    ) -> None:
        tried = [at for at in messages if at in going]
        if not tried:
            return
        try:
            if self._supervisor.current.table is None:
                return
            await self._dedup.told([messages[at] for at in tried], [answers[at] for at in tried])
        except TranshipError as error:
            log.debug("%s: noting what was submitted: %s", self._supervisor.url, error)


def _said(task_id: str, answer: Answer) -> Said:
    return answer if isinstance(answer, TranshipError) else Receipt(task_id, answer)


def _all_said(batch: Sequence[Outgoing], answers: Iterable[Answer]) -> list[Said]:
    return [_said(one.id, answer) for one, answer in zip(batch, answers, strict=True)]


def _each_failed(messages: Mapping[int, Outgoing], error: TranshipError) -> dict[int, Answer]:
    if isinstance(error, UNSURE):
        return {at: _unknown(one.id, error) for at, one in messages.items()}
    return {at: _about(one, error) for at, one in messages.items()}


def _unknown(task_id: str, cause: TranshipError) -> SubmitUnknown:
    made = SubmitUnknown(f"whether it was submitted is not known: {cause}", task_id=task_id)
    # That it was a driver's bug has to be seen: it is not tried again.
    made.__cause__ = cause if isinstance(cause, PluginError) else cause.__cause__ or cause
    return made


def _about(message: Outgoing, error: TranshipError) -> TranshipError:
    made = copy.copy(error)
    made.task_id, made.__cause__ = message.id, error.__cause__
    return made


def _parts(messages: Mapping[int, Message], limits: SendLimits) -> Iterator[dict[int, Message]]:
    """Cut messages into batches within the limits of the queue."""
    part: dict[int, Message] = {}
    octets = 0
    for at, message in messages.items():
        if part and not limits.hold(len(part) + 1, octets + message.size):
            yield part
            part, octets = {}, 0
        part[at] = message
        octets += message.size
    if part:
        yield part
