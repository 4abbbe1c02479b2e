"""Handing over: each task to the broker whose turn it is, and to another one where that fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tranship.envelope import Priority, Receipt
from tranship.errors import (
    BrokerError,
    BrokerUnreachable,
    ClosedError,
    MessageTooLarge,
    SubmitUnknown,
    TranshipError,
    UnsupportedError,
)
from tranship.ports import Capability
from tranship.protocol import Message
from tranship.routing._errand import Answer, Errand
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member
from tranship.routing._placements import ROOM, Placements
from tranship.routing._results import RoutedResults

__all__ = ["RoutedSubmitter"]

log = logging.getLogger("tranship.routing")


@dataclass(slots=True)
class _Progress:
    """How far one message of a call has got."""

    message: Message
    answer: Answer | None = None
    tried: list[Member] = field(default_factory=list)
    """Brokers that did not take it, or may have."""
    doubtful: bool = False
    """One of them may have it."""


class RoutedSubmitter:
    """See :class:`tranship.ports.Submitter`. A submit whose answer is lost is resolved here, not by the core: only
    the router can give it to another broker.
    """

    def __init__(self, fleet: Fleet, placements: Placements, results: RoutedResults) -> None:
        self._fleet = fleet
        self._placements = placements
        self._results = results
        self._doubled: dict[str, None] = {}

    @property
    def max_message_size(self) -> int:
        """The smallest limit of all brokers that have been open so far."""
        self._fleet.check()
        return self._fleet.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Answer]:
        """Store every message at one broker each."""
        limit = self.max_message_size
        progress = [_Progress(one, self._refusal(one, limit)) for one in messages]
        while left := [one for one in progress if one.answer is None]:
            await asyncio.gather(*(self._part(member, part) for member, part in self._plan(left).items()))
        return [_said(one) for one in progress]

    def _refusal(self, message: Message, limit: int) -> TranshipError | None:
        """Refuse at once what not every broker can do: it must not depend on whose turn it is."""
        envelope, has = message.envelope, self._fleet.capabilities.has
        if message.size > limit:
            text = f"{message.size} bytes are more than the {limit} that every broker of {self._fleet.url} takes"
            return MessageTooLarge(text, size=message.size, limit=limit, task_id=envelope.id)
        lacks = [
            capability.value
            for capability, wanted in (
                (Capability.DELAY, envelope.not_before is not None),
                (Capability.PRIORITY, envelope.priority is not Priority.NORMAL),
                (Capability.KEY_WINDOW, envelope.dedup_key is not None),
            )
            if wanted and not has(capability)
        ]
        if not lacks:
            return None
        text = f"not every broker of {self._fleet.url} has {', '.join(lacks)}"
        return UnsupportedError(text, task_id=envelope.id)

    # One round.

    def _plan(self, left: Sequence[_Progress]) -> dict[Member, list[_Progress]]:
        accepting = [one for one in self._fleet.members if one.accepting]
        plan: dict[Member, list[_Progress]] = {}
        for one in left:
            there = [member for member in accepting if member not in one.tried] if one.tried else accepting
            member = self._choose(one.message, there) if there else None
            if member is None:
                one.answer = self._nobody(one)
            else:
                plan.setdefault(member, []).append(one)
        return plan

    def _choose(self, message: Message, there: Sequence[Member]) -> Member | None:
        envelope = message.envelope
        if message.check_id:
            known = self._placements.of(envelope.id)
            for one in known:
                if one in there:
                    return one
            if known and self._fleet.options.unknown == "tell":
                # It may be there: nowhere else, then.
                return None
        if envelope.dedup_key is not None:
            return self._fleet.home(f"key {envelope.dedup_key}", there)
        return self._fleet.home(envelope.id, there) if message.check_id else self._fleet.next(there)

    def _nobody(self, one: _Progress) -> TranshipError:
        task_id = one.message.envelope.id
        if one.doubtful:
            return _unknown(task_id)
        if one.tried and (cause := one.tried[-1].cause) is not None and isinstance(cause, BrokerError):
            error: TranshipError = type(cause)(str(cause), task_id=task_id)
        else:
            error = self._fleet.nobody("submitting")
        error.task_id = task_id
        return error

    async def _part(self, member: Member, part: Sequence[_Progress]) -> None:
        """Hand ``part`` to ``member``, and note what is final."""
        answers = await self._hand_over(member, part, self._fleet.options.answer_timeout)
        doubtful = [one for one, answer in zip(part, answers, strict=True) if isinstance(answer, SubmitUnknown)]
        accepted = 0
        for one, answer in zip(part, answers, strict=True):
            if isinstance(answer, Receipt):
                accepted += 1
                one.answer = self._accepted(one, answer, member)
            elif isinstance(answer, BrokerError | ClosedError):
                self._fleet.check()
                one.tried.append(member)
            elif not isinstance(answer, SubmitUnknown):
                one.answer = answer
        if accepted:
            member.took(accepted)
        if doubtful:
            await self._doubt(member, doubtful)

    async def _hand_over(self, member: Member, part: Sequence[_Progress], timeout: float) -> Sequence[Answer]:
        ids = [one.message.envelope.id for one in part]
        self._note_again(ids, member)
        self._placements.add(ids, member)
        self._results.placed(ids, member)
        errand = Errand(self._fleet, member, self._late)
        answers = await errand.run([_for(one, member) for one in part], timeout)
        absent = [
            task_id
            for task_id, answer in zip(ids, answers, strict=True)
            if not isinstance(answer, Receipt | SubmitUnknown)
        ]
        self._placements.remove(absent, member)
        return answers

    def _accepted(self, one: _Progress, receipt: Receipt, member: Member) -> Receipt:
        task_id = one.message.envelope.id
        if receipt.duplicate_of is not None and receipt.duplicate_of != task_id:
            self._placements.add([receipt.duplicate_of], member)
        if one.doubtful and receipt.duplicate_of == task_id:
            # Our own first try, recognised.
            return Receipt(task_id)
        return receipt

    def _note_again(self, ids: Sequence[str], member: Member) -> None:
        """Count those that another broker may have."""
        known = [self._placements.of(task_id) for task_id in ids]
        again = sum(bool(members) and member not in members for members in known)
        if again:
            self._fleet.counts.republished += again
            log.warning(
                "%d tasks are given to %s under the same ids, although another broker that does not answer may have "
                "them: as many may run twice, each will have one result",
                again,
                member.url,
            )

    # In doubt.

    async def _doubt(self, member: Member, part: Sequence[_Progress]) -> None:
        """``member`` may have these: ask it again if it comes back soon, else do as the options say."""
        for one in part:
            one.doubtful = True
        options = self._fleet.options
        end = time.monotonic() + options.unknown_patience
        if await self._fleet.until(lambda: member.usable, options.unknown_patience) and self._recognises(member):
            answers = await self._hand_over(member, part, end - time.monotonic())
            for one, answer in zip(part, answers, strict=True):
                if isinstance(answer, Receipt):
                    one.answer = self._accepted(one, answer, member)
        left = [one for one in part if one.answer is None]
        for one in left:
            one.tried.append(member)
            # Whatever was said last: the first try is still in doubt.
            self._placements.add([one.message.envelope.id], member)
        self._fleet.check()
        if options.unknown == "tell":
            for one in left:
                one.answer = _unknown(one.message.envelope.id)

    def _recognises(self, member: Member) -> bool:
        return member.opened and member.backend.capabilities.has(Capability.RETRY_SAFE)

    def _late(self, member: Member, messages: Sequence[Message], answers: Sequence[Answer]) -> None:
        """What ``member`` made of messages that have been given to another broker since, as far as it says so."""
        arrived = [
            message.envelope.id
            for message, answer in zip(messages, answers, strict=True)
            if isinstance(answer, Receipt)
            and len(self._placements.of(message.envelope.id)) > 1
            and message.envelope.id not in self._doubled
        ]
        absent = [
            message.envelope.id
            for message, answer in zip(messages, answers, strict=True)
            if isinstance(answer, BrokerUnreachable)
        ]
        self._placements.remove(absent, member)
        if arrived:
            # It may have been asked twice.
            self._doubled.update(dict.fromkeys(arrived))
            while len(self._doubled) > ROOM:
                del self._doubled[next(iter(self._doubled))]
            self._fleet.counts.duplicates += len(arrived)
            log.warning("%d tasks are at two brokers: %s did have them", len(arrived), member.url)


def _for(one: _Progress, member: Member) -> Message:
    """The message as ``member`` gets it: with its own address for the result, and to be recognised if it is there."""
    message, address = one.message, member.backend.address
    if one.doubtful and not message.check_id:
        message = replace(message, check_id=True)
    if address is None or message.envelope.reply_to is not None:
        return message
    return replace(message, envelope=replace(message.envelope, reply_to=address))


def _said(one: _Progress) -> Answer:
    assert one.answer is not None
    return one.answer


def _unknown(task_id: str) -> SubmitUnknown:
    return SubmitUnknown(
        f"the broker's answer for task {task_id} was lost: it may have been submitted, or not", task_id=task_id
    )
