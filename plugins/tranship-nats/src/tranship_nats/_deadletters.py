"""Dead letters: a stream of their own, listed, shown, replayed and purged by its sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tranship import codec
from tranship.envelope import DeadLetter
from tranship.errors import InvalidOptionError
from tranship.protocol import Message, RawMessage, epoch_of, restarted, whole_of
from tranship_nats._api import Stored
from tranship_nats._asks import Ask
from tranship_nats._context import Context
from tranship_nats._frames import escaped, unescaped
from tranship_nats._message import DEAD_COUNT, DEAD_DETAIL, DEAD_REASON, block_again, block_of, id_in, raw_of, said
from tranship_nats._names import id_token, token
from tranship_nats._results import NatsResults
from tranship_nats._settling import stored

__all__ = ["DeadLetters"]

_UNKNOWN: Final = "unknown"
_DIED_AT: Final = b"Dead-At"


class DeadLetters:
    """Works on the stream of dead letters.

    A dead letter's id is its sequence; a task's id stands for its latest death.

    Args:
        ctx: the backend's.
        results: where the results of replayed tasks are forgotten.
    """

    def __init__(self, ctx: Context, results: NatsResults) -> None:
        self._ctx = ctx
        self._results = results

    async def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters behind ``after``, oldest first.

        Raises:
            InvalidOptionError: ``after`` is not a dead letter's id.
        """
        if after and not _is_id(after):
            raise InvalidOptionError(f"dead letter {after!r} cannot be; expected a number such as '17'")
        found: list[DeadLetter] = []
        if limit <= 0:
            return found
        stream = await self._ctx.streams.need("dead")
        async for one in self._ctx.api.walk(stream, self._pattern(queue), int(after or 0)):
            found.append(self._letter(one))
            if len(found) >= limit:
                break
        return found

    async def find(self, ids: Sequence[str]) -> list[DeadLetter]:
        """Return the dead letters of ``ids``, oldest first."""
        return [self._letter(one) for one in (await self._find(ids)).values()]

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again; return which of ``ids`` were found."""
        found = await self._find(ids)
        replayed: set[str] = set()
        for one in found.values():
            await self._replay(one)
            replayed |= {str(one.seq), _task_id(one)}
        return [given for given in ids if given in replayed]

    async def purge(self, ids: Sequence[str] | None, queue: str | None) -> int:
        """Delete dead letters by id, of a queue, or all; return how many."""
        stream = await self._ctx.streams.need("dead")
        if ids is None:
            return await self._ctx.api.purge(stream, self._pattern(queue))
        found = await self._find(ids)
        return sum([await self._ctx.api.delete(stream, seq) for seq in found])

    async def add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker."""
        await self._ctx.streams.need("dead")
        asks = [self._added(letter, message) for letter, message in zip(letters, messages, strict=True)]
        for answer in await self._ctx.api.make_all(asks):
            stored(self._ctx, "dead", answer)

    def _added(self, letter: DeadLetter, message: Message) -> Ask:
        more = b"".join(b"%b: %b\r\n" % line for line in said(letter.reason, letter.detail, letter.deliveries))
        more += b"%b: %r\r\n" % (_DIED_AT, letter.died_at)
        msg_id = escaped(f"%:added:{letter.id[:100]}:{letter.died_at}:{message.envelope.id}")
        headers, data = block_of(message, msg_id, more=more)
        subject = self._ctx.names.buried(letter.queue, letter.priority, message.envelope.id)
        return subject.encode(), headers, data

    def _pattern(self, queue: str | None) -> str:
        root = self._ctx.names.root
        return f"{root}.x.>" if queue is None else f"{root}.x.{token(queue, 'queue')}.>"

    async def _find(self, ids: Sequence[str]) -> dict[int, Stored]:
        """Return what is meant by ``ids``, by sequence, in its order."""
        stream = await self._ctx.streams.need("dead")
        found: dict[int, Stored] = {}
        for given in dict.fromkeys(ids):
            one = await self._ctx.api.get(stream, seq=int(given)) if _is_id(given) else None
            if one is None:
                one = await self._latest(stream, given)
            if one is not None:
                found[one.seq] = one
        return dict(sorted(found.items()))

    async def _latest(self, stream: str, task_id: str) -> Stored | None:
        latest = None
        pattern = f"{self._ctx.names.root}.x.*.*.{id_token(task_id)}"
        async for one in self._ctx.api.walk(stream, pattern):
            latest = one
        return latest

    async def _replay(self, found: Stored) -> None:
        ctx, names = self._ctx, self._ctx.names
        raw = raw_of(found.block, found.data)
        task_id = id_in(raw.headers)
        if task_id:
            await self._results.forget_many([task_id])
        queue, level = names.place_of(found.subject)
        headers, data = block_again(raw, restarted(_bytes(raw)), b"%%:again:%d" % found.seq)
        await ctx.streams.need("work")
        (answer,) = await ctx.link.ask_all([(names.task(queue, level).encode(), headers, data)])
        stored(ctx, "work", answer)
        # Queued, and then deleted: interrupted in between, it is recognised when it is replayed again.
        await ctx.api.delete(ctx.streams.name("dead"), found.seq)

    def _letter(self, found: Stored) -> DeadLetter:
        raw = raw_of(found.block, found.data)
        values = _values(raw)
        queue, level = self._ctx.names.place_of(found.subject)
        headers = found.headers
        return DeadLetter(
            id=str(found.seq),
            task_id=_text(values.get("id")),
            task=_text(values.get("task")),
            queue=queue,
            priority=level,
            reason=unescaped(headers.get(DEAD_REASON, b"")) or _UNKNOWN,
            detail=unescaped(headers.get(DEAD_DETAIL, b"")),
            deliveries=whole_of(headers.get(DEAD_COUNT)) or 0,
            died_at=_died_at(found),
            headers=values,
            body=raw.body,
            content_type=raw.content_type or codec.JSON,
        )


def _is_id(given: str) -> bool:
    return whole_of(given, least=1) is not None


def _task_id(found: Stored) -> str:
    return id_in(raw_of(found.block, found.data).headers)


def _died_at(found: Stored) -> float:
    """When it died: where it came from elsewhere it says so itself."""
    died_at = epoch_of(found.headers.get(_DIED_AT))
    return found.time if died_at is None else died_at


def _bytes(raw: RawMessage) -> bytes:
    return raw.headers if isinstance(raw.headers, bytes) else orjson.dumps(dict(raw.headers))


def _values(raw: RawMessage) -> Mapping[str, Any]:
    try:
        values = orjson.loads(_bytes(raw))
    except orjson.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
