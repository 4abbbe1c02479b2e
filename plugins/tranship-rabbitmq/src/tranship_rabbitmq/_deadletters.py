"""Dead letters: a queue beside each queue, looked at by taking everything and giving it back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship import codec
from tranship.envelope import DeadLetter, Priority
from tranship.errors import EncodeError, InvalidOptionError, MalformedMessage
from tranship.ports import Delivery
from tranship.protocol import Message, RawMessage, decode, epoch_of, restarted, whole_of
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._delivery import token_of
from tranship_rabbitmq._errors import error_of, is_missing
from tranship_rabbitmq._tables import Tables, ours
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import NO_TABLE, Properties, properties_of
from tranship_rabbitmq.amqp.ends import Ended
from tranship_rabbitmq.amqp.table import TableError, decode_table, encode_table

__all__ = ["DeadLetters", "burial"]

_RECORD: Final = "tranship-dead"
"""Header of a dead letter: what is known of its death."""
_AT_ONCE: Final = 200
_NAMED: Final = 3


def burial(delivery: Delivery, reason: str, detail: str) -> Properties:
    """Return the properties of the dead letter for ``delivery``. Two of one death have the same mark in their ids."""
    properties = token_of(delivery).properties
    try:
        headers = ours(properties.headers())
    except TableError:
        headers = {}
    headers.pop(_RECORD, None)
    try:
        mark = hashlib.sha256(encode_table(headers) + token_of(delivery).arrived.body).hexdigest()[:16]
    except TableError:
        headers, mark = {}, hashlib.sha256(token_of(delivery).arrived.body).hexdigest()[:16]
    now = time.time()
    record = {
        "queue": delivery.queue,
        "priority": delivery.priority.label,
        "reason": reason,
        "detail": detail[:2000],
        "deliveries": delivery.delivery_count,
        "died_at": now,
    }
    buried = properties.with_headers({**headers, _RECORD: record})
    buried.message_id, buried.delivery_mode = f"{int(now * 1e6):016d}-{mark}", 2
    buried.expiration = None
    return buried


@dataclass(frozen=True, slots=True)
class _Found:
    """A dead letter in hand."""

    letter: DeadLetter
    arrived: Arrived
    properties: Properties
    channel: Channel

    @property
    def mark(self) -> str:
        """What two copies of one death have in common."""
        return self.letter.id.rpartition("-")[2]


class DeadLetters:
    """Works on the queues of dead letters. One look at a time; two processes that look at once see a part each.

    Args:
        context: of the backend.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = Tables()
        self._looking = asyncio.Lock()

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters behind ``after``, oldest first."""
        found = await self._look(await self._queues(queue), lambda _: False)
        return [letter for letter in found if letter.id > after][:limit]

    async def find(self, ids: Sequence[str]) -> list[DeadLetter]:
        """Return the dead letters of ``ids``, their own or their tasks', oldest first."""
        wanted = set(ids)
        found = await self._look(await self._queues(None), lambda _: False)
        return [letter for letter in found if letter.id in wanted or letter.task_id in wanted]

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again; return which of ``ids`` were found.

        Raises:
            MalformedMessage: some are not complete messages and stay where they are; all others of ``ids`` have
                been queued.
        """
        wanted, refused = set(ids), list[tuple[str, MalformedMessage]]()
        replayed: set[str | None] = set()

        async def again(found: _Found) -> bool:
            if found.letter.id not in wanted and found.letter.task_id not in wanted:
                return False
            try:
                await self._send(found)
            except MalformedMessage as error:
                refused.append((found.letter.id, error))
                return False
            replayed.update((found.letter.id, found.letter.task_id))
            return True

        await self._each(await self._queues(None), again)
        if refused:
            raise _refusal(refused)
        return [given for given in ids if given in replayed]

    async def purge(self, ids: Sequence[str] | None, queue: str | None) -> int:
        """Delete dead letters by id, of a queue, or all; return how many."""
        wanted = None if ids is None else set(ids)
        purged = await self._look(
            await self._queues(queue), lambda one: wanted is None or one.id in wanted or one.task_id in wanted
        )
        return len([one for one in purged if wanted is None or one.id in wanted or one.task_id in wanted])

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker, in this order."""
        for letter, message in zip(letters, messages, strict=True):
            name = self._context.names.dead(letter.queue)
            await self._context.topology.have_own(name, {})
            self._context.queue_names.add(letter.queue)
            await self._context.publisher.publish(self._taken_in(letter, message), message.body, routing_key=name)

    def _taken_in(self, letter: DeadLetter, message: Message) -> Properties:
        try:
            headers, _ = decode_table(self._tables.table(message.headers, message.envelope.id))
            mark = hashlib.sha256(encode_table(headers) + message.body).hexdigest()[:16]
            table = encode_table({**headers, _RECORD: _record(letter)})
        except TableError as error:
            raise EncodeError(f"dead letter {letter.id}: {error}", task_id=letter.task_id) from error
        return Properties(
            message.content_type,
            message.content_encoding,
            table,
            2,
            correlation_id=letter.task_id,
            reply_to=message.envelope.reply_to,
            message_id=f"{int(letter.died_at * 1e6):016d}-{mark}",
        )

    # Looking.

    async def _queues(self, queue: str | None) -> list[str]:
        if queue is not None:
            return [queue]
        return list(await self._context.queue_names.known())

    async def _look(self, queues: Collection[str], remove: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
        """Return every dead letter once, oldest first; those to ``remove`` are gone afterwards."""
        seen: dict[str, DeadLetter] = {}

        async def visit(found: _Found) -> bool:
            seen.setdefault(found.mark, found.letter)
            return remove(found.letter)

        await self._each(queues, visit)
        return sorted(seen.values(), key=lambda letter: letter.id)

    async def _each(self, queues: Collection[str], visit: Callable[[_Found], Any]) -> None:
        """Take every dead letter of ``queues``; those of which ``visit`` says so are deleted, the others go back."""
        async with self._looking:
            await self._context.consuming.open()
            for queue in queues:
                channel = await self._context.consuming.channel()
                try:
                    await self._visit(channel, queue, visit)
                except Ended as why:
                    if not is_missing(why):
                        raise error_of(why, doing=f"looking at the dead letters of {queue!r}") from why
                finally:
                    # What has not been acknowledged goes back to its place.
                    await self._context.consuming.bounded(channel.close(), doing="giving dead letters back")

    async def _visit(self, channel: Channel, queue: str, visit: Callable[[_Found], Any]) -> None:
        name = self._context.names.dead(queue)
        marks: set[str] = set()
        left = 1
        while left:
            batch = await self._take(channel, name, min(left, _AT_ONCE))
            left = batch[-1].left if len(batch) and batch[-1] else 0
            for arrived in batch:
                found = self._found(channel, queue, arrived)
                if await visit(found) or found.mark in marks:
                    channel.send("basic.ack", arrived.tag, False)
                marks.add(found.mark)

    async def _take(self, channel: Channel, name: str, count: int) -> list[Arrived]:
        calls = (channel.call("basic.get", 0, name, False) for _ in range(count))
        replies = await self._context.consuming.bounded(
            asyncio.gather(*calls, return_exceptions=True), doing=f"looking into {name!r}"
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [reply for reply in replies if isinstance(reply, Arrived)]

    def _found(self, channel: Channel, queue: str, arrived: Arrived) -> _Found:
        try:
            properties = properties_of(arrived.header)
            headers = ours(properties.headers())
        except TableError:
            properties, headers = Properties(), {}
        record = headers.pop(_RECORD, None)
        record = record if isinstance(record, dict) else {}
        return _Found(_letter(queue, headers, record, properties, arrived), arrived, properties, channel)

    async def _send(self, found: _Found) -> None:
        letter = found.letter
        raw = RawMessage(letter.headers, letter.body, letter.content_type, found.properties.content_encoding)
        decode(raw, queue=letter.queue, priority=letter.priority)
        headers = codec.loads(restarted(codec.dumps(dict(letter.headers))), codec.JSON)
        name, number = self._context.names.place(letter.queue, letter.priority)
        fresh = found.properties.with_headers(headers)
        fresh.message_id, fresh.priority = None, number
        await self._context.topology.queues([letter.queue])
        await self._context.publisher.publish(fresh, letter.body, routing_key=name)


def _letter(
    queue: str, headers: dict[str, Any], record: dict[str, Any], properties: Properties, arrived: Arrived
) -> DeadLetter:
    task_id, task = headers.get("id"), headers.get("task")
    mark = hashlib.sha256((properties.table or NO_TABLE) + arrived.body).hexdigest()[:16]
    return DeadLetter(
        id=properties.message_id or f"{0:016d}-{mark}",
        task_id=task_id if isinstance(task_id, str) else None,
        task=task if isinstance(task, str) else None,
        queue=queue,
        priority=_priority(record.get("priority")),
        reason=str(record.get("reason", "")),
        detail=str(record.get("detail", "")),
        deliveries=whole_of(record.get("deliveries")) or 0,
        died_at=epoch_of(record.get("died_at")) or 0.0,
        headers=headers,
        body=arrived.body,
        content_type=properties.content_type or codec.JSON,
    )


def _record(letter: DeadLetter) -> dict[str, Any]:
    return {
        "queue": letter.queue,
        "priority": letter.priority.label,
        "reason": letter.reason,
        "detail": letter.detail,
        "deliveries": letter.deliveries,
        "died_at": letter.died_at,
    }


def _priority(label: Any) -> Priority:
    try:
        return Priority.parse(str(label))
    except InvalidOptionError:
        return Priority.NORMAL


def _refusal(refused: Sequence[tuple[str, MalformedMessage]]) -> MalformedMessage:
    whys = "; ".join(f"{letter}: {error}" for letter, error in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    return MalformedMessage(
        f"not queued again, because they are not complete messages: dead letter {whys}{more}. All others of this call "
        "have been queued. `tranship dead purge <id>` deletes them"
    )
