"""Dead letters as rows whose keys sort by the time of death. Owns the rows ``d/``.

Of a driver without a table they are messages of queues: :mod:`tranship.driver._dead_queues`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from tranship.driver._nouns import Outgoing, Row, Taken, stamp
from tranship.driver._packing import Facts, facts_of, headers_read, pack, unpack
from tranship.driver._rows import Rows
from tranship.envelope import DeadLetter
from tranship.errors import MalformedMessage
from tranship.ports import Settlement
from tranship.protocol import Message, RawMessage

__all__ = ["DeadLetters", "Letters", "refusal_of"]

log = logging.getLogger("tranship.driver")

LETTERS: Final = "d/"
NAMED: Final = 3
"""Letters that an error names."""


class Letters(Protocol):
    """What has been given up, and may be brought back."""

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` letters of one queue or of all behind the letter ``after``, oldest first."""

    async def named(self, ids: Collection[str]) -> list[DeadLetter]:
        """Return those whose own id, or whose task's, is among ``ids``."""

    async def replay(self, ids: Sequence[str], send: Callable[[Outgoing, DeadLetter], Awaitable[None]]) -> list[str]:
        """Give the messages of letters to ``send``, then remove them; return which of ``ids`` there were."""

    async def purge(self, ids: Collection[str] | None, queue: str | None) -> int:
        """Remove letters by id, of a queue, or all; return how many there were."""

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep the letters of another broker, in their order."""


class DeadLetters:
    """The letters in the table; see :class:`Letters`.

    Args:
        rows: the table.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @staticmethod
    def row(taken: Taken, settlement: Settlement) -> Row:
        """Return the row of a message that is rejected."""
        about = [settlement.reason, settlement.detail, taken.delivery_count, time.time()]
        return Row(LETTERS + taken.mark, json.dumps(about).encode() + b"\n" + pack(*taken.opened()))

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep the letters of another broker, in their order."""
        rows = []
        for letter, message in zip(letters, messages, strict=True):
            about = json.dumps([letter.reason, letter.detail, letter.deliveries, letter.died_at]).encode()
            rows.append(Row(LETTERS + stamp(), about + b"\n" + pack(facts_of(message), message.raw())))
        await self._rows.create(rows)

    async def each(self, after: str = "") -> AsyncIterator[DeadLetter]:
        """Yield them, oldest first, behind the letter ``after``."""
        async for row in self._rows.each(LETTERS, LETTERS + after if after else ""):
            if (letter := _letter(row)) is not None:
                yield letter

    async def named(self, ids: Collection[str]) -> list[DeadLetter]:
        """Return those whose own id, or whose task's, is among ``ids``."""
        return [one async for one in self.each() if one.id in ids or one.task_id in ids]

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` letters behind ``after``."""
        found: list[DeadLetter] = []
        async for letter in self.each(after):
            if len(found) >= limit:
                break
            if queue in (None, letter.queue):
                found.append(letter)
        return found

    async def replay(self, ids: Sequence[str], send: Callable[[Outgoing, DeadLetter], Awaitable[None]]) -> list[str]:
        """Send letters again, each before it is removed: broken off before that, it is still there."""
        sent: set[str | None] = set()
        refused: dict[str, MalformedMessage] = {}
        for letter in await self.named(ids):
            message = await self._message(letter)
            if message is not None:
                try:
                    await send(message, letter)
                except MalformedMessage as error:
                    refused[letter.id] = error
                else:
                    await self._remove([letter.id])
                    sent |= {letter.id, letter.task_id}
        if refused:
            raise refusal_of(refused)
        return [one for one in ids if one in sent]

    async def purge(self, ids: Collection[str] | None, queue: str | None) -> int:
        """Remove letters by id, of a queue, or all."""
        letters = [one async for one in self.each()] if ids is None else await self.named(ids)
        return await self._remove([one.id for one in letters if queue in (None, one.queue)])

    async def _message(self, letter: DeadLetter) -> Outgoing | None:
        """Return the message of a letter; None: somebody else has taken the letter meanwhile."""
        rows = await self._rows.get([LETTERS + letter.id])
        return Outgoing(*_parted(row)[1:]) if (row := rows.get(LETTERS + letter.id)) else None

    async def _remove(self, ids: Collection[str]) -> int:
        """Delete letters by their own ids; return how many there were."""
        return sum(await self._rows.delete(LETTERS + one for one in ids))


def refusal_of(refused: Mapping[str, MalformedMessage]) -> MalformedMessage:
    """Return one error for the letters that are not queued again, each with its own."""
    whys = "; ".join(f"{letter}: {error}" for letter, error in list(refused.items())[:NAMED])
    more = f"; and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    first = next(iter(refused.values()))
    return MalformedMessage(
        f"not queued again, because the broker takes complete messages only: dead letter {whys}{more}. All others of "
        "this call have been queued; purge those that nobody can run",
        task_id=first.task_id,
    )


def _parted(row: Row) -> tuple[list[Any], Facts, RawMessage]:
    about, _, data = row.value.partition(b"\n")
    return json.loads(about), *unpack(data)


def _letter(row: Row) -> DeadLetter | None:
    """Return the letter in a row; None, with a word to the log: nobody can read it, and nobody touches it."""
    try:
        about, facts, message = _parted(row)
        reason, detail, deliveries, died_at = about
    except (ValueError, TypeError, RecursionError) as error:
        log.warning("the row %r is no dead letter: %s", row.key, error)
        return None
    return DeadLetter(
        id=row.key.removeprefix(LETTERS),
        task_id=facts.id or None,
        task=facts.task,
        queue=facts.queue,
        priority=facts.level,
        reason=reason,
        detail=detail,
        deliveries=deliveries,
        died_at=died_at,
        headers=headers_read(message),
        body=message.body,
        content_type=message.content_type or "",
    )
