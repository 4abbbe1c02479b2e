"""The inspector: how many are ready, who works, and the dead letters. More RabbitMQ does not tell over AMQP."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tranship.driver import Kit
from tranship.envelope import DeadLetter, Priority
from tranship.ports import Heartbeat, QueueInfo
from tranship.protocol import Message
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._deadletters import DeadLetters

__all__ = ["RabbitInspector"]


class RabbitInspector:
    """See :class:`tranship.ports.Inspector`.

    Seen are the queues that tranship has used. Looking at dead letters takes them and gives them back, to their
    places; two who look at once see a part each.
    """

    peek_disturbs = True

    def __init__(self, ctx: Context, kit: Kit) -> None:
        self._ctx, self._kits = ctx, kit.inspector
        self._letters = DeadLetters(ctx)

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is ready, and what is dead."""
        self._ctx.check()
        found: list[QueueInfo] = []
        names = self._ctx.names
        for queue in await self._ctx.queue_names.known():
            levels = {one.name: one.priority for one in names.physical([queue])}
            counts = await self._ctx.topology.counts([*levels, names.dead(queue)])
            info = _info(queue, levels, counts, counts.get(names.dead(queue), 0))
            if any(info.ready.values()) or info.dead:
                found.append(info)
        return found

    async def ready(self, queues: Collection[str]) -> int:
        """Count what is ready in some queues, which who asks knows by name."""
        self._ctx.check()
        names = [one.name for one in self._ctx.names.physical(queues)]
        return sum((await self._ctx.topology.counts(names)).values())

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beats."""
        self._ctx.check()
        return await self._kits.workers()

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """List dead letters."""
        self._ctx.check()
        return await self._letters.page(queue, limit, after)

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Show dead letters."""
        self._ctx.check()
        return await self._letters.find(ids)

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again: a confirmed copy, then the dead letter goes.

        Raises:
            MalformedMessage: some are not complete messages and stay where they are.
        """
        self._ctx.check()
        return await self._letters.replay(ids)

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters."""
        self._ctx.check()
        return await self._letters.purge(ids, queue)

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Take in dead letters of another broker.

        Raises:
            BrokerUnreachable, StorageFull, SubmitUnknown, EncodeError: some have been added perhaps.
        """
        self._ctx.check()
        await self._letters.add(letters, messages)


def _info(queue: str, levels: Mapping[str, Priority], counts: Mapping[str, int], dead: int) -> QueueInfo:
    ready = dict.fromkeys(Priority, 0)
    for name, level in levels.items():
        ready[level] += counts.get(name, 0)
    return QueueInfo(name=queue, ready=ready, dead=dead)
