"""The worker as its users see it."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from tranship._running import run
from tranship._signals import heard
from tranship.checks import name_text, one_of
from tranship.envelope import TaskResult
from tranship.errors import BusyError, ConfigurationError
from tranship.middleware import Middleware, checked
from tranship.registry import Registry
from tranship.schema import describe
from tranship.settings import Settings
from tranship.task import HotCache, Task, TaskCall
from tranship.worker._checkup import PORT, WorkerStatus
from tranship.worker._dependencies import Dependencies, checked_overrides
from tranship.worker._lifecycle import Hook, Lifecycle, Lifespan
from tranship.worker._one import place, run_one
from tranship.worker._own_commands import checked_commands
from tranship.worker._plugged import with_plugins
from tranship.worker._profile import Profile
from tranship.worker._record import Run
from tranship.worker._session import Session
from tranship.worker._setup import AnyTask, Setup, queue_names, tasks_by_name
from tranship.worker._shift import NOT_AT_WORK, Shift, Until
from tranship.worker._stopping import Stopping
from tranship.worker._types import checked_limits

__all__ = ["Worker"]

F = TypeVar("F", bound=Callable[..., Any])

IDLE_LOOK: Final = 0.02
"""Seconds between two looks of :meth:`Worker.run_until_idle` whether everything is done."""


class Worker:
    """Takes tasks from a broker and runs them: ``async def`` on the loop, ``def`` in threads.

    Args:
        url: the broker; None: ``TRANSHIP_BROKER_URL``, the settings file, else the embedded default.
        tasks: what it can run. A task that no worker knows goes to the dead letters.
        queues: what it consumes; None: the queues of ``tasks``.
        queues_in_order: take nothing from a queue while one listed before it has a task; otherwise they take turns.
        max_concurrent_tasks: how many run at once.
        task_type_limits: how many of a type (``@task(task_type=...)``) run at once, by type.
        max_deliveries: a task delivered more often than this without an end is dead-lettered.
        shutdown_timeout: seconds that running tasks get when the worker stops.
        wait_for_broker: seconds that a worker which starts waits for a broker that cannot be reached; None: as long as
            it takes, as one that is at work does.
        result_url: where results are kept; None: at the broker.
        namespace: prefixes every name on the broker.
        name: unique among workers, where the broker keeps names (UNIQUE_NAMES); None: host, process id and something
            random.
        labels: what heartbeats say of it besides, such as ``{"zone": "eu-1"}``; see :meth:`set_labels`.
        skill_dependencies: for each skill the names of what it needs loaded, such as models; heartbeats tell which
            skills are hot: those of which everything is in the :attr:`hot_cache`.
        middleware: what every handler's call and every ending passes through; the first is the outermost.
        lifespan: a function of the worker that gives an async context manager; all the work is inside of it, on the
            loop that ``async def`` handlers run on.
        on_startup, on_shutdown: functions without arguments, ``def`` or ``async def``, called there in order before
            the first task is taken and after the last has ended. An error at the start keeps it from working.
        on_command: functions by name that operators may call while it works; see :meth:`on_command`.
        overrides: for tests: what provides a dependency in place of its provider, such as ``{get_db: get_fake_db}``.
        settings, registry: as for :class:`~tranship.Client`.

    Raises:
        InvalidURLError, InvalidOptionError: a value that cannot be used.
        ConfigurationError: tasks that cannot be run as they are declared.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        tasks: Iterable[AnyTask],
        queues: Sequence[str] | None = None,
        queues_in_order: bool = False,
        max_concurrent_tasks: int | None = None,
        task_type_limits: Mapping[str, int] | None = None,
        max_deliveries: int | None = None,
        shutdown_timeout: float | None = None,
        wait_for_broker: float | None = None,
        result_url: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        labels: Mapping[str, Any] | None = None,
        skill_dependencies: Mapping[str, Sequence[str]] | None = None,
        middleware: Iterable[Middleware] = (),
        lifespan: Lifespan | None = None,
        on_startup: Iterable[Hook] = (),
        on_shutdown: Iterable[Hook] = (),
        on_command: Mapping[str, Callable[..., Any]] | None = None,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
        settings: Settings | None = None,
        registry: Registry | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "broker_url": url,
            "result_url": result_url,
            "namespace": namespace,
            "max_concurrent_tasks": max_concurrent_tasks,
            "max_deliveries": max_deliveries,
            "shutdown_timeout": shutdown_timeout,
            "wait_for_broker": wait_for_broker,
        }
        self.settings: Settings = settings.replace(**given) if settings else Settings.load(**given)
        self.tasks: dict[str, Task[..., Any]] = tasks_by_name(tasks)
        if any(one.isolation for one in self.tasks.values()):
            from tranship.worker._isolation import check_isolated

            check_isolated(self.tasks.values())
        self.queues: list[str] = queue_names(queues, self.tasks.values())
        self.task_type_limits: dict[str, int] = checked_limits(task_type_limits, self.tasks)
        self.queues_in_order: bool = bool(one_of("queues_in_order", queues_in_order, (True, False)))
        self.name: str = (
            name_text("name", name) if name else f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        )
        self.family = ""
        """Who sees to it that no two workers of one name are there at once: a parent that replaces its processes. A
        worker need not wait for the name of one that has died in the family. Empty: nobody."""
        self._profile = Profile(labels, skill_dependencies)
        self._middleware = checked(middleware)
        self._overrides = checked_overrides(overrides)
        self._dependencies = Dependencies(list(self.tasks.values()), self._overrides)
        self._lifecycle = Lifecycle(lifespan, on_startup, on_shutdown)
        self._commands = checked_commands(on_command)
        self._registry = registry
        self._stopping = Stopping()
        self._shift: Shift | None = None
        """The work under way."""
        self.dismissed: bool = False
        """Whether it was told by remote control to stop: whoever watches over it is not to replace it."""
        self.on_restart: Callable[[], bool] = _nobody
        """Called on its I/O loop when it is told to begin anew; whether another process takes its place."""
        self._serving = threading.Lock()
        self.on_listen: Callable[[int], None] = _nothing_of
        """Called with the port on which it answers health checks from now on, on its I/O loop."""
        self.on_begin: Callable[[], None] = _nothing
        """Called when it has begun to consume, on its I/O loop."""
        self.on_task_end: Callable[[Run], None] | None = None
        """Called with each delivery that has ended, on its I/O loop; to be set before it works."""
        self.on_end: Callable[[], None] = _nothing
        """Called when it has given back and closed everything, perhaps while a handler still blocks its loop; on
        whatever thread."""

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish what runs; a second signal hurries.

        Where an event loop is running already, as in a notebook, use ``await worker.serve()``.

        A broker that cannot be reached is waited for, at the start as later; the log says so.

        Raises:
            BrokerRefused, UnsupportedError, ...: it could not start, or can work no longer.
            ConfigurationError: an event loop is running in this thread.
            BrokerUnreachable: not for the whole of ``wait_for_broker`` could it start.
            WorkerNameTaken: another worker of that name is at work there.
        """
        with heard(self.signalled):
            run(self.serve(), instead="await worker.serve()")

    def run_with_health_check(self, port: int | None = None, *, host: str | None = None) -> None:
        """As :meth:`run`, and answer health checks by HTTP: ``/live``, ``/ready`` and ``/metrics``.

        Args:
            port: None: the setting ``health_port``, else 8080; 0: any that is free.
            host: None: the setting ``health_host``: this machine alone.

        Raises:
            As :meth:`run`; ConfigurationError: nobody can listen there. Nothing has been consumed then.
        """
        if port is None and self.settings.health_port is None:
            port = PORT
        self.settings = self.settings.replace(health_port=port, health_host=host)
        self.run()

    async def serve(self) -> None:
        """Work until :meth:`stop`, on the running loop. Cancelling it stops the hard way.

        Raises:
            As :meth:`run`; BusyError: it is at work already.
        """
        patience = self.settings.wait_for_broker
        await self._work(_for_ever, math.inf if patience is None else patience)

    def run_until_idle(self, timeout: float = 60.0) -> int:
        """Work until everything that is queued or scheduled is done, and return how many deliveries that took.

        For tests and scripts. Ends sooner when it is stopped. Raises TimeoutError after ``timeout`` seconds. A broker
        that cannot be reached at the start is waited for only where ``wait_for_broker`` says how long.
        """
        return run(self.serve_until_idle(timeout), instead="await worker.serve_until_idle()")

    async def serve_until_idle(self, timeout: float = 60.0) -> int:
        """The same, on the running loop."""
        done = 0

        async def until_idle(session: Session) -> None:
            nonlocal done
            async with asyncio.timeout(timeout):
                # A broker has no event for "nothing scheduled any more", so this looks.
                while not await session.idle():  # noqa: ASYNC110
                    await asyncio.sleep(IDLE_LOOK)
            done = session.status().done

        await self._work(until_idle, self.settings.wait_for_broker or 0.0)
        return done

    def run_one(self, call: TaskCall[Any], *, timeout: float | None = None) -> TaskResult:
        """Run one call in this process, with no broker, and return its result: for jobs and functions that are handed
        their work. It goes through everything that a delivery goes through: checks, limits, retries with their pauses.

        SIGTERM and SIGINT end it as they end :meth:`run`.

        Args:
            call: of one of its tasks, as :meth:`Task.call` makes it.
            timeout: seconds for all of it; None: as long as it takes.

        Returns:
            The result; its state is PENDING when the call had not ended in time, or before it was told to stop.

        Raises:
            ConfigurationError: the worker has no such task; or an event loop is running in this thread.
        """
        alone, one = self._alone(call)
        with heard(alone.signalled):
            return run(one(timeout), instead="await worker.serve_one(call)")

    async def serve_one(self, call: TaskCall[Any], *, timeout: float | None = None) -> TaskResult:
        """The same, on the running loop; signals are left to you."""
        _, one = self._alone(call)
        return await one(timeout)

    def stop(self, *, hurry: bool = False, reason: str = "it was asked to") -> None:
        """Ask it to stop: take nothing new, finish what runs; with ``hurry`` give that back at once. Any thread.

        Asked before it has begun to work, it stops as soon as it does. The log says the ``reason``.
        """
        self._stopping.ask(reason, hurry=hurry)

    def signalled(self, number: signal.Signals) -> None:
        """Stop; asked once more, hurry. To be called when a signal comes: it takes no lock and writes no log."""
        self._stopping.signalled(number)

    def status(self) -> WorkerStatus:
        """What a health check wants to know; any thread."""
        shift = self._shift
        problem = NOT_AT_WORK if shift is None else shift.problem
        session = self._session
        if session is None:
            return WorkerStatus(ready=False, connected=False, running=[], done=0, problem=problem)
        return session.status()

    @property
    def health_port(self) -> int | None:
        """The port on which it answers health checks right now; None: it does not."""
        shift = self._shift
        return None if shift is None else shift.health_port

    def describe(self) -> list[dict[str, Any]]:
        """What it runs: of each task the name, the queue, the options, and the JSON Schemas of arguments and result.

        Raises:
            ConfigurationError: pydantic, which makes JSON Schemas, is not installed.
        """
        return [describe(one) for one in self.tasks.values()]

    @property
    def hot_cache(self) -> HotCache:
        """What it holds ready; handlers find it as ``current().hot_cache``. A change is told within a moment."""
        return self._profile.hot_cache

    def set_labels(self, **labels: Any) -> None:
        """Set labels, which heartbeats tell; None removes one. Any thread; a change is told within a moment.

        Raises:
            InvalidOptionError: a value that JSON does not know, or more than 4096 bytes of them; nothing was changed.
        """
        self._profile.set_labels(labels)

    def on_command(self, name: str) -> Callable[[F], F]:
        """Decorate a function, ``def`` or ``async def``, that operators may call while the worker works: ``tranship
        control call NAME``, ``Operator.command``. It is given the command's arguments by name, and what it returns is
        the answer; JSON has to know it. To be done before the worker works.

        Raises:
            InvalidOptionError: the name is taken.
        """

        def decorate(function: F) -> F:
            self._commands = checked_commands({name: function}, self._commands)
            return function

        return decorate

    def replace(
        self,
        *,
        queues: Sequence[str] | None = None,
        name: str | None = None,
        task_type_limits: Mapping[str, int] | None = None,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
        **settings: Any,
    ) -> Worker:
        """Return a worker with the same tasks and other settings; None counts as not given.

        Raises:
            InvalidURLError, InvalidOptionError: a value that cannot be used.
        """
        return Worker(
            tasks=self.tasks.values(),
            queues=self.queues if queues is None else queues,
            queues_in_order=self.queues_in_order,
            name=self.name if name is None else name,
            labels=self._profile.labels,
            skill_dependencies=self._profile.skill_dependencies,
            middleware=self._middleware,
            lifespan=self._lifecycle.lifespan,
            on_startup=self._lifecycle.on_startup,
            on_shutdown=self._lifecycle.on_shutdown,
            on_command=self._commands,
            overrides=self._overrides if overrides is None else overrides,
            task_type_limits=self.task_type_limits if task_type_limits is None else task_type_limits,
            settings=self.settings.replace(**settings),
            registry=self._registry,
        )

    # Steps.

    def _alone(self, call: TaskCall[Any]) -> tuple[Worker, Callable[[float | None], Coroutine[Any, Any, TaskResult]]]:
        """A worker of the same making for this one call, and what runs it."""
        if not isinstance(call, TaskCall):
            raise ConfigurationError(f"call is {call!r}; expected what task.call(...) returns")
        if call.task.name not in self.tasks:
            raise ConfigurationError(
                f"the worker has no task {call.task.name!r}; it has: {', '.join(sorted(self.tasks))}"
            )
        url = place()
        alone = self.replace(queues=[call.task.options_set.queue])
        alone.settings = replace(self.settings, broker_url=url, result_url=None, namespace="", health_port=None)

        def one(timeout: float | None) -> Coroutine[Any, Any, TaskResult]:
            work = partial(alone.serve_until_idle, math.inf)
            return run_one(url, call, registry=self._registry, work=work, timeout=timeout)

        return alone, one

    async def _work(self, until: Until, patience: float) -> None:
        if not self._serving.acquire(blocking=False):
            raise BusyError(f"worker {self.name} is at work already")
        shift = self._shift = Shift(self, self._setup(), self._stopping, registry=self._registry)
        try:
            async with self._lifecycle.around(self), self._dependencies.opened():
                await shift.work(until, patience)
        finally:
            shift.close()
            self._shift = None
            self._stopping.end()
            self._serving.release()

    def _setup(self) -> Setup:
        return Setup(
            name=self.name,
            family=self.family,
            settings=self.settings,
            tasks=self.tasks,
            queues=self.queues,
            queues_in_order=self.queues_in_order,
            type_limits=self.task_type_limits,
            profile=self._profile,
            middleware=with_plugins(self._middleware, self._registry),
            commands=self._commands,
            dependencies=self._dependencies,
            stop=self._dismiss,
            restart=self.on_restart,
        )

    def _dismiss(self, reason: str) -> None:
        self.dismissed = True
        self.stop(reason=reason)

    @property
    def _session(self) -> Session | None:
        shift = self._shift
        return None if shift is None else shift.session

    def __repr__(self) -> str:
        status = self.status()
        state = f"{len(status.running)} running" if self._session else "stopped"
        return f"<Worker {self.name} [{state} | {', '.join(self.queues)} | {self.settings.broker_url}]>"


def _nothing() -> None:
    pass


def _nothing_of(_port: int) -> None:
    pass


def _nobody() -> bool:
    return False


async def _for_ever(_session: Session) -> None:
    await asyncio.Event().wait()
