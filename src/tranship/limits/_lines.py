"""The lines of tasks with limits, kept as records: who comes, whose turn it is, who has ended. On one loop.

All that a program wants of one line at a time is one change of its record. Whoever frees a slot sends the message of
the task that gets it: nobody looks for slots, and nothing waits at the broker that may not start.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar, cast

from tranship.clocks import Clock
from tranship.envelope import Envelope, Receipt
from tranship.errors import ClosedError, MalformedMessage, MessageTooLarge, TranshipError, UnsupportedError
from tranship.limits._blocks import (
    OVERHEAD,
    block_key,
    blocks_of,
    envelope_of,
    line_key,
    line_prefix,
    mark_key,
    messages_in,
    nothing_left,
)
from tranship.limits._line import LONGEST_WAIT, Claim, Granted, Line, Overdue, new_part_name
from tranship.ports import Backend, Capability, KeepsRecords, Record, Records, keeps_records
from tranship.protocol import Encoder, Message, Place, with_place
from tranship.task import Limits

__all__ = ["Lines", "Sends", "held_ids", "keeper_of", "marks_ids"]

log = logging.getLogger("tranship.limits")

PATIENCE: Final = 60.0
"""Seconds for which a store that is away is tried again."""
LONGEST_READ: Final = 60.0
"""Seconds between reading a line and writing a block of it, at the most."""
KNOWN_BLOCKS: Final = 512
PAGE: Final = 500
MARKED: Final = 60.0
"""Seconds for which an id stays marked once its task is sent."""
TRIES: Final = 12
"""Attempts to send messages to the broker, before they are sent again when their slots are overdue."""
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts."""

T = TypeVar("T")


class Sends(Protocol):
    """Sends messages to the broker, once."""

    def __call__(self, messages: Sequence[Message], /) -> Awaitable[Sequence[Receipt | TranshipError]]:
        """Return an answer for each."""


class _Wish(NamedTuple):
    """A change of a line, and who waits for what comes of it."""

    change: Callable[[Line, float], Any]
    done: asyncio.Future[Any]


class _Unknown(Exception):
    """A block has to be read before it is known how long it is."""

    def __init__(self, part: str, block: int) -> None:
        self.part, self.block = part, block


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
        has_ended: Callable[[Envelope], Awaitable[bool]] | None = None,
    ) -> None:
        self._records, self._send, self._clock, self._has_ended = records, send, clock, has_ended
        self._marks_ids = marks_ids
        self._most = max_size - OVERHEAD
        self._encoder = Encoder()
        self._lines: dict[tuple[str, str], _OneLine] = {}
        self._sending: dict[asyncio.Task[None], tuple[str, str]] = {}
        """What sends the messages of whose turn it is, with the line that they are of."""
        self._blocks: OrderedDict[tuple[str, int], list[Any]] = OrderedDict()
        """Those that were read last; they never change."""

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
            if self._marks_ids:
                await self._mark([one.envelope.id for one in fitting], None)
            await self._patiently(
                lambda: self._enter(place, list(blocks_of(fitting)), fitting[0].envelope.task, limits)
            )
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
            part, start = await self._end_of(task, place)
            read = time.monotonic()
            numbers = await self._write_blocks(part, start, blocks)
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
            await self._records.put([nothing_left(part, number) for number in numbers])

    async def _end_of(self, task: str, place: Place) -> tuple[str, int]:
        """Return the name of a share's part of a line, and how many blocks it has."""
        line, _ = await self._read(line_key(task, place.key))
        part = line.parts.get(place.share)
        return (new_part_name(), 0) if part is None else (part.name, part.end)

    async def _write_blocks(self, part: str, start: int, blocks: Sequence[bytes]) -> list[int]:
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

        return await self._patiently(create)

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
            found: Sequence[Any] = await self._patiently(lambda: self._change(line, wishes))
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
        for one, answer in zip(wishes, found, strict=True):
            if not one.done.done():
                one.done.set_result(answer)

    async def _change(self, line: _OneLine, wishes: Sequence[_Wish]) -> list[Any]:
        """Change the record of a line, and do what follows from it."""
        key = line_key(line.task, line.key)
        while True:
            state, version = await self._read(key)
            before = state.write()
            now = self.now()
            answers = [one.change(state, now) for one in wishes]
            try:
                granted = state.grant(line.limits, now, self._length)
            except _Unknown as block:
                await self._load(block.part, block.block)
                continue
            state.tidy(now)
            after = state.write()
            if after == before:
                break
            if await self._records.write(Record(key, after, version, state.ttl(now))):
                break
            # Somebody else was faster.
            await asyncio.sleep(random.uniform(0, 0.005))
        overdue, line.overdue = line.overdue, []
        if granted or overdue:
            job = asyncio.get_running_loop().create_task(self._dispatch(line, granted, overdue))
            self._sending[job] = line.task, line.key
            job.add_done_callback(self._sending.__delitem__)
        await self._clear(line, state)
        return answers

    async def _read(self, key: str) -> tuple[Line, int]:
        (found,) = await self._records.read([key])
        return (Line(), 0) if found is None else (Line.read(found.value), found.version)

    async def _clear(self, line: _OneLine, state: Line) -> None:
        over, line.over = line.over, set()
        gone = [one for one in over if state.is_over(*one)]
        line.over |= {one for one in over if one not in gone} if line.wishes else set()
        if gone:
            for one in gone:
                self._blocks.pop(one, None)
            await self._records.put([nothing_left(*one) for one in gone])

    # Blocks.

    def _length(self, part: str, block: int) -> int:
        found = self._blocks.get((part, block))
        if found is None:
            raise _Unknown(part, block)
        self._blocks.move_to_end((part, block))
        return len(found)

    async def _load(self, part: str, number: int) -> None:
        (found,) = await self._records.read([block_key(part, number)])
        if found is None:
            log.error("block %d of a line of tasks is not there; it is passed over", number)
        self._remember(part, number, b"" if found is None else found.value)

    def _remember(self, part: str, number: int, value: bytes) -> None:
        try:
            self._blocks[part, number] = messages_in(value)
        except MalformedMessage:
            log.exception("block %d of a line of tasks is passed over", number)
            self._blocks[part, number] = []
        while len(self._blocks) > KNOWN_BLOCKS:
            self._blocks.popitem(last=False)

    # Sending.

    async def _dispatch(self, line: _OneLine, granted: Sequence[Granted], overdue: Sequence[Overdue]) -> None:
        try:
            await self._send_all(await self._messages(line, granted), there=False)
            lost = [one.granted for one in overdue if await self._is_lost(line, one)]
            await self._send_all(await self._messages(line, lost, again=True), there=True)
        except TranshipError as error:
            log.warning("tasks of line %r of %s are sent later: %s", line.key, line.task, error)
        except Exception:
            log.exception("sending tasks of line %r of %s failed in an unexpected way", line.key, line.task)

    async def _messages(self, line: _OneLine, granted: Sequence[Granted], *, again: bool = False) -> list[Message]:
        messages = []
        for one in granted:
            envelope = await self._envelope(line, one)
            if envelope is not None:
                message = self._encoder.encode(with_place(envelope, Place(line.key, *one)))
                # It may have come to a worker before it had a place, or its first message may be lost.
                message.mark = f"{one.part}-{one.block}-{one.number}" + (f"-{self.now():.0f}" if again else "")
                messages.append(message)
        return messages

    async def _send_all(self, messages: Sequence[Message], *, there: bool) -> None:
        """Send messages; ``there``: one of the same id that the broker has already will do."""
        if messages and self._marks_ids:
            # From now on the broker knows them.
            await self._mark([one.envelope.id for one in messages], MARKED)
        pause = FIRST_PAUSE
        for _ in range(TRIES):
            if not messages:
                return
            answers = await self._send(messages)
            failed = [
                (one, answer)
                for one, answer in zip(messages, answers, strict=True)
                if isinstance(answer, TranshipError) or (answer.duplicate_of is not None and not there)
            ]
            messages = [one for one, _ in failed]
            if failed:
                # A task that has come to a worker without a place is there until the worker has settled it.
                log.debug("%d tasks whose turn it is are sent once more: %s", len(failed), failed[0][1])
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        if messages:
            log.warning("%d tasks whose turn it is could not be sent, and are sent later", len(messages))

    async def _mark(self, ids: Sequence[str], ttl: float | None) -> None:
        await self._patiently(lambda: self._records.put([Record(mark_key(one), b"", ttl=ttl) for one in ids]))

    async def _envelope(self, line: _OneLine, granted: Granted) -> Envelope | None:
        """Return the task that has got a slot; None: it cannot be had, and the next one gets the slot."""
        _, part, block, number = granted
        if (part, block) not in self._blocks:
            await self._load(part, block)
        try:
            return envelope_of(self._blocks[part, block][number])
        except (IndexError, MalformedMessage, TypeError, ValueError):
            log.exception("a task of line %r of %s is lost, it cannot be read any more", line.key, line.task)
            self._drop(line, granted)
            return None

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

    async def _is_lost(self, line: _OneLine, overdue: Overdue) -> bool:
        """Whether a task has to be sent again. One that has ended leaves the line: who ran it has died before that."""
        if not overdue.comes_again:
            return True
        envelope = await self._envelope(line, overdue.granted)
        if envelope is None or self._has_ended is None or not envelope.keeps_result:
            return envelope is not None
        if await self._has_ended(envelope):
            self._drop(line, overdue.granted)
        return False

    def _drop(self, line: _OneLine, granted: Granted) -> None:
        """Free the slot of what has ended, or is not there."""
        job = asyncio.get_running_loop().create_task(self.leave(line.task, Place(line.key, *granted), "", line.limits))
        self._sending[job] = line.task, line.key
        job.add_done_callback(self._sending.__delitem__)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` does; again and again where a store does not answer. It may be repeated."""
        until, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return await call()
            except TranshipError as error:
                if not error.retryable or isinstance(error, ClosedError) or time.monotonic() > until:
                    raise
                log.info("the records of limits cannot be reached, trying again: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)


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
