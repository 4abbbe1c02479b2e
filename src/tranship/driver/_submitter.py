"""Submitting: what is refused, what travels together, what waits, and what became of each message."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tranship.driver._dedup import Dedup
from tranship.driver._delay import Delays
from tranship.driver._nouns import Answer, Outgoing, QueueTraits, SendLimits
from tranship.driver._protocols import traits_of
from tranship.driver._rows import Rows
from tranship.driver._supervisor import AnswerLost, Supervisor
from tranship.envelope import Priority, Receipt
from tranship.errors import (
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    PluginError,
    StorageFull,
    SubmitUnknown,
    TranshipError,
    UnsupportedError,
)
from tranship.protocol import Message

__all__ = ["DriverSubmitter"]

log = logging.getLogger("tranship.driver")

UNSURE: Final = (AnswerLost, PluginError)
"""Errors after which a message may be stored all the same."""
OF_ALL: Final = (BrokerUnreachable, PluginError, StorageFull)
"""Errors that have nothing to do with a single message."""


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
        self._limit = limit

    @property
    def max_message_size(self) -> int:
        """The option of that name."""
        return self._limit

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Store messages and say of each what became of it."""
        self._supervisor.gate.check()
        try:
            connection = self._supervisor.current
        except BrokerUnreachable as error:
            return [error] * len(messages)
        answers: dict[int, Receipt | TranshipError] = {}
        traits = traits_of(connection.queue)
        for at, message in enumerate(messages):
            if (refusal := self._refusal(message, traits, keeps_rows=connection.table is not None)) is not None:
                answers[at] = refusal
        left = {at: message for at, message in enumerate(messages) if at not in answers}
        parts = list(_parts(left, traits.limits))
        if parts:
            answers |= await self._supervisor.together(self._all(parts, traits.limits.under_way))
        return [answers[at] for at in range(len(messages))]

    def _refusal(self, message: Message, traits: QueueTraits, *, keeps_rows: bool) -> TranshipError | None:
        envelope, size, name = message.envelope, message.size, self._supervisor.name
        if size > self._limit:
            text = f"{size} bytes are more than the {self._limit} of max_message_size; pass a reference to the data"
            return MessageTooLarge(text, size=size, limit=self._limit, task_id=envelope.id)
        if envelope.priority is not Priority.NORMAL and not traits.levels:
            lacks = f"has no priorities, and the task's is {envelope.priority.label!r}"
        elif envelope.not_before is not None and not (traits.delays or keeps_rows):
            lacks = "cannot delay tasks, and this one has a not_before"
        elif envelope.dedup_key is not None and not (traits.fuses or keeps_rows):
            lacks = "cannot recognise duplicates, and the task has a dedup_key"
        else:
            return None
        return UnsupportedError(f"{name} {lacks}; leave it out, or use another broker", task_id=envelope.id)

    async def _all(self, parts: Sequence[Mapping[int, Message]], under_way: int) -> dict[int, Receipt | TranshipError]:
        if len(parts) == 1:
            found = [await self._sent(parts[0])]
        else:
            found = await self._side_by_side(parts, under_way)
        return {
            at: answer if isinstance(answer, TranshipError) else Receipt(part[at].envelope.id, duplicate_of=answer)
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
        traits, now = traits_of(self._supervisor.current.queue), time.time()
        later = {at for at, one in part.items() if not traits.delays and (one.envelope.not_before or 0.0) > now}
        fused = {at for at in part if traits.fuses and at not in later}
        apart = {at: one for at, one in part.items() if at not in fused}
        answers = await self._known(apart)
        going = {at: self._outgoing(one, fused=at in fused) for at, one in part.items() if at not in answers}
        answers |= await self._kept({at: one for at, one in going.items() if at in later})
        answers |= await self._queued({at: one for at, one in going.items() if at not in later})
        await self._noted(apart, answers, going)
        return answers

    def _outgoing(self, message: Message, *, fused: bool) -> Outgoing:
        made = Outgoing.of(message)
        if fused:
            made.first, made.unless = self._dedup.first(message), self._dedup.unless(message)
        return made

    async def _known(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        asked = {at: one for at, one in messages.items() if one.check_id or one.envelope.dedup_key is not None}
        if not asked or self._supervisor.current.table is None:
            return {}
        try:
            return await self._dedup.known(asked)
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
        try:
            found = await self._supervisor.run("send", lambda c: c.queue.send(list(messages.values())))
            return dict(zip(messages, self._supervisor.answered("send", found, len(messages)), strict=True))
        except TranshipError as error:
            if len(messages) == 1 or isinstance(error, OF_ALL):
                return self._failed(messages, error)
        # One bad message does not harm its neighbours, where the driver refuses them all.
        return {at: answer for at, one in messages.items() for answer in (await self._queued({at: one})).values()}

    def _failed(self, messages: Mapping[int, Outgoing], error: TranshipError) -> dict[int, Answer]:
        """Say of each message what an error means for it; one that concerns the whole backend is raised."""
        if isinstance(error, ClosedError):
            raise error
        if isinstance(error, UNSURE):
            return {at: _unknown(one, error) for at, one in messages.items()}
        return {at: _about(one, error) for at, one in messages.items()}

    async def _noted(
        self, messages: Mapping[int, Message], answers: Mapping[int, Answer], going: Mapping[int, Outgoing]
    ) -> None:
        tried = [at for at in messages if at in going]
        if not tried or self._supervisor.current.table is None:
            return
        try:
            await self._dedup.told([messages[at] for at in tried], [answers[at] for at in tried])
        except TranshipError as error:
            log.debug("%s: noting what was submitted: %s", self._supervisor.url, error)


def _unknown(message: Outgoing, cause: TranshipError) -> SubmitUnknown:
    made = SubmitUnknown(f"whether it was submitted is not known: {cause}", task_id=message.id)
    made.__cause__ = cause.__cause__ or cause
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
        if part and (len(part) >= limits.messages or octets + message.size > limits.octets):
            yield part
            part, octets = {}, 0
        part[at] = message
        octets += message.size
    if part:
        yield part
