"""What an operator sees of several brokers: one picture."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from tranship.envelope import DeadLetter, Priority
from tranship.errors import MalformedMessage, TranshipError, UnsupportedError
from tranship.ports import Backend, Heartbeat, QueueBrowser, QueuedTask, QueueInfo, ReaderInspector, ready_in
from tranship.routing._fleet import Fleet
from tranship.routing._letters import Cursor, labelled, named, page
from tranship.routing._member import Member
from tranship.routing._results import RoutedResults

__all__ = ["RoutedInspector"]

T = TypeVar("T")


class RoutedInspector:
    """See :class:`tranship.ports.Inspector`. Numbers are sums over the brokers that answer; who does not is left
    out, and named in the log and in the backend's warnings.
    """

    def __init__(self, fleet: Fleet, results: RoutedResults) -> None:
        self._fleet = fleet
        self._results = results

    @property
    def peek_disturbs(self) -> bool:
        """Whether looking disturbs any broker that is there."""
        self._fleet.check()
        return any(_disturbs(one) for one in self._fleet.usable())

    async def queues(self) -> Sequence[QueueInfo]:
        """Every queue with something in it at any broker, by name."""
        answers = await self._fleet.all_usable("looking at queues", lambda backend: backend.inspector().queues())
        by_name: dict[str, list[QueueInfo]] = {}
        for infos in answers.values():
            for info in infos:
                by_name.setdefault(info.name, []).append(info)
        return [_sum(name, infos) for name, infos in sorted(by_name.items())]

    async def ready(self, queues: Collection[str]) -> int:
        """How many messages are ready in some queues at all brokers together."""
        counts = await self._fleet.all_usable("counting", lambda backend: ready_in(backend.inspector(), queues))
        return sum(counts.values())

    async def may_be_read(self, queue: str) -> bool:
        """Whether anybody may read it at any broker who sends no heartbeats."""
        found = await self._fleet.all_usable("looking for readers", lambda backend: _may_be_read(backend, queue))
        return any(found.values())

    async def waiting(self, queue: str, *, limit: int = 100) -> Sequence[QueuedTask]:
        """What waits in a queue, broker after broker: what is ready at each, then what is delayed."""
        found = await self._fleet.all_usable(
            "looking into a queue", lambda backend: _browser(backend).waiting(queue, limit=limit)
        )
        every = [task for tasks in found.values() for task in tasks]
        return sorted(every, key=lambda task: task.state == "delayed")[:limit]

    async def purge(self, queue: str, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Remove what waits in a queue at all brokers."""
        found = await self._fleet.all_usable("purging a queue", lambda backend: _browser(backend).purge(queue, ids))
        return [one for gone in found.values() for one in gone]

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beat of every worker, whichever broker has it."""
        answers = await self._fleet.all_usable("looking at workers", lambda backend: backend.inspector().workers())
        latest: dict[str, Heartbeat] = {}
        for beats in answers.values():
            for beat in beats:
                if beat.worker not in latest or latest[beat.worker].at < beat.at:
                    latest[beat.worker] = beat
        return [latest[name] for name in sorted(latest)]

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """Dead letters of all brokers, oldest first. Their ids name their broker, and when they died."""
        cursor = Cursor.read(after)

        async def read(member: Member, backend: Backend) -> list[DeadLetter]:
            return await page(backend.inspector(), self._number(member), queue, limit, cursor)

        found = await self._on(self._fleet.usable(), read, doing="looking at dead letters")
        letters = [letter for part in found.values() for letter in part]
        letters.sort(key=lambda letter: Cursor.read(letter.id).place)
        return letters[:limit]

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """The dead letters of these ids, their own or their tasks'."""

        async def read(member: Member, backend: Backend) -> list[DeadLetter]:
            number = self._number(member)
            letters = await backend.inspector().dead_get(list(named(ids, number)))
            return [labelled(letter, number) for letter in letters]

        found = await self._on(self._fleet.usable(), read, doing="looking at dead letters")
        return [letter for part in found.values() for letter in part]

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again, each at its broker."""
        self._results.forgotten(letter.task_id for letter in await self.dead_get(ids) if letter.task_id)
        refused: list[MalformedMessage] = []

        async def replay(member: Member, backend: Backend) -> list[str]:
            given = named(ids, self._number(member))
            try:
                return [given[one] for one in await backend.inspector().dead_replay(list(given))]
            except MalformedMessage as error:
                refused.append(error)
                return []

        found = await self._on(self._fleet.usable(), replay, doing="replaying dead letters")
        if refused:
            raise refused[0]
        replayed = {one for part in found.values() for one in part}
        return [one for one in ids if one in replayed]

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters at all brokers."""

        async def purge(member: Member, backend: Backend) -> int:
            given = None if ids is None else list(named(ids, self._number(member)))
            return await backend.inspector().dead_purge(given, queue=queue) if given != [] else 0

        found = await self._on(self._fleet.usable(), purge, doing="purging dead letters")
        return sum(found.values())

    def _number(self, member: Member) -> int:
        return self._fleet.members.index(member) + 1

    async def _on(
        self, members: Iterable[Member], work: Callable[[Member, Backend], Awaitable[T]], *, doing: str
    ) -> Mapping[Member, T]:
        by_backend = {member.backend: member for member in members}
        return await self._fleet.all_usable(doing, lambda backend: work(by_backend[backend], backend))


def _browser(backend: Backend) -> QueueBrowser:
    inspector = backend.inspector()
    if isinstance(inspector, QueueBrowser):
        return inspector
    raise UnsupportedError(f"{backend.name} cannot show or remove what waits in a queue")


def _disturbs(member: Member) -> bool:
    try:
        return member.backend.inspector().peek_disturbs
    except TranshipError:
        # It has gone in this very moment.
        return False


def _sum(name: str, infos: Sequence[QueueInfo]) -> QueueInfo:
    ready: dict[Priority, int] = {}
    for info in infos:
        for level, count in info.ready.items():
            ready[level] = ready.get(level, 0) + count
    ages = [info.oldest_age for info in infos if info.oldest_age is not None]
    return QueueInfo(
        name=name,
        ready=ready,
        delayed=_total(info.delayed for info in infos),
        in_flight=_total(info.in_flight for info in infos),
        oldest_age=max(ages) if len(ages) == len(infos) else None,
        dead=_total(info.dead for info in infos),
    )


def _total(numbers: Iterable[int | None]) -> int | None:
    """The sum; None: one of them cannot be told."""
    total = 0
    for one in numbers:
        if one is None:
            return None
        total += one
    return total


async def _may_be_read(backend: Backend, queue: str) -> bool:
    inspector = backend.inspector()
    return isinstance(inspector, ReaderInspector) and await inspector.may_be_read(queue)
