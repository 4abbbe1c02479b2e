"""The inspector: what is in the queues, who works, and the dead letters."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tranship.envelope import DeadLetter, Priority
from tranship.ports import Heartbeat, QueueInfo
from tranship.protocol import Message
from tranship_nats._context import Context
from tranship_nats._deadletters import DeadLetters
from tranship_nats._ghosts import Place
from tranship_nats._results import NatsResults
from tranship_nats._signals import beat_of

__all__ = ["NatsInspector"]

_PAGE: Final = 256
"""Consumers per answer of CONSUMER.LIST, as the server has it."""

Places = dict[str, dict[Priority, int]]


class NatsInspector:
    """See :class:`tranship.ports.Inspector`.

    Numbers of one queue come from several answers: while tasks come and go they may not fit together.
    """

    peek_disturbs = False

    def __init__(self, ctx: Context, results: NatsResults) -> None:
        self._ctx = ctx
        self._letters = DeadLetters(ctx, results)

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is where."""
        self._ctx.check()
        stored, consumers = await self._look()
        if await self._put_right(stored, consumers):
            stored, consumers = await self._look()
        delayed, dead = await asyncio.gather(self._counts("delay", "d"), self._counts("dead", "x"))
        names = {*stored, *delayed, *dead}
        infos = [self._info(name, stored[name], delayed[name], dead[name], consumers) for name in sorted(names)]
        return [await info for info in infos]

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beats; the server forgets them after a minute."""
        self._ctx.check()
        stream = await self._ctx.streams.need("workers")
        stored = await self._ctx.api.latest(stream, self._ctx.names.key("workers", ">"))
        beats = [beat for one in stored if (beat := beat_of(one.data)) is not None]
        return sorted(beats, key=lambda beat: beat.worker)

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """List dead letters.

        Raises:
            InvalidOptionError: ``after`` is not a dead letter's id.
        """
        self._ctx.check()
        return await self._letters.page(queue, limit, after)

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Show dead letters; a task's id stands for its latest death."""
        self._ctx.check()
        return await self._letters.find(ids)

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again."""
        self._ctx.check()
        return await self._letters.replay(ids)

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters."""
        self._ctx.check()
        return await self._letters.purge(ids, queue)

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Take dead letters of another broker in; one that is added again soon is recognised."""
        self._ctx.check()
        await self._letters.add(letters, messages)

    async def _counts(self, kind: str, part: str) -> Places:
        """Return how many messages of each queue and level a stream holds."""
        names = self._ctx.names
        stream = await self._ctx.streams.need(kind)
        found: Places = defaultdict(Counter)
        for subject, count in (await self._ctx.api.subjects(stream, f"{names.root}.{part}.>")).items():
            queue, level = names.place_of(subject)
            found[queue][level] += count
        return found

    async def _consumers(self) -> dict[str, Mapping[str, Any]]:
        """Return the consumers of the queues by name."""
        stream = await self._ctx.streams.need("work")
        found: dict[str, Mapping[str, Any]] = {}
        while True:
            answer = await self._ctx.api.make(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
            page = answer.get("consumers") or []
            found |= {one["name"]: one for one in page}
            if len(page) < _PAGE:
                return found

    async def _look(self) -> tuple[Places, dict[str, Mapping[str, Any]]]:
        stored, consumers = await asyncio.gather(self._counts("work", "t"), self._consumers())
        return stored, consumers

    async def _put_right(self, stored: Places, consumers: Mapping[str, Mapping[str, Any]]) -> bool:
        """Look closer where not as much is stored as is ready or held; whether the server was wrong."""
        names, ghosts = self._ctx.names, self._ctx.ghosts
        places = {names.consumer(queue, level): (queue, level) for queue in stored for level in Priority}
        doubtful = []
        for name, (queue, level) in places.items():
            consumer = consumers.get(name)
            if consumer and stored[queue][level] != consumer["num_pending"] + consumer["num_ack_pending"]:
                doubtful.append(Place(names.work, name, names.task(queue, level)))
        return any(await asyncio.gather(*map(ghosts.remove, doubtful)))

    async def _info(
        self,
        name: str,
        stored: Mapping[Priority, int],
        delayed: Mapping[Priority, int],
        dead: Mapping[Priority, int],
        consumers: Mapping[str, Mapping[str, Any]],
    ) -> QueueInfo:
        held = {level: self._of(consumers, name, level).get("num_ack_pending", 0) for level in Priority}
        ready = {level: max(0, stored.get(level, 0) - held[level]) for level in Priority}
        ages = [await self._age(name, level, consumers) for level in Priority if ready[level]]
        return QueueInfo(
            name=name,
            ready=ready,
            delayed=sum(delayed.values()),
            in_flight=sum(held.values()),
            oldest_age=max(ages, default=0.0),
            dead=sum(dead.values()),
        )

    async def _age(self, queue: str, level: Priority, consumers: Mapping[str, Mapping[str, Any]]) -> float:
        """Return the age of the first message that has not been delivered; of the first at all where all have."""
        names, consumer = self._ctx.names, self._of(consumers, queue, level)
        undelivered = consumer.get("num_pending", 1)
        begin = consumer.get("delivered", {}).get("stream_seq", 0) + 1 if undelivered else 1
        subject = names.task(queue, level)
        found = await self._ctx.api.get(names.work, seq=begin, next_by_subj=subject)
        return 0.0 if found is None else max(0.0, self._ctx.clock.now() - found.time)

    def _of(self, consumers: Mapping[str, Mapping[str, Any]], queue: str, level: Priority) -> Mapping[str, Any]:
        return consumers.get(self._ctx.names.consumer(queue, level), {})
