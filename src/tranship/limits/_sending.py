"""Sending the messages of tasks whose turn it is, and once more those that nobody has taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from tranship.clocks import Clock
from tranship.envelope import Envelope, ErrorInfo, Receipt, TaskResult, TaskState
from tranship.errors import EncodeError, MessageTooLarge, TranshipError
from tranship.limits._blocks import mark_key
from tranship.limits._kept import PATIENCE, Blocks
from tranship.limits._line import Granted, Overdue
from tranship.pauses import Pauses, patiently
from tranship.ports import Record, Records, ResultStore, StoredResult
from tranship.protocol import Encoder, Message, Place, encode_result, place_of, with_place

__all__ = ["Sending", "Sends"]

log = logging.getLogger("tranship.limits")

MARKED: Final = 60.0
"""Seconds for which an id stays marked once its task is sent."""
TRIES: Final = 12
"""Attempts to send messages to the broker, before they are sent again when their slots are overdue."""
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts."""
_NEVER: Final = (EncodeError, MessageTooLarge)
"""What a broker says of a message that it will never take; all else can be mended."""

Over = Callable[[Granted], None]


class Sends(Protocol):
    """Sends messages to the broker, once."""

    def __call__(self, messages: Sequence[Message], /) -> Awaitable[Sequence[Receipt | TranshipError]]:
        """Return an answer for each."""


class Sending:
    """That of one program, for all lines.

    Args:
        send: sends messages to the broker.
        records: where ids are marked.
        blocks: where the messages are.
        clock: the broker's.
        marks_ids: whether the ids of tasks that wait are written down, for who would take them for unknown ones.
        results: is told of tasks that the broker will never take; None: nothing keeps results.
        has_ended: says of a task whether there is a result; None: nobody knows.
    """

    def __init__(
        self,
        send: Sends,
        records: Records,
        blocks: Blocks,
        *,
        clock: Clock,
        marks_ids: bool,
        results: ResultStore | None,
        has_ended: Callable[[Envelope], Awaitable[bool]] | None,
    ) -> None:
        self._send, self._records, self._blocks, self._clock = send, records, blocks, clock
        self._marks_ids, self._results, self._has_ended = marks_ids, results, has_ended
        self._encoder = Encoder()

    async def mark(self, ids: Sequence[str], ttl: float | None = None) -> None:
        """Write down that tasks wait, where that is needed."""
        if self._marks_ids and ids:
            records = [Record(mark_key(one), b"", ttl=ttl) for one in ids]
            await patiently(lambda: self._records.put(records), PATIENCE, "marking tasks that wait")

    async def dispatch(self, key: str, granted: Sequence[Granted], overdue: Sequence[Overdue], over: Over) -> None:
        """Send the tasks of one line that have got a slot, and those that were lost on their way.

        Args:
            key: of the line.
            granted: who has just got a slot.
            overdue: who has had one for too long.
            over: called with whose slot is free again, because it has ended, or cannot be sent.
        """
        try:
            await self._send_all(await self._messages(key, granted, over), over, there=False)
            lost = [one.granted for one in overdue if await self._is_lost(one, over)]
            await self._send_all(await self._messages(key, lost, over, again=True), over, there=True)
        except TranshipError as error:
            log.warning("tasks of line %r are sent later: %s", key, error)
        except Exception:
            log.exception("sending tasks of line %r failed in an unexpected way", key)

    async def _messages(
        self, key: str, granted: Sequence[Granted], over: Over, *, again: bool = False
    ) -> list[Message]:
        messages = []
        for one in granted:
            envelope = await self._envelope(one, over)
            if envelope is not None:
                message = self._encoder.encode(with_place(envelope, Place(key, *one)))
                # It may have come to a worker before it had a place, or its first message may be lost.
                again_at = f"-{self._clock.now():.0f}" if again else ""
                message.mark = f"{one.part}-{one.block}-{one.number}{again_at}"
                messages.append(message)
        return messages

    async def _envelope(self, granted: Granted, over: Over) -> Envelope | None:
        """Return the task that has got a slot; None: it cannot be had, and the next one gets the slot."""
        envelope = await self._blocks.envelope(granted.part, granted.block, granted.number)
        if envelope is None:
            log.error("a task that waited in a line is lost, it cannot be read any more")
            over(granted)
        return envelope

    async def _send_all(self, messages: Sequence[Message], over: Over, *, there: bool) -> None:
        """Send messages; ``there``: one of the same id that the broker has already will do."""
        # From now on the broker knows them.
        await self.mark([one.envelope.id for one in messages], MARKED)
        pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        for _ in range(TRIES):
            if messages:
                messages = await self._send_once(messages, over, there=there)
            if not messages:
                return
            await asyncio.sleep(pauses.next())
        log.warning("%d tasks whose turn it is could not be sent, and are sent later", len(messages))

    async def _send_once(self, messages: Sequence[Message], over: Over, *, there: bool) -> Sequence[Message]:
        """Send messages; return those that are to be sent once more."""
        left = []
        for one, answer in zip(messages, await self._send(messages), strict=True):
            if isinstance(answer, _NEVER):
                await self._refuse(one.envelope, answer, over)
            elif isinstance(answer, TranshipError) or (answer.duplicate_of is not None and not there):
                # A task that has come to a worker without a place is there until the worker has settled it.
                log.debug("task %s, whose turn it is, is sent once more: %s", one.envelope.id, answer)
                left.append(one)
        return left

    async def _refuse(self, envelope: Envelope, error: TranshipError, over: Over) -> None:
        """The broker will never take a task: it has failed, and the next one gets its slot."""
        log.error("task %s (%s) has failed, it cannot be sent: %s", envelope.id, envelope.task, error)
        if (results := self._results) is not None and envelope.keeps_result:
            stored = _failure(envelope, error, self._clock.now())
            await patiently(lambda: results.put([stored]), PATIENCE, f"storing that task {envelope.id} has failed")
        if (place := place_of(envelope)) is not None:
            over(Granted(*place[1:]))

    async def _is_lost(self, overdue: Overdue, over: Over) -> bool:
        """Whether a task has to be sent again. One that has ended leaves the line: who ran it has died before that."""
        if not overdue.comes_again:
            return True
        envelope = await self._envelope(overdue.granted, over)
        if envelope is None or self._has_ended is None or not envelope.keeps_result:
            return envelope is not None
        if await self._has_ended(envelope):
            over(overdue.granted)
        return False


def _failure(envelope: Envelope, error: TranshipError, now: float) -> StoredResult:
    kind, state = f"{type(error).__module__}.{type(error).__qualname__}", TaskState.FAILURE
    why = ErrorInfo(type=kind, message=str(error), code=error.code, retryable=False)
    document = encode_result(TaskResult(id=envelope.id, state=state, error=why, finished_at=now))
    return StoredResult(id=envelope.id, state=state, document=document, reply_to=envelope.reply_to)
