"""The lines of tasks with limits, kept as records: who comes, whose turn it is, who has ended. On one loop.

All that a program wants of one line at a time is one change of its record. Whoever frees a slot sends the message of
the task that gets it: nobody looks for slots, and nothing waits at the broker that may not start.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

from tranship.clocks import Clock
from tranship.envelope import Envelope, Receipt
from tranship.errors import MalformedMessage, MessageTooLarge, TranshipError, UnsupportedError
from tranship.limits._blocks import OVERHEAD, blocks_of, line_key, line_prefix, mark_key
from tranship.limits._kept import PATIENCE, Blocks, NotRead
from tranship.limits._line import LONGEST_WAIT, Claim, Granted, Line, Overdue, new_part_name
from tranship.limits._sending import Sending, Sends
from tranship.pauses import patiently
from tranship.ports import (
    Backend,
    Capability,
    KeepsRecords,
    Record,
    Records,
    ResultStore,
    keeps_records,
)
from tranship.protocol import Message, Place
from tranship.task import Limits

__all__ = ["Lines", "Sends", "held_ids", "keeper_of", "marks_ids"]

log = logging.getLogger("tranship.limits")

LONGEST_READ: Final = 60.0
"""Seconds between reading a line and writing a block of it, at the most."""
PAGE: Final = 500
T = TypeVar("T")


class _Wish(NamedTuple):
    """A change of a line, and who waits for what comes of it."""

    change: Callable[[Line, float], Any]
    done: asyncio.Future[Any]


@dataclass(slots=True)
class _Change:
    """A line as wishes have made it."""

    state: Line
    value: bytes
    """Its record."""
    answers: Sequence[Any]
    """Of each wish."""
    granted: Sequence[Granted]
    overdue: Sequence[Overdue]


class _OneLine:
    """A line at work: its wishes, and the task that fulfils them; it is there while there are any."""

    def __init__(self, task: str, key: str, limits: Limits) -> None:
        self.task, self.key, self.limits = task, key, limits
        self.wishes: list[_Wish] = []
        self.over: set[tuple[str, int]] = set()
        """Blocks of which a task has ended."""
        self.overdue: list[Overdue] = []
        self.job: asyncio.Task[None] | None = None


class Lines:
    """All lines, as one program sees them.

    Args:
        records: where they are kept.
        send: sends messages to the broker.
        clock: the broker's.
        max_size: bytes of a message.
        marks_ids: whether the ids of tasks that wait are written down, for who would take them for unknown ones.
        results: is told of tasks that the broker will never take; None: nothing keeps results.
        has_ended: says of a task whether there is a result; None: nobody knows.
    """

    def __init__(
        self,
        records: Records,
        send: Sends,
        *,
        clock: Clock,
        max_size: int,
        marks_ids: bool,
        results: ResultStore | None,
        has_ended: Callable[[Envelope], Awaitable[bool]] | None = None,
    ) -> None:
        self._records, self._clock = records, clock
        self._most = max_size - OVERHEAD
        self._lines: dict[tuple[str, str], _OneLine] = {}
        self._sending: dict[asyncio.Task[None], tuple[str, str]] = {}
        """What sends the messages of whose turn it is, with the line that they are of."""
        self._blocks = Blocks(records)
        self._sender = Sending(
            send, records, self._blocks, clock=clock, marks_ids=marks_ids, results=results, has_ended=has_ended
        )

    def now(self) -> float:
        """What time it is at the broker."""
        return self._clock.now()

    # What is wanted of a line.

    async def enter(
        self, place: Place, messages: Sequence[Message], limits: Limits
    ) -> Sequence[Receipt | TranshipError]:
        """Have tasks of one share of one line wait for their turn, in order; those whose turn it is are being sent.

        Raises:
            BrokerUnreachable: whether they wait is not known.
        """
        answers = [self._answer(one) for one in messages]
        fitting = [one for one, answer in zip(messages, answers, strict=True) if isinstance(answer, Receipt)]
        if fitting:
            await self._sender.mark([one.envelope.id for one in fitting])
            await self._enter(place, list(blocks_of(fitting)), fitting[0].envelope.task, limits)
        return answers

    async def claim(self, task: str, place: Place, owner: str, limits: Limits) -> Claim:
        """Begin a task, if its turn has come: its slot is the owner's from then on."""
        return await self._wish(task, place.key, limits, lambda line, now: line.claim(place, owner, now, limits))

    async def renew(self, task: str, places: Mapping[str, Place], limits: Limits) -> list[str]:
        """Keep slots of one line, by their owners; return the owners of those that are lost."""
        key = next(iter(places.values())).key

        def change(line: Line, now: float) -> list[str]:
            return [owner for owner, place in places.items() if not line.renew(place, owner, now)]

        return await self._wish(task, key, limits, change)

    async def leave(self, task: str, place: Place, owner: str, limits: Limits) -> None:
        """A task has ended."""
        line = self._line(task, place.key, limits)
        line.over.add((place.part, place.block))
        await self._wish(task, place.key, limits, lambda line, now: line.leave(place, owner, now))

    async def give_back(self, task: str, place: Place, owner: str, limits: Limits, delay: float) -> None:
        """A task goes on elsewhere, or after ``delay`` seconds: its slot stays its own, the broker has its message."""

        def change(line: Line, now: float) -> None:
            line.give_back(place, owner, now + delay + LONGEST_WAIT)

        await self._wish(task, place.key, limits, change)

    async def look(self, task: str, limits: Limits) -> None:
        """Send again, in all lines of a task, what has been on its way for too long; give slots that are free."""
        prefix, after = line_prefix(task), ""
        while found := await self._records.page(prefix, after, PAGE):
            stuck = [one.key.removeprefix(prefix) for one in found if self._is_stuck(one, limits)]
            for key in stuck:
                await self._wish(task, key, limits, self._send_again(task, key, limits))
            after = found[-1].key

    async def sent(self, task: str, key: str) -> None:
        """Return when the messages of a line have been sent whose turn it is by now."""
        if jobs := [job for job, line in self._sending.items() if line == (task, key)]:
            await asyncio.wait(jobs)

    async def aclose(self) -> None:
        """Wait for what is being sent."""
        if self._sending:
            await asyncio.wait(set(self._sending))

    def _answer(self, message: Message) -> Receipt | TranshipError:
        if message.size <= self._most:
            return Receipt(message.envelope.id)
        return MessageTooLarge(
            f"task {message.envelope.task!r} is {message.size:,} bytes with its headers; one with limits may have "
            f"{self._most:,}: pass a reference (a path, a URL) instead of the data, or raise max_message_size",
            size=message.size,
            limit=self._most,
            task_id=message.envelope.id,
        )

    # Entering.

    async def _enter(self, place: Place, blocks: Sequence[bytes], task: str, limits: Limits) -> None:
        while True:
            part, start = await patiently(lambda: self._end_of(task, place), PATIENCE, "reading a line")
            read = time.monotonic()
            numbers = await self._blocks.write(part, start, blocks)
            if time.monotonic() < read + LONGEST_READ and await self._wish(
                task,
                place.key,
                limits,
                lambda line, now, part=part, start=start, end=numbers[-1] + 1: line.append(  # type: ignore[misc]
                    place.share, part, start, end, now
                ),
            ):
                return
            # The part was forgotten meanwhile, or somebody else has begun it.
            await self._blocks.empty((part, number) for number in numbers)

    async def _end_of(self, task: str, place: Place) -> tuple[str, int]:
        """Return the name of a share's part of a line, and how many blocks it has."""
        (found,) = await self._records.read([line_key(task, place.key)])
        line = Line() if found is None else Line.read(found.value)
        part = line.parts.get(place.share)
        return (new_part_name(), 0) if part is None else (part.name, part.end)

    # Changing a line.

    def _line(self, task: str, key: str, limits: Limits) -> _OneLine:
        return self._lines.setdefault((task, key), _OneLine(task, key, limits))

    async def _wish(self, task: str, key: str, limits: Limits, change: Callable[[Line, float], T]) -> T:
        """Have a line changed, and return what comes of it."""
        line = self._line(task, key, limits)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        line.wishes.append(_Wish(change, done))
        if line.job is None:
            line.job = asyncio.get_running_loop().create_task(self._fulfil(line))
        return cast("T", await done)

    async def _fulfil(self, line: _OneLine) -> None:
        try:
            while line.wishes:
                wishes, line.wishes = line.wishes, []
                await self._fulfil_all(line, wishes)
        finally:
            line.job = None
            self._lines.pop((line.task, line.key), None)
            for one in line.wishes:
                one.done.cancel()

    async def _fulfil_all(self, line: _OneLine, wishes: Sequence[_Wish]) -> None:
        try:
            made = await self._change(line, wishes)
            await self._follow(line, made)
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            for one in wishes:
                if not one.done.done():
                    one.done.set_exception(error)
                    # Somebody may not be there any more to hear of it.
                    one.done.exception()
            return
        except asyncio.CancelledError:
            for one in wishes:
                one.done.cancel()
            raise
        for one, answer in zip(wishes, made.answers, strict=True):
            if not one.done.done():
                one.done.set_result(answer)

    async def _change(self, line: _OneLine, wishes: Sequence[_Wish]) -> _Change:
        """Change the record of a line, once, also where the answer to that is lost."""
        key = line_key(line.task, line.key)
        doubtful: _Change | None = None

        async def change() -> _Change:
            nonlocal doubtful
            while True:
                (found,) = await self._records.read([key])
                if doubtful is not None and found is not None and found.value == doubtful.value:
                    return doubtful
                state = Line() if found is None else Line.read(found.value)
                before = state.write()
                try:
                    made = self._made(line, wishes, state)
                except NotRead as block:
                    await self._blocks.read(block.part, block.number)
                    continue
                if made.value == before:
                    return made
                doubtful = made
                version = 0 if found is None else found.version
                if await self._records.write(Record(key, made.value, version, state.ttl(self.now()))):
                    return made
                # Somebody else was faster.
                doubtful = None
                await asyncio.sleep(random.uniform(0, 0.005))

        return await patiently(change, PATIENCE, "changing a line")

    def _made(self, line: _OneLine, wishes: Sequence[_Wish], state: Line) -> _Change:
        """Fulfil wishes in ``state``, and give away what is free then.

        Raises:
            NotRead: a block has to be read first.
        """
        now = self.now()
        line.overdue = []
        answers = [one.change(state, now) for one in wishes]
        granted = state.grant(line.limits, now, self._blocks.length)
        state.tidy(now)
        return _Change(state, state.write(), answers, granted, line.overdue)

    async def _follow(self, line: _OneLine, made: _Change) -> None:
        """Do what follows from a change: send whose turn it is, empty blocks of which all has ended."""
        if made.granted or made.overdue:
            drop = partial(self._drop, line)
            self._beside(line, self._sender.dispatch(line.key, made.granted, made.overdue, drop))
        over, line.over = line.over, set()
        gone = {one for one in over if made.state.is_over(*one)}
        if line.wishes:
            line.over |= over - gone
        if gone:
            try:
                await self._blocks.empty(gone)
            except TranshipError as error:
                log.warning("%d blocks of line %r of %s stay, though empty: %s", len(gone), line.key, line.task, error)

    def _beside(self, line: _OneLine, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for but :meth:`sent` and :meth:`aclose`."""
        job = asyncio.get_running_loop().create_task(work)
        self._sending[job] = line.task, line.key
        job.add_done_callback(self._sending.__delitem__)

    def _is_stuck(self, record: Record, limits: Limits) -> bool:
        try:
            line = Line.read(record.value)
        except MalformedMessage:
            log.exception("%s is passed over", record.key)
            return False
        now = self.now()
        late = any(one.until < now for one in line.slots.values())
        return late or (line.room(limits) > 0 and any(one.waits for one in line.parts.values()))

    def _send_again(self, task: str, key: str, limits: Limits) -> Callable[[Line, float], None]:
        line = self._line(task, key, limits)

        def change(state: Line, now: float) -> None:
            line.overdue = state.overdue(now)

        return change

    def _drop(self, line: _OneLine, granted: Granted) -> None:
        """Free the slot of what has ended, or is not there."""
        self._beside(line, self.leave(line.task, Place(line.key, *granted), "", line.limits))


async def held_ids(records: Records, ids: Sequence[str]) -> set[str]:
    """Return which of ``ids`` are of tasks that wait for their turn."""
    found = await records.read([mark_key(one) for one in ids])
    return {one for one, record in zip(ids, found, strict=True) if record is not None}


def marks_ids(backend: Backend, store: Backend | None) -> bool:
    """Whether an id that nobody has submitted is told from one that is queued."""
    return any(one.capabilities.has(Capability.KNOWS_IDS) for one in (backend, store) if one is not None)


def keeper_of(backend: Backend, store: Backend | None) -> KeepsRecords:
    """Return where lines are kept: the broker, which all have in common, or else the result store.

    Raises:
        UnsupportedError: neither keeps records.
    """
    for one in (backend, store):
        if one is not None and keeps_records(one):
            return one
    raise UnsupportedError(
        f"{backend.name} keeps no records, by which a fleet agrees on who may start, so no task there can have limits "
        "(limit, rate, ordered); give a result store that keeps some (result_url, or TRANSHIP_RESULT_URL), for clients "
        "and for workers, such as redis://... or sqlite:///..., or limit a type of task per worker (task_type)"
    )
