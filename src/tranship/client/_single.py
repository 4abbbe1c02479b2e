"""Submits of tasks of which there is one at a time, by records that all clients of a store share.

A record is a list: the id of the task that counts, since when (of one that waits for quiet: when it is due) by the
broker's clock, and whether the broker has it for certain. The task's own result says that it has ended, so nothing is
asked of the worker: it may be Celery's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from tranship import codec
from tranship.client._link import ClientLink
from tranship.envelope import Receipt, TaskState
from tranship.errors import MalformedMessage, SubmitUnknown, TranshipError, UnsupportedError
from tranship.pauses import Pauses
from tranship.ports import Capability, Record, Records
from tranship.protocol import Message
from tranship.task import Single

__all__ = ["submit_single"]

log = logging.getLogger("tranship.client")

CLAIMED: Final = 60.0
"""Seconds after which a submit that nobody has finished, because its program died, is no longer counted."""
FIRST_LOOK: Final = 0.02
LAST_LOOK: Final = 1.0
"""Seconds between two looks whether somebody's submit has gone through."""
TOO_LATE: Final = 0.05
"""Seconds before it is due in which a task is not cancelled any more: it might be running by then."""
MARGIN: Final = 60.0
"""Seconds for which is known what has just become due."""

Send = Callable[[Message], Awaitable[Receipt]]


class _Holder(NamedTuple):
    """The task that counts."""

    id: str
    at: float
    sent: bool
    record: Record


async def submit_single(link: ClientLink, single: Single, key: str, message: Message, send: Send) -> Receipt:
    """Submit a task, unless there is one that counts; on the link's loop.

    Args:
        link: where.
        single: how.
        key: of the record.
        message: the task, already delayed where it has to be quiet.
        send: hands a message over.

    Raises:
        UnsupportedError: the store keeps no records, or the broker has no delays or cancels.
        SubmitError, BrokerError: it was not submitted, or nobody knows.
    """
    records = _records(link, single)
    if single.debounce is None:
        return await _Unique(link, records, key, message).submit(send)
    return await _Debounced(link, records, key, message, single.debounce).submit(send)


def _records(link: ClientLink, single: Single) -> Records:
    records = link.records_or_none()
    if records is None or not link.keeps_results:
        raise UnsupportedError(
            f"{single.option} needs results and records, which {link.store_name} does not keep; give a result store "
            "that does: Client(url, result_url=...) or TRANSHIP_RESULT_URL, for workers as well"
        )
    if single.debounce is not None and not (link.can_cancel and link.backend.capabilities.has(Capability.DELAY)):
        raise UnsupportedError(
            f"debounce needs delays and cancels, which {link.backend.name} does not have; use another broker"
        )
    return records


class _Unique:
    """One submit of a task that is to be the only one until it has ended."""

    def __init__(self, link: ClientLink, records: Records, key: str, message: Message) -> None:
        self._link = link
        self._records = records
        self._key = key
        self._message = message
        envelope = message.envelope
        self._id = envelope.id
        kept = link.result_ttl if envelope.result_ttl is None else envelope.result_ttl
        self._ttl = kept + max((envelope.not_before or 0.0) - link.clock.now(), 0.0)
        """A result that is not kept any more looks like one that is not there yet."""

    async def submit(self, send: Send) -> Receipt:
        """Submit it, or return who is there."""
        if (other := await self._claim()) is not None:
            return Receipt(self._id, other)
        try:
            receipt = await send(self._message)
        except SubmitUnknown:
            raise
        except TranshipError:
            await self._give_up()
            raise
        # One that is there already, under an id of the caller's own, counts.
        done = self._record(receipt.duplicate_of or receipt.id, sent=True)
        try:
            await self._records.put([done])
        except TranshipError as error:
            log.warning("task %s is submitted, and will not be unique any more in %g s: %s", self._id, CLAIMED, error)
        return receipt

    async def _claim(self) -> str | None:
        """Be the one that counts; or return the id of another, which has not ended."""
        pauses = Pauses(FIRST_LOOK, LAST_LOOK)
        while not await self._records.write(self._record(self._id)):
            (found,) = await self._records.read([self._key])
            if found is None:
                continue
            holder = _read(found)
            if holder is None or (holder.sent and await self._ended(holder.id)):
                if await self._records.write(self._record(self._id, version=found.version)):
                    return None
            elif holder.id == self._id:
                return None
            elif holder.sent:
                await self._keep(holder)
                return holder.id
            else:
                # Its submit is under way; whoever died in the middle of it is forgotten in time.
                await asyncio.sleep(pauses.next())
        return None

    async def _ended(self, task_id: str) -> bool:
        (found,) = await self._link.states([task_id])
        return found.state.terminal or found.state is TaskState.UNKNOWN

    async def _keep(self, holder: _Holder) -> None:
        """Somebody wants to know of it still: half of its time is the least that it is counted from now on."""
        if self._link.clock.now() - holder.at > self._ttl / 2:
            await self._records.write(self._record(holder.id, sent=True, version=holder.record.version))

    async def _give_up(self) -> None:
        """The broker has refused it: the next one need not wait."""
        try:
            (found,) = await self._records.read([self._key])
            if found is not None and (holder := _read(found)) is not None and holder.id == self._id:
                await self._records.remove(found)
        except TranshipError as error:
            log.debug("the claim of task %s stays for %g s: %s", self._id, CLAIMED, error)

    def _record(self, task_id: str, *, sent: bool = False, version: int = 0) -> Record:
        value = codec.dumps([task_id, self._link.clock.now(), sent], name="a claim")
        return Record(self._key, value, version, ttl=self._ttl if sent else CLAIMED)


class _Debounced:
    """One submit of a task that runs once nobody has submitted it for a while.

    The record decides who is later. It is written before the task is sent: a program that is held up in between cannot
    end a task that was submitted meanwhile, and who comes meanwhile ends one that is not there yet.
    """

    def __init__(self, link: ClientLink, records: Records, key: str, message: Message, quiet: float) -> None:
        self._link = link
        self._records = records
        self._message = message
        self._id = message.envelope.id
        value = codec.dumps([self._id, message.envelope.not_before, True], name="what waits for quiet")
        self._record = Record(key, value, ttl=quiet + MARGIN)

    async def submit(self, send: Send) -> Receipt:
        """Submit it, and end the one before it, unless that is due."""
        before = await self._count()
        try:
            receipt = await send(self._message)
        except SubmitUnknown:
            raise
        except TranshipError:
            await self._give_up(before)
            raise
        left = TOO_LATE if before is None or before.id == self._id else before.at - self._link.clock.now()
        if before is not None and left > TOO_LATE:
            try:
                # It is remembered for longer than the task waits.
                await self._link.cancel("id", [before.id], left + MARGIN)
            except TranshipError as error:
                log.warning("task %s is submitted, and the one before it may run as well: %s", self._id, error)
        return receipt

    async def _count(self) -> _Holder | None:
        """Be the one that counts, and return the one before."""
        record = self._record
        while True:
            (found,) = await self._records.read([record.key])
            version = 0 if found is None else found.version
            if await self._records.write(Record(record.key, record.value, version, ttl=record.ttl)):
                return None if found is None else _read(found)

    async def _give_up(self, before: _Holder | None) -> None:
        """The broker has refused it: the one before it counts again, for the next one to end."""
        try:
            (found,) = await self._records.read([self._record.key])
            if found is None or found.value != self._record.value:
                return
            if before is None:
                await self._records.remove(found)
            else:
                old = before.record
                await self._records.write(Record(old.key, old.value, found.version, ttl=self._record.ttl))
        except TranshipError as error:
            log.debug("the task before %s, which was refused, may run beside a later one: %s", self._id, error)


def _read(record: Record) -> _Holder | None:
    """Return what a record says; None: it is none of ours."""
    try:
        found: Any = codec.loads(record.value, codec.JSON)
    except MalformedMessage:
        return None
    match found:
        case [str() as task_id, int() | float() as at, bool() as sent]:
            return _Holder(task_id, float(at), sent, record)
    return None
