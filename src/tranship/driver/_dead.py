"""Dead letters as rows whose keys sort by the time of death. Owns the rows ``d/``.

A driver without a table gets them as messages of the queue ``<queue>.dead``: kept, though nothing here lists them.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final

from tranship.driver._nouns import Outgoing, Row, Taken, stamp
from tranship.driver._packing import Facts, facts_of, headers_read, pack, unpack
from tranship.driver._rows import Rows
from tranship.envelope import DeadLetter
from tranship.ports import Settlement
from tranship.protocol import Message, RawMessage

__all__ = ["DeadLetters", "dead_message"]

log = logging.getLogger("tranship.driver")

LETTERS: Final = "d/"


def dead_message(taken: Taken) -> Outgoing:
    """Return the message that a rejected one becomes where there is no table."""
    facts, message = taken.opened()
    return Outgoing(facts._replace(queue=f"{facts.queue}.dead"), message)


class DeadLetters:
    """What has been given up.

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

    async def message(self, letter: DeadLetter) -> Outgoing | None:
        """Return the message of a letter; None: somebody else has taken the letter meanwhile."""
        rows = await self._rows.get([LETTERS + letter.id])
        return Outgoing(*_parted(row)[1:]) if (row := rows.get(LETTERS + letter.id)) else None

    async def remove(self, ids: Collection[str]) -> int:
        """Delete letters by their own ids; return how many there were."""
        return sum(await self._rows.delete(LETTERS + one for one in ids))


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
