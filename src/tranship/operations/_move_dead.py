"""Dead letters on their way: added to the target's, then deleted at the source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from tranship.envelope import DeadLetter
from tranship.errors import MalformedMessage
from tranship.operations._move_patience import Patience, Stop
from tranship.operations._move_report import Refusal, Tally
from tranship.ports import Backend, DeadLetterTaker, Inspector
from tranship.protocol import Message, RawMessage, decode, pass_on

__all__ = ["DeadMove"]

PAGE: Final = 100
SAME: Final = 0.001
"""Seconds by which two accounts of one death may differ."""

Pair = tuple[DeadLetter, Message]


class DeadMove:
    """Moves dead letters of some queues; a letter that the target has already is not added again."""

    def __init__(self, source: Backend, target: Backend, patience: Patience, stop: Stop, tally: Tally) -> None:
        self._source: Inspector = source.inspector()
        self._target = target
        self._patience = patience
        self._stop = stop
        self._tally = tally

    async def run(self) -> None:
        """Move all of them.

        Raises:
            GaveUp: one of the brokers was away for too long, or refuses us.
            Stopped: the move was asked to stop while one was away.
        """
        taker = self._target.inspector()
        if not isinstance(taker, DeadLetterTaker):
            self._tally.warnings.append(f"{self._target.name} takes no dead letters of others: they stay at the source")
            return
        for queue in self._tally.queues:
            after = ""
            while not self._stop.requested:
                letters = await self._patience.insist(partial(self._page, queue, after))
                if not letters:
                    break
                await self._move(taker, queue, letters)
                after = letters[-1].id

    async def _page(self, queue: str, after: str) -> Sequence[DeadLetter]:
        return await self._source.dead(queue, limit=PAGE, after=after)

    async def _move(self, taker: DeadLetterTaker, queue: str, letters: Sequence[DeadLetter]) -> None:
        pairs = [pair for letter in letters if (pair := self._carried(queue, letter)) is not None]
        if pairs:
            await self._patience.insist(partial(self._add, taker, pairs))
            await self._patience.insist(partial(self._purge, [letter.id for letter, _ in pairs]))
            self._tally.queues[queue].dead_moved += len(pairs)

    async def _purge(self, ids: Sequence[str]) -> None:
        await self._source.dead_purge(ids)

    async def _add(self, taker: DeadLetterTaker, pairs: Sequence[Pair]) -> None:
        # Looked up each time: an attempt whose answer was lost, or a move that was killed, may have added some.
        there = await taker.dead_get([message.envelope.id for _, message in pairs])
        missing = [(letter, message) for letter, message in pairs if not _is_among(letter, message, there)]
        if missing:
            await taker.dead_add([letter for letter, _ in missing], [message for _, message in missing])

    def _carried(self, queue: str, letter: DeadLetter) -> Pair | None:
        raw = RawMessage(letter.headers, letter.body, letter.content_type)
        try:
            message = pass_on(raw, queue=queue, priority=letter.priority)
            if not letter.headers:
                # Of the first protocol, or headers that nobody can read and that would be lost.
                decode(raw, queue=queue, priority=letter.priority)
        except MalformedMessage as error:
            detail = f"dead letter {letter.id}: {error}"
            self._tally.refuse(Refusal(task_id=letter.task_id, queue=queue, reason=error.reason, detail=detail))
            return None
        return letter, message


def _is_among(letter: DeadLetter, message: Message, others: Sequence[DeadLetter]) -> bool:
    return any(
        one.task_id == message.envelope.id and one.reason == letter.reason and abs(one.died_at - letter.died_at) < SAME
        for one in others
    )
