"""Dead letters where there is no table: messages of a queue ``<queue>.dead`` beside each queue, as they were, with a
header that says why.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tranship.driver._dead import refusal_of
from tranship.driver._nouns import End, Ending, Outgoing, Slot, Taken
from tranship.driver._packing import Facts, facts_of, headers_bytes, headers_read
from tranship.driver._queue import Counting, Peeking
from tranship.driver._supervisor import Supervisor
from tranship.envelope import DeadLetter, Priority
from tranship.errors import InvalidOptionError, MalformedMessage, TranshipError, UnsupportedError
from tranship.ports import QueueInfo, Settled, Settlement
from tranship.protocol import Message, RawMessage, decode, epoch_of, whole_of

__all__ = ["DeadQueues", "dead_message", "folded"]

SUFFIX: Final = ".dead"
RECORD: Final = "tranship-dead"
"""The header that says what is known of the death."""
AT_ONCE: Final = 200
"""Letters that are taken in one step."""


def dead_message(taken: Taken, settlement: Settlement) -> Outgoing:
    """Return the message that a rejected one becomes."""
    facts, message = taken.opened()
    about = DeathRecord(settlement.reason, settlement.detail[:2000], taken.delivery_count, time.time())
    return about.written(facts, message)


def folded(infos: Iterable[QueueInfo]) -> list[QueueInfo]:
    """Return what there is of each queue with the number of its dead letters, which the broker knows as a queue."""
    found = {info.name: info for info in infos}
    dead = {name: found.pop(name) for name in list(found) if name.endswith(SUFFIX)}
    for name, info in dead.items():
        own = name.removesuffix(SUFFIX)
        count = sum(info.ready.values()) + (info.in_flight or 0)
        found[own] = replace(found.get(own) or _emptied(info, own), dead=count)
    return [found[name] for name in sorted(found)]


def _emptied(info: QueueInfo, name: str) -> QueueInfo:
    """Return what is told of a queue with nothing in it, where the broker tells of another one what is in ``info``."""
    return QueueInfo(
        name=name,
        ready=dict.fromkeys(info.ready, 0),
        delayed=None if info.delayed is None else 0,
        in_flight=None if info.in_flight is None else 0,
        oldest_age=None if info.oldest_age is None else 0.0,
    )


@dataclass(frozen=True, slots=True)
class DeathRecord:
    """What is known of a death, besides the message."""

    reason: str = ""
    detail: str = ""
    deliveries: int = 0
    died_at: float = 0.0

    def written(self, facts: Facts, message: RawMessage) -> Outgoing:
        """Return ``message`` as a dead letter."""
        headers = headers_read(message)
        headers[RECORD] = {
            "priority": facts.level.label,
            "reason": self.reason,
            "detail": self.detail,
            "deliveries": self.deliveries,
            "died_at": self.died_at,
        }
        own = facts._replace(queue=facts.queue + SUFFIX, level=Priority.NORMAL)
        return Outgoing(own, _with_headers(message, headers))


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter in our hands."""

    letter: DeadLetter
    facts: Facts
    message: RawMessage
    """As it was before it died."""

    @classmethod
    def of(cls, taken: Taken) -> FoundLetter:
        """Return the letter in what was taken; nothing in it is believed."""
        facts, message = taken.opened()
        headers = headers_read(message)
        record = headers.pop(RECORD, None)
        record = record if isinstance(record, dict) else {}
        message = _with_headers(message, headers) if record else message
        died_at = epoch_of(record.get("died_at")) or 0.0
        letter = DeadLetter(
            # By the time of death; two copies of one death have ids that end alike.
            id=f"{int(died_at * 1e6):016d}-{_mark(message)}",
            task_id=facts.id or None,
            task=facts.task,
            queue=taken.queue.removesuffix(SUFFIX),
            priority=_level(record.get("priority")),
            reason=str(record.get("reason", "")),
            detail=str(record.get("detail", "")),
            deliveries=whole_of(record.get("deliveries")) or 0,
            died_at=died_at,
            headers=headers,
            body=message.body,
            content_type=message.content_type or "",
        )
        return cls(letter, facts._replace(queue=letter.queue, level=letter.priority), message)

    @property
    def mark(self) -> str:
        """What two copies of one death have in common."""
        return self.letter.id.rpartition("-")[2]

    def named(self, ids: Collection[str]) -> bool:
        """Whether its own id, or its task's, is among ``ids``."""
        return self.letter.id in ids or self.letter.task_id in ids

    def again(self) -> Outgoing:
        """Return what is sent when it is replayed.

        Raises:
            MalformedMessage: it is not a complete message: whoever else reads the queue might fall over it.
        """
        decode(self.message, queue=self.facts.queue, priority=self.facts.level)
        return Outgoing(self.facts, self.message)


Sort = Callable[[FoundLetter], Awaitable[bool]]


class DeadQueues:
    """What has been given up; see :class:`tranship.driver._dead.Letters`.

    Whoever looks takes all of them and gives them back: two processes that look at once see a part each.

    Args:
        supervisor: of the backend.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._looking = asyncio.Lock()

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` letters behind ``after``."""
        return [one.letter for one in await self._look(queue) if one.letter.id > after][:limit]

    async def named(self, ids: Collection[str]) -> list[DeadLetter]:
        """Return those whose own id, or whose task's, is among ``ids``."""
        return [one.letter for one in await self._look(None) if one.named(ids)]

    async def replay(self, ids: Sequence[str], send: Callable[[Outgoing, DeadLetter], Awaitable[None]]) -> list[str]:
        """Send letters again, each before it is removed; return which of ``ids`` were found.

        Raises:
            MalformedMessage: some are not complete messages and stay where they are; all others have been sent.
        """
        sent: set[str | None] = set()
        refused: dict[str, MalformedMessage] = {}

        async def again(found: FoundLetter) -> bool:
            if not found.named(ids):
                return False
            try:
                message = found.again()
            except MalformedMessage as error:
                refused[found.letter.id] = error
                return False
            await send(message, found.letter)
            sent.update((found.letter.id, found.letter.task_id))
            return True

        await self._sift(None, again)
        if refused:
            raise refusal_of(refused)
        return [one for one in ids if one in sent]

    async def purge(self, ids: Collection[str] | None, queue: str | None) -> int:
        """Remove letters by id, of a queue, or all; return how many."""
        purged: list[FoundLetter] = []

        async def wanted(found: FoundLetter) -> bool:
            if ids is not None and not found.named(ids):
                return False
            purged.append(found)
            return True

        await self._sift(queue, wanted)
        return len(purged)

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep the letters of another broker, in their order."""
        batch = []
        for letter, message in zip(letters, messages, strict=True):
            record = DeathRecord(letter.reason, letter.detail, letter.deliveries, letter.died_at)
            facts = facts_of(message)._replace(queue=letter.queue, level=letter.priority)
            batch.append(record.written(facts, message.raw()))
        if batch:
            answers = await self._supervisor.answers("send", lambda c: c.queue.send(batch), len(batch))
            _raise_first(answers)

    # Looking.

    async def _look(self, queue: str | None) -> list[FoundLetter]:
        """Return every letter, oldest first."""
        seen: list[FoundLetter] = []

        async def note(found: FoundLetter) -> bool:
            seen.append(found)
            return False

        await self._sift(queue, note)
        return sorted(seen, key=lambda one: one.letter.id)

    async def _sift(self, queue: str | None, sort: Sort) -> None:
        """Take every letter, and show each to ``sort`` once; what that returns true for is removed."""
        async with self._looking:
            for name in await self._names(queue):
                held: list[Taken] = []
                removed: list[Taken] = []
                marks: set[str] = set()
                try:
                    await self._take_all(name, held)
                    for taken in held:
                        found = FoundLetter.of(taken)
                        # A rejection whose answer was lost was repeated: the second copy is none.
                        if found.mark in marks or await sort(found):
                            removed.append(taken)
                        marks.add(found.mark)
                finally:
                    await self._end(held, removed)

    async def _names(self, queue: str | None) -> list[str]:
        if queue is not None:
            return [queue + SUFFIX]
        counting = self._supervisor.current.queue
        if not isinstance(counting, Counting):
            raise UnsupportedError(f"{self._supervisor.name} cannot say what is in its queues: name the queue")
        infos = await self._supervisor.run("queues", lambda _: counting.queues())
        return sorted(info.name for info in infos if info.name.endswith(SUFFIX))

    async def _take_all(self, name: str, held: list[Taken]) -> None:
        queue = self._supervisor.current.queue
        while True:
            if isinstance(queue, Peeking):
                found = await self._supervisor.run("peek", lambda _: queue.peek(name, AT_ONCE))
                enough = AT_ONCE
            else:
                batch = await self._supervisor.run("take", lambda _: queue.take(_slots(name), AT_ONCE, 0.0))
                found, enough = batch.items, 1
            held += found
            if len(found) < enough:
                return

    async def _end(self, held: Sequence[Taken], removed: Collection[Taken]) -> None:
        """Remove some and give back the others, each to its place."""
        gone = {id(one) for one in removed}
        endings = [Ending(one.token, End.REMOVE if id(one) in gone else End.RELEASE) for one in held]
        if endings:
            answers = await self._supervisor.answers("end", lambda c: c.queue.end(endings), len(endings))
            _raise_first(answers)


def _slots(name: str) -> list[Slot]:
    return [(name, Priority.NORMAL)]


def _with_headers(message: RawMessage, headers: dict[str, Any]) -> RawMessage:
    plain = replace(message, headers=headers)
    return replace(plain, headers=headers_bytes(plain))


def _mark(message: RawMessage) -> str:
    return hashlib.sha256(headers_bytes(message) + message.body).hexdigest()[:16]


def _level(label: Any) -> Priority:
    try:
        return Priority.parse(str(label))
    except InvalidOptionError:
        return Priority.NORMAL


def _raise_first(answers: Iterable[str | Settled | TranshipError | None]) -> None:
    for answer in answers:
        if isinstance(answer, TranshipError):
            raise answer
