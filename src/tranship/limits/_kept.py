"""Blocks as one program sees them: it creates those of its submits, and reads those whose messages it sends."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tranship.envelope import Envelope
from tranship.errors import MalformedMessage
from tranship.limits._blocks import block_key, envelope_of, messages_in, nothing_left
from tranship.pauses import patiently
from tranship.ports import Record, Records

__all__ = ["PATIENCE", "Blocks", "NotRead"]

log = logging.getLogger("tranship.limits")

PATIENCE: Final = 60.0
"""Seconds for which a store that is away is tried again."""
KNOWN: Final = 512
"""Blocks that are remembered."""


class NotRead(Exception):
    """A block has to be read before it is known how long it is."""

    def __init__(self, part: str, number: int) -> None:
        self.part, self.number = part, number


class Blocks:
    """Those of all lines; see :mod:`tranship.limits._blocks`.

    Args:
        records: where they are kept.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: OrderedDict[tuple[str, int], list[Any]] = OrderedDict()
        """Those that were written or read last; they never change."""

    async def write(self, part: str, start: int, blocks: Sequence[bytes]) -> list[int]:
        """Create blocks behind the last one that is there; return their numbers."""
        numbers: list[int] = []
        number = start
        for block in blocks:
            while not await self._create(block_key(part, number), block):
                # Somebody else's, whose line does not say so yet.
                number += 1
            numbers.append(number)
            self._remember(part, number, block)
            number += 1
        return numbers

    async def empty(self, gone: Iterable[tuple[str, int]]) -> None:
        """All of their tasks have ended, or are in no line."""
        records = []
        for part, number in gone:
            self._known.pop((part, number), None)
            records.append(nothing_left(part, number))
        await patiently(lambda: self._records.put(records), PATIENCE, "emptying blocks")

    def length(self, part: str, number: int) -> int:
        """Return how many messages a block has.

        Raises:
            NotRead: it has to be read first.
        """
        found = self._known.get((part, number))
        if found is None:
            raise NotRead(part, number)
        self._known.move_to_end((part, number))
        return len(found)

    async def read(self, part: str, number: int) -> None:
        """Read a block; of one that is not there, or is none, nothing is left to be done."""
        (found,) = await self._records.read([block_key(part, number)])
        if found is None:
            log.error("block %d of a line of tasks is not there; it is passed over", number)
        self._remember(part, number, b"" if found is None else found.value)

    async def envelope(self, part: str, number: int, at: int) -> Envelope | None:
        """Return a task of a block; None: it cannot be read any more."""
        if (part, number) not in self._known:
            await self.read(part, number)
        try:
            return envelope_of(self._known[part, number][at])
        except (IndexError, MalformedMessage, TypeError, ValueError):
            log.exception("message %d of block %d of a line of tasks cannot be read", at, number)
            return None

    def _remember(self, part: str, number: int, value: bytes) -> None:
        try:
            self._known[part, number] = messages_in(value)
        except MalformedMessage:
            log.exception("block %d of a line of tasks is passed over", number)
            self._known[part, number] = []
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    async def _create(self, key: str, value: bytes) -> bool:
        """Create a record; False: there is another one."""
        sure = True

        async def create() -> bool:
            nonlocal sure
            if not sure:
                (there,) = await self._records.read([key])
                if there is not None:
                    return there.value == value
            sure = False
            return await self._records.write(Record(key, value))

        return await patiently(create, PATIENCE, "writing a block")
