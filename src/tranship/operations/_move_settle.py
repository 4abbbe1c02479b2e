"""Letting messages go at the source: the ones that have arrived for good, the others back to where they were."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tranship.errors import TranshipError
from tranship.operations._move_item import Fate, Item, Key
from tranship.operations._move_report import Tally
from tranship.operations._move_source import Source
from tranship.ports import Capability, Settled, Settlement, Verdict

__all__ = ["Endings"]

log = logging.getLogger("tranship.move")

BACK: Final = 10.0
"""Seconds that giving back may take; what is not back by then comes back with its lease."""
REFUSED: Final = "move-refused"
_GONE: Final = frozenset({Fate.MOVED, Fate.THERE, Fate.AGAIN})


class Endings:
    """Ends deliveries at the source, and counts.

    Args:
        source: who holds them.
        tally: the counts.
        bury: refused messages go to the source's dead letters.
    """

    def __init__(self, source: Source, tally: Tally, *, bury: bool) -> None:
        self._source = source
        self._tally = tally
        self._bury = bury
        self._contested: set[Key] = set()
        self._refused: dict[Key, Item] = {}
        self._removed: dict[Key, int] = {}
        """What was removed, and over which connection."""
        store = source.backend.capabilities[Capability.RETRY_SAFE].properties.get("among") == "checked"
        self._marks = store and source.backend.capabilities.has(Capability.RESULTS)

    async def unmark(self, items: Sequence[Item]) -> None:
        """Have the source forget the ids of messages that are about to leave, where it keeps them beside the messages:
        a message that comes back one day must not be taken for one that is there.

        Before they leave: later, it might be a result of theirs that is forgotten.
        """
        ids = [item.message.envelope.id for item in items if item.message is not None]
        if not self._marks or not ids:
            return
        store = self._source.backend.results()
        found = await self._source.patience.insist(lambda: store.get_many(ids))
        open_ = [one.id for one in found if not one.state.terminal]
        await self._source.patience.insist(lambda: store.forget_many(open_))

    async def finish(self, items: Sequence[Item]) -> None:
        """Remove at the source what has arrived at the target, and count everything.

        Raises:
            GaveUp, Stopped: the source could not be reached.
        """
        for item in items:
            if item.fate is Fate.REFUSED:
                self._note_refused(item)
            elif item.lost and item.fate is Fate.WAITING:
                self._source.held.pop(item, None)
        ending = [item for item in items if self._verdict(item) is not None]
        left = {item: self._settlement(item) for item in ending}
        if left:
            await self._source.patience.insist(lambda: self._settle(left))
        self._tally.contested = len(self._contested)

    async def _settle(self, left: dict[Item, Settlement]) -> None:
        """Settle what is ``left``, and count and take out what is done.

        Raises:
            TranshipError: of the first that was not.
        """
        answers = await self._source.consumer.settle(list(left.values()))
        failed: TranshipError | None = None
        for item, answer in zip(list(left), answers, strict=True):
            if isinstance(answer, TranshipError):
                failed = failed or answer
            else:
                del left[item]
                self._count(item, answer)
        if failed is not None:
            raise failed

    @property
    def stranded(self) -> int:
        """How many messages are held that were refused."""
        return sum(item.fate is Fate.REFUSED for item in self._source.held)

    async def give_back(self) -> None:
        """Give everything that is held back to the source; bounded, and never raising."""
        held = list(self._source.held)
        try:
            async with asyncio.timeout(BACK):
                await self._give_back(held)
                await self._source.consumer.aclose()
        except (TranshipError, TimeoutError) as error:
            log.warning(
                "%d messages come back to the source when their leases end: %s", len(held), error or "no answer"
            )

    async def _give_back(self, held: Sequence[Item]) -> None:
        settlements = [one for item in held if (one := self._return(item)) is not None]
        untouched = [item.delivery for item in held if self._return(item) is None]
        if settlements:
            answers = await self._source.consumer.settle(settlements)
            for error in [one for one in answers if isinstance(one, TranshipError)][:1]:
                log.warning("some of %d messages come back to the source when their leases end: %s", len(held), error)
        if untouched:
            await self._source.consumer.release(untouched)
        self._source.held.clear()

    def _return(self, item: Item) -> Settlement | None:
        """How to give ``item`` back; None: as if it had never been taken."""
        if item.doubtful or item.fate in _GONE:
            # Counted as a delivery: the next move has to know that the target may have it.
            return Settlement(item.delivery, Verdict.NACK)
        if item.early and item.message is not None:
            item.message.check_id = False
            return Settlement(item.delivery, Verdict.REPLACE, replacement=item.message)
        return None

    def _note_refused(self, item: Item) -> None:
        before = self._refused.get(item.key)
        self._refused[item.key] = item
        if before is None:
            self._tally.refuse(item.refusal)
        elif before.lost:
            self._source.held.pop(before, None)

    def _verdict(self, item: Item) -> Verdict | None:
        if item.fate in _GONE:
            return Verdict.ACK
        return Verdict.REJECT if item.fate is Fate.REFUSED and self._bury else None

    def _settlement(self, item: Item) -> Settlement:
        if item.fate is Fate.REFUSED:
            return Settlement(item.delivery, Verdict.REJECT, reason=REFUSED, detail=f"{item.reason}: {item.detail}")
        return Settlement(item.delivery, Verdict.ACK)

    def _count(self, item: Item, answer: Settled) -> None:
        self._count_one(item, answer)
        self._removed.setdefault(item.key, item.delivery.generation)

    def _count_one(self, item: Item, answer: Settled) -> None:
        self._source.held.pop(item, None)
        queue, key = self._tally.queues[item.delivery.queue], item.key
        if item.fate is Fate.REFUSED:
            queue.dead_lettered += answer is not Settled.LOST
        elif answer is Settled.LOST:
            # What was there before comes again, and is counted then.
            if item.fate is Fate.MOVED:
                queue.moved += 1
                self._contested.add(key)
        elif key in self._contested:
            # The source gave it to us again: nobody else has it.
            self._contested.discard(key)
        elif item.fate is Fate.MOVED:
            queue.moved += 1
        elif item.fate is Fate.AGAIN and (item.seen_before or item.delivery.generation > self._removed.get(key, 0)):
            # Not a second copy: the source has forgotten, in a crash, that it was removed.
            self._tally.reappeared += 1
        else:
            queue.already_there += 1
