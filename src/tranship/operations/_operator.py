"""The operator's facade, awaited and blocking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tranship._portal import Portal
from tranship.checks import mapping, name_text, positive, whole
from tranship.client._link import ClientLink
from tranship.client.shared import Connector
from tranship.commanding import CommandAnswer
from tranship.connections import process_table
from tranship.envelope import DeadLetter
from tranship.errors import InvalidArgumentsError
from tranship.finished import Finished
from tranship.operations import _dead, _history, _samples, _schedules
from tranship.operations._dead import DeadLetterReport
from tranship.operations._diagnosis import Diagnosis
from tranship.operations._doctor import diagnose
from tranship.operations._history import History
from tranship.operations._move import Move, MoveOptions
from tranship.operations._move_report import MoveReport, Watcher
from tranship.operations._queues import QueueReport, purge_queue, queue_reports, waiting_tasks
from tranship.operations._sampler import Sampler
from tranship.ports import Heartbeat, QueuedTask
from tranship.registry import Registry
from tranship.schedules import Schedule, ScheduleReport
from tranship.settings import BrokerURL, Settings

__all__ = ["AsyncOperator", "Operator"]

T = TypeVar("T")
Work = Callable[[ClientLink], Coroutine[Any, Any, T]]

DOCTOR_TIMEOUT = 5.0
ANSWER_TIMEOUT = 3.0


class _Methods:
    """What both facades can do, as work on an opened link."""

    def __init__(
        self,
        url: str | None = None,
        *,
        result_url: str | None = None,
        namespace: str | None = None,
        settings: Settings | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.settings: Settings = settings or Settings.load(broker_url=url, result_url=result_url, namespace=namespace)
        self._registry = registry
        self._connector = Connector(self.settings, registry)

    def _diagnosing(self, timeout: float) -> Coroutine[Any, Any, Diagnosis]:
        return diagnose(self.settings, self._registry or Registry(), positive("timeout", timeout))

    def _moving(self, target: str | Settings, options: MoveOptions | None, watcher: Watcher | None) -> Move:
        if not isinstance(target, Settings):
            target = self.settings.replace(broker_url=BrokerURL.parse(target))
        if options is not None and not isinstance(options, MoveOptions):
            raise InvalidArgumentsError(f"options is {options!r}; expected MoveOptions")
        if watcher is not None and not callable(watcher):
            raise InvalidArgumentsError(f"watcher is {watcher!r}; expected something callable with a MoveProgress")
        return Move(self.settings, target, options, registry=self._registry, watcher=watcher)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.settings.broker_url}>"


class AsyncOperator(_Methods):
    """Looks after queues, workers and dead letters, from asyncio.

    ``async with`` or :meth:`aclose` gives the connection back. A method that the broker cannot serve raises
    UnsupportedError; all raise BrokerUnreachable when it does not answer.

    Args:
        url, result_url, namespace, settings, registry: as for :class:`~tranship.AsyncClient`.
    """

    async def open(self) -> Self:
        """Connect now rather than on first use; raises as :meth:`AsyncClient.open` does."""
        await self._connector.link()
        return self

    async def aclose(self) -> None:
        """Give the connection back. Idempotent."""
        await self._connector.aclose()

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            # Nobody else gets to close it.
            await self.aclose()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def queues(self) -> list[QueueReport]:
        """Every queue with something in it or with a worker on it, by name."""
        return await self._on_link(lambda link: queue_reports(link.backend))

    async def waiting(self, queue: str | None = None, *, limit: int = 100) -> list[QueuedTask]:
        """What waits in one queue, or in all: ready tasks as they would be taken, then delayed ones; ``limit`` of each
        queue at most.

        Raises:
            UnsupportedError: the broker cannot show it.
        """
        return await self._on_link(_waiting(queue, limit))

    async def purge_queue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """Remove tasks that wait in a queue: those of ``ids``, or all; return the ids of those that are gone. Whoever
        waits for one hears that it was cancelled; what a worker has runs on.

        Raises:
            UnsupportedError: the broker cannot do it.
        """
        return await self._on_link(_purging(queue, ids))

    async def workers(self) -> list[Heartbeat]:
        """The latest heartbeat of every worker that was heard of in the last minute, by name."""
        return await self._on_link(_workers)

    async def command(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        workers: Sequence[str] | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> list[CommandAnswer]:
        """Have workers do something while they work: ``"pause"``, ``"concurrency"``, a command of their owner's.

        Args:
            name: of the command.
            arguments: by name, such as ``{"queue": "mail"}``; at most 64 KiB as JSON.
            workers: names; None: all.
            timeout: seconds to wait for answers; sooner, once every worker that should be there has answered.

        Returns:
            What each worker answered, by name. One that should be there and has not answered is SILENT.

        Raises:
            UnsupportedError: the broker has no control channel.
            InvalidArgumentsError, EncodeError: arguments that are too large, or that JSON does not know.
        """
        return await self._on_link(_commanding(name, arguments, workers, timeout))

    async def dead_letters(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Dead letters, oldest first, of one queue or of all, starting behind the dead letter ``after``."""
        return await self._on_link(_page(queue, limit, after))

    async def count_dead_letters(self, queue: str | None = None) -> int:
        """How many dead letters there are, in one queue or in all."""
        return await self._on_link(lambda link: _dead.count(link, queue))

    async def dead_letter(self, letter_id: str) -> DeadLetterReport:
        """Everything about one dead letter, by its own id or its task's.

        Raises:
            TaskNotFound: there is none.
        """
        return await self._on_link(lambda link: _dead.show(link, letter_id))

    async def replay(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> list[str]:
        """Queue dead letters again: those of ``ids``, of a queue, or all when neither is given.

        Returns:
            The ids that were found. Those that die while this runs are not replayed again.
        """
        return await self._on_link(lambda link: _dead.replay(link, ids, queue))

    async def purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters: those of ``ids``, of a queue, or all when neither is given; return how many."""
        return await self._on_link(lambda link: _dead.purge(link, ids, queue))

    async def finished(self) -> list[Finished]:
        """The tasks that workers with the setting ``history`` remember to have ended, attempt by attempt, the latest
        first.

        Raises:
            UnsupportedError: neither broker nor result store keeps records.
        """
        return await self._on_link(_history.finished)

    async def read_history(self, history: History) -> None:
        """The same, into what has been read before: only what is new is read. Raises UnsupportedError likewise."""
        await self._on_link(lambda link: _history.read_into(link, history))

    async def keep_samples(self, sampler: Sampler) -> None:
        """Write the minutes of a sampler that are past, as records, for those who look later: twelve hours are kept.

        Of what it has written already, and before a minute is over, nothing is. This and :meth:`read_samples` raise
        UnsupportedError where neither broker nor result store keeps records.
        """
        await self._on_link(lambda link: _samples.keep(link, sampler))

    async def read_samples(self, sampler: Sampler) -> None:
        """Read the minutes that others have kept into a sampler, which has what came before it then."""
        await self._on_link(lambda link: _samples.read_into(link, sampler))

    async def schedules(self) -> list[ScheduleReport]:
        """Every schedule, by name: when it is due, what was sent last, whether it is paused.

        This and what follows raise UnsupportedError where neither broker nor result store keeps records.
        """
        return await self._on_link(_schedules.report)

    async def add_schedule(self, schedule: Schedule) -> None:
        """Add a schedule while schedulers run, or change one that was added.

        Raises:
            ConfigurationError: a scheduler at work declares one of that name.
        """
        await self._on_link(_schedules.add(schedule))

    async def remove_schedule(self, name: str) -> None:
        """Remove a schedule that was added, or that nobody declares any more.

        Raises:
            InvalidOptionError: there is none of that name.
            ConfigurationError: a scheduler at work declares it.
        """
        await self._on_link(_schedules.remove(name))

    async def pause_schedule(self, name: str) -> None:
        """Send no tick of a schedule until it is resumed. Raises InvalidOptionError: there is none of that name."""
        await self._on_link(_schedules.pause(name))

    async def resume_schedule(self, name: str) -> None:
        """Send ticks again, from the next one on. Raises InvalidOptionError: there is none of that name."""
        await self._on_link(_schedules.resume(name))

    async def trigger_schedule(self, name: str) -> str:
        """Run the task of a schedule now, out of turn; return the task's id.

        Raises:
            InvalidOptionError: there is none of that name. Whatever submitting raises.
        """
        return await self._on_link(_schedules.trigger(name))

    async def diagnose(self, timeout: float = DOCTOR_TIMEOUT) -> Diagnosis:
        """Look at settings, plugins, connection, queues and workers; each step gets ``timeout`` seconds.

        Uses a connection of its own; what cannot be reached is a finding, not an exception.
        """
        return await self._diagnosing(timeout)

    async def move(
        self, target: str | Settings, options: MoveOptions | None = None, *, watcher: Watcher | None = None
    ) -> MoveReport:
        """Move queues to another broker, by URL or settings, on connections of its own; see :class:`Move`.

        Cancelled: what the target has confirmed is removed here, everything else is given back.
        """
        return await self._moving(target, options, watcher).run()

    async def _on_link(self, work: Work[T]) -> T:
        link = await self._connector.link()
        if link.loop is asyncio.get_running_loop():
            return await work(link)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(link), link.loop))


class Operator(_Methods):
    """Looks after queues, workers and dead letters, blocking. Thread-safe.

    ``with`` or :meth:`close` gives the connection back. The same names as :class:`AsyncOperator`, without
    ``await``; see there for what they do and raise.

    Args:
        url, result_url, namespace, settings, registry: as for :class:`~tranship.Client`.
    """

    def open(self) -> Self:
        """Connect now rather than on first use; raises as :meth:`Client.open` does."""
        self._connector.blocking_link()
        return self

    def close(self) -> None:
        """Give the connection back. Idempotent."""
        self._connector.close()

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            # Nobody else gets to close it.
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def queues(self) -> list[QueueReport]:
        """As :meth:`AsyncOperator.queues`."""
        return self._on_link(lambda link: queue_reports(link.backend))

    def waiting(self, queue: str | None = None, *, limit: int = 100) -> list[QueuedTask]:
        """As :meth:`AsyncOperator.waiting`."""
        return self._on_link(_waiting(queue, limit))

    def purge_queue(self, queue: str, ids: Sequence[str] | None = None) -> list[str]:
        """As :meth:`AsyncOperator.purge_queue`."""
        return self._on_link(_purging(queue, ids))

    def workers(self) -> list[Heartbeat]:
        """As :meth:`AsyncOperator.workers`."""
        return self._on_link(_workers)

    def command(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        workers: Sequence[str] | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> list[CommandAnswer]:
        """As :meth:`AsyncOperator.command`."""
        return self._on_link(_commanding(name, arguments, workers, timeout))

    def dead_letters(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """As :meth:`AsyncOperator.dead_letters`."""
        return self._on_link(_page(queue, limit, after))

    def count_dead_letters(self, queue: str | None = None) -> int:
        """As :meth:`AsyncOperator.count_dead_letters`."""
        return self._on_link(lambda link: _dead.count(link, queue))

    def dead_letter(self, letter_id: str) -> DeadLetterReport:
        """As :meth:`AsyncOperator.dead_letter`."""
        return self._on_link(lambda link: _dead.show(link, letter_id))

    def replay(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> list[str]:
        """As :meth:`AsyncOperator.replay`."""
        return self._on_link(lambda link: _dead.replay(link, ids, queue))

    def purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """As :meth:`AsyncOperator.purge`."""
        return self._on_link(lambda link: _dead.purge(link, ids, queue))

    def finished(self) -> list[Finished]:
        """As :meth:`AsyncOperator.finished`."""
        return self._on_link(_history.finished)

    def read_history(self, history: History) -> None:
        """As :meth:`AsyncOperator.read_history`."""
        self._on_link(lambda link: _history.read_into(link, history))

    def keep_samples(self, sampler: Sampler) -> None:
        """As :meth:`AsyncOperator.keep_samples`."""
        self._on_link(lambda link: _samples.keep(link, sampler))

    def read_samples(self, sampler: Sampler) -> None:
        """As :meth:`AsyncOperator.read_samples`."""
        self._on_link(lambda link: _samples.read_into(link, sampler))

    def schedules(self) -> list[ScheduleReport]:
        """As :meth:`AsyncOperator.schedules`."""
        return self._on_link(_schedules.report)

    def add_schedule(self, schedule: Schedule) -> None:
        """As :meth:`AsyncOperator.add_schedule`."""
        self._on_link(_schedules.add(schedule))

    def remove_schedule(self, name: str) -> None:
        """As :meth:`AsyncOperator.remove_schedule`."""
        self._on_link(_schedules.remove(name))

    def pause_schedule(self, name: str) -> None:
        """As :meth:`AsyncOperator.pause_schedule`."""
        self._on_link(_schedules.pause(name))

    def resume_schedule(self, name: str) -> None:
        """As :meth:`AsyncOperator.resume_schedule`."""
        self._on_link(_schedules.resume(name))

    def trigger_schedule(self, name: str) -> str:
        """As :meth:`AsyncOperator.trigger_schedule`."""
        return self._on_link(_schedules.trigger(name))

    def diagnose(self, timeout: float = DOCTOR_TIMEOUT) -> Diagnosis:
        """As :meth:`AsyncOperator.diagnose`."""
        portal = Portal("tranship-doctor")
        try:
            return portal.run(self._diagnosing(timeout))
        finally:
            portal.stop()

    def move(
        self, target: str | Settings, options: MoveOptions | None = None, *, watcher: Watcher | None = None
    ) -> MoveReport:
        """As :meth:`AsyncOperator.move`; an interrupt ends it in order before it is raised."""
        return self._moving(target, options, watcher).run_blocking()

    def _on_link(self, work: Work[T]) -> T:
        link = self._connector.blocking_link()
        return process_table().portal().run(work(link))


async def _workers(link: ClientLink) -> list[Heartbeat]:
    return list(await link.backend.inspector().workers())


def _waiting(queue: str | None, limit: int) -> Work[list[QueuedTask]]:
    whole("limit", limit)
    return lambda link: waiting_tasks(link.backend, queue, limit)


def _purging(queue: str, ids: Sequence[str] | None) -> Work[list[str]]:
    if isinstance(ids, str):
        raise InvalidArgumentsError(f"ids is {ids!r}; expected several ids, or None for all")
    return lambda link: purge_queue(link, queue, ids)


def _commanding(
    name: str, arguments: Mapping[str, Any] | None, workers: Sequence[str] | None, timeout: float
) -> Work[list[CommandAnswer]]:
    name_text("the name of a command", name)
    given = mapping("arguments", {} if arguments is None else arguments)
    positive("timeout", timeout)
    if workers is not None and (isinstance(workers, str) or not workers):
        raise InvalidArgumentsError(f"workers is {workers!r}; expected several names, or None for all")
    names = None if workers is None else [name_text("a name in workers", one) for one in workers]

    async def send(link: ClientLink) -> list[CommandAnswer]:
        return await link.commanding.command(name, given, names, timeout)

    return send


def _page(queue: str | None, limit: int, after: str) -> Work[list[DeadLetter]]:
    whole("limit", limit)

    async def read(link: ClientLink) -> list[DeadLetter]:
        return list(await link.backend.inspector().dead(queue, limit=limit, after=after))

    return read
