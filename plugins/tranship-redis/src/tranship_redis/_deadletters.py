"""Dead letters: list, show, replay, purge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from tranship.driver import Outgoing
from tranship.envelope import DeadLetter
from tranship.errors import InvalidOptionError, MalformedMessage
from tranship.protocol import Message
from tranship_redis._context import Context
from tranship_redis._element import Elements, Tags
from tranship_redis._entry import Entry, entry_of, is_entry_id, letter_of, place_of
from tranship_redis._replay import rebuilt
from tranship_redis._scripts import Script

__all__ = ["DeadLetters"]

_PAGE: Final = 100
"""Entries per script."""
_ENOUGH: Final = 4 * 1024 * 1024
"""Bytes of dead letters per answer: a connection that also waits for results is cut off at 32 MiB."""
_TOO_MUCH: Final = 24 * 1024 * 1024
"""Bytes of a single element; the largest that tranship takes by default has 22 million."""
_LOOK: Final = 1000
"""Entries a script looks at before others get their turn."""
_NAMED: Final = 3
_SCAN: Final = Script("dead_scan")
_READ: Final = Script("dead_read")
_REPLAY: Final = Script("dead_replay")
_PURGE: Final = Script("dead_purge")
_ADD: Final = Script("dead_add")


class DeadLetters:
    """Works on the stream of dead letters; every method takes a round trip per some hundred of them.

    A task's id stands for its latest death; earlier ones, which were never replayed or purged, are found by
    their own ids.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tags = Tags()

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters behind ``after``, oldest first.

        Raises:
            InvalidOptionError: ``after`` is not a dead letter's id.
        """
        if after and not is_entry_id(after):
            raise InvalidOptionError(f"dead letter {after!r} cannot be; expected an id such as '1790000000000-0'")
        found: list[Entry] = []
        last, more = "", True
        while more and (wanted := min(_PAGE, limit - len(found))) > 0:
            after, last, ids = await self._scan(queue, after, last, wanted)
            async for entries in self._read(ids):
                found += entries
            more = bool(after)
        return [letter_of(entry, self._context.levels) for entry in found]

    async def find(self, ids: Sequence[str]) -> list[DeadLetter]:
        """Return the dead letters of ``ids``, their own or their tasks', oldest first."""
        levels = self._context.levels
        return [letter_of(entry, levels) async for entries in self._named(ids) for entry in entries]

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again, each in one step; return which of ``ids`` were found.

        Raises:
            MalformedMessage: some are not complete messages and stay where they are; all others of ``ids``
                have been queued.
        """
        replayed: list[Entry] = []
        refused: list[tuple[Entry, MalformedMessage]] = []
        async for entries in self._named(ids):
            replayed += await self._replay(entries, refused)
        if refused:
            raise _refusal(refused)
        names = {name for entry in replayed for name in (entry.id, entry.task_id)}
        return [given for given in ids if given in names]

    async def purge(self, ids: Sequence[str] | None, queue: str | None) -> int:
        """Delete dead letters by id, of a queue (those that are there now), or all; return how many."""
        if ids is not None:
            return await self._purge(await self._entry_ids(ids))
        return await (self._purged(()) if queue is None else self._purge_queue(queue))

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker, some at a time."""
        keys, elements = self._context.keys, Elements(self._context.keys, self._context.levels)
        adding: list[str | bytes | int] = []
        for letter, message in zip(letters, messages, strict=True):
            element = elements.build(Outgoing.of(message), tag=self._tags.next(), timestamp=b"%.3f" % letter.died_at)
            step = self._context.levels.step(letter.priority)
            about = (letter.reason, letter.detail, message.envelope.id, letter.deliveries, repr(letter.died_at))
            adding += (letter.queue, step, *about, element)
            if len(adding) >= 8 * _PAGE or len(element) >= _ENOUGH:
                await self._context.main.run(_ADD, [keys.dead, keys.dead_ids], adding)
                adding = []
        if adding:
            await self._context.main.run(_ADD, [keys.dead, keys.dead_ids], adding)

    # Reading.

    async def _scan(self, queue: str | None, after: str, last: str, wanted: int) -> tuple[str, str, list[str]]:
        """Return where to go on (empty: that was all), up to where, and the ids found so far.

        Up to what is newest at first: where tasks keep dying, it would never end.
        """
        looking: list[str | int] = [queue or "", after, last, wanted, _LOOK]
        following, end, *ids = await self._context.main.run(_SCAN, [self._context.keys.dead], looking)
        return following.decode(), end.decode(), [entry_id.decode() for entry_id in ids]

    async def _named(self, ids: Sequence[str]) -> AsyncIterator[list[Entry]]:
        given = set(ids)
        async for entries in self._read(await self._entry_ids(ids)):
            # Not one that the index names by mistake.
            yield [entry for entry in entries if entry.id in given or entry.task_id in given]

    async def _entry_ids(self, ids: Sequence[str]) -> list[str]:
        """Return the ids of entries that are meant, without repetition, in the order of death."""
        found = {given for given in ids if is_entry_id(given)}
        for part in _parts([given for given in ids if _can_be(given)]):
            latest = await self._context.main.call("HMGET", self._context.keys.dead_ids, *part)
            found |= {entry_id.decode() for entry_id in latest if entry_id is not None}
        return sorted(found, key=place_of)

    async def _read(self, ids: Sequence[str]) -> AsyncIterator[list[Entry]]:
        """Read entries, some megabytes at a time; those that have gone are left out."""
        keys, at = [self._context.keys.dead], 0
        while at < len(ids):
            looked, *found = await self._context.main.run(_READ, keys, [_ENOUGH, _TOO_MUCH, *ids[at : at + _PAGE]])
            at += looked
            yield [entry_of(one) for one in found]

    # Replaying.

    async def _replay(self, entries: Sequence[Entry], refused: list[tuple[Entry, MalformedMessage]]) -> list[Entry]:
        steps = []
        for entry in entries:
            try:
                steps.append((entry, self._step(entry)))
            except MalformedMessage as error:
                refused.append((entry, error))
        run = self._context.main.run
        # All of them are carried out, whatever becomes of the first.
        answers = await asyncio.gather(*(run(_REPLAY, *step) for _, step in steps), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [entry for (entry, _), answer in zip(steps, answers, strict=True) if answer]

    def _step(self, entry: Entry) -> tuple[list[bytes], list[str | bytes]]:
        context, keys = self._context, self._context.keys
        task_id, element = rebuilt(entry, context.levels, tag=self._tags.next(), timestamp=time.time())
        lists = [keys.list(entry.queue, entry.step), keys.result(task_id)]
        own = [keys.dead, keys.dead_ids, keys.deliveries, keys.queues, *lists]
        return own, [entry.id, task_id, entry.tag, entry.queue, element]

    # Purging.

    async def _purge(self, entry_ids: Sequence[str]) -> int:
        return sum([await self._purged(part) for part in _parts(entry_ids)])

    async def _purged(self, entry_ids: Sequence[str]) -> int:
        """Delete these; none given: all there are."""
        keys = self._context.keys
        deleted: int = await self._context.main.run(_PURGE, [keys.dead, keys.dead_ids, keys.deliveries], entry_ids)
        return deleted

    async def _purge_queue(self, queue: str) -> int:
        after, last, deleted = "", "", 0
        while True:
            after, last, ids = await self._scan(queue, after, last, _PAGE)
            deleted += await self._purge(ids)
            if not after:
                return deleted


def _can_be(task_id: str) -> bool:
    """Whether UTF-8 has a way to write it: halves of characters are in no task's id."""
    return task_id.isascii() or task_id.encode(errors="replace").decode() == task_id


def _parts(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE))


def _refusal(refused: Sequence[tuple[Entry, MalformedMessage]]) -> MalformedMessage:
    whys = "; ".join(f"{entry.id}: {error}" for entry, error in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    return MalformedMessage(
        "not queued again, because they are not complete messages and would kill Celery's workers: dead letter "
        f"{whys}{more}. All others of this call have been queued. `tranship dead purge <id>` deletes them",
        task_id=refused[0][0].task_id or None,
    )
