"""The tools of a case about client or worker, and the decorators that make such cases.

::

    class ResultCases:
        @facade_case("result_set_before_wait", level="core", rationale="...")
        async def test_result_set_before_wait(self, facade: FacadeContext) -> None:
            client = await facade.client()
            await facade.work(add)
            handle = await client.submit(add, 1, 2)
            assert await handle.result(5) == 3

makes the cases ``result_set_before_wait[async]`` and ``result_set_before_wait[blocking]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence, Sized
from typing import Any, Final, Literal

from tranship.client import AsyncClient
from tranship.middleware import Middleware
from tranship.operations import AsyncOperator, CommandAnswer, Operator
from tranship.ports import Capability
from tranship.registry import Registry
from tranship.schedules import Scheduler
from tranship.settings import BrokerURL, Settings
from tranship.sync import Client
from tranship.task import Task
from tranship.testing.background import BackgroundWorker
from tranship.testing.case import LIMIT, CaseLevel, CaseTest, case
from tranship.testing.context import CaseContext
from tranship.testing.facades import FacadeClient, in_thread
from tranship.testing.faults import Faults, FaultyRegistry
from tranship.testing.proxy import FaultProxy
from tranship.worker import Worker

__all__ = ["FacadeContext", "Kind", "facade_case", "worker_case"]

Kind = Literal["async", "blocking"]
KINDS: tuple[Kind, ...] = ("async", "blocking")


_OWN: Final = (
    "middleware",
    "lifespan",
    "on_startup",
    "on_shutdown",
    "on_command",
    "queues",
    "name",
    "labels",
    "skill_dependencies",
    "task_type_limits",
)
"""Options of a worker that are no settings."""


class FacadeContext:
    """The tools of one case of client or worker: clients of one kind and workers, on the context's namespace.

    Attributes:
        context: the case's context.
        client_faults, worker_faults: what is to go wrong for all clients, and for all workers.
    """

    def __init__(self, context: CaseContext, kind: Kind) -> None:
        self.context = context
        self.kind = kind
        self.client_faults: Faults = Faults()
        self.worker_faults: Faults = Faults()
        self._clients: list[FacadeClient] = []
        self._workers: list[tuple[Worker, asyncio.Task[None]]] = []
        self._threads: list[BackgroundWorker] = []
        self._schedulers: list[tuple[Scheduler, asyncio.Task[None]]] = []

    async def aclose(self) -> None:
        """Stop workers and close clients.

        Raises:
            AssertionError: a worker does not stop.
            Whatever made a worker stop by itself.
        """
        for scheduler, _ in self._schedulers:
            scheduler.stop()
        for background in self._threads:
            background.worker.stop(hurry=True)
        for worker, _ in self._workers:
            worker.stop(hurry=True)
        for _, serving in (*self._schedulers, *self._workers):
            await self.context.wait_for(serving, 2 * self.context.patience)
        for background in self._threads:
            await in_thread(background.stop)
        for client in self._clients:
            await client.close()
        for _, serving in (*self._schedulers, *self._workers):
            assert serving.done(), "a worker, or a scheduler, does not stop"
            serving.result()

    def make_client(
        self,
        *,
        lease: float | None = None,
        max_message_size: int | None = None,
        knows_ids: bool = False,
        kind: Kind | None = None,
        via: FaultProxy | None = None,
        middleware: Sequence[Middleware] = (),
        **settings: Any,
    ) -> FacadeClient:
        """Return a client that is not opened; it is closed at the end.

        ``lease`` and ``max_message_size`` are the URL's, ``knows_ids`` is that of the store which keeps results;
        ``via`` is a proxy of the context's to connect through;
        ``settings`` are those of the client.
        """
        elsewhere = self.context.harness.results
        if knows_ids and elsewhere is not None:
            settings["result_url"] = elsewhere.url(self.context.namespace, {"knows_ids": "true"})
        told = "true" if knows_ids and elsewhere is None else None
        url = self._url(via, lease=lease, max_message_size=max_message_size, knows_ids=told)
        make = Client if (kind or self.kind) == "blocking" else AsyncClient
        chosen = self._settings(url, settings)
        client = FacadeClient(make(middleware=middleware, settings=chosen, registry=self.registry(self.client_faults)))
        self._clients.append(client)
        return client

    async def client(self, **options: Any) -> FacadeClient:
        """Return an open client; options as for :meth:`make_client`."""
        return await self.make_client(**options).open()

    async def command(
        self, name: str, arguments: Mapping[str, Any] | None = None, **options: Any
    ) -> list[CommandAnswer]:
        """Send a command through an operator of the context's kind, and return what was answered."""
        made: dict[str, Any] = {
            "settings": self._settings(self._url(None), {}),
            "registry": self.registry(self.client_faults),
        }
        options = {"timeout": self.context.patience, **options}
        if self.kind == "async":
            async with AsyncOperator(**made) as operator:
                return await operator.command(name, arguments, **options)

        def call() -> list[CommandAnswer]:
            with Operator(**made) as operator:
                return operator.command(name, arguments, **options)

        return await in_thread(call)

    def registry(self, faults: Faults) -> Registry:
        """A registry that opens the harness's backends, with faults."""
        return FaultyRegistry(self.context.harness.make_backend, faults)

    def make_worker(
        self,
        *tasks: Task[..., Any],
        lease: float | None = None,
        max_message_size: int | None = None,
        via: FaultProxy | None = None,
        **options: Any,
    ) -> Worker:
        """Return a worker that is not at work; its URL as for clients, options are those of Worker and its settings."""
        url = self._url(via, lease=lease, max_message_size=max_message_size)
        own = {name: options.pop(name) for name in _OWN if name in options}
        settings = self._settings(url, {"shutdown_timeout": 5.0, **options})
        return Worker(settings=settings, tasks=tasks, registry=self.registry(self.worker_faults), **own)

    def scheduler(self, **options: Any) -> Scheduler:
        """Return a scheduler that is at work on the case's loop; options are its own. It is stopped at the end."""
        settings = self._settings(self._url(None), {})
        scheduler = Scheduler(settings=settings, registry=self.registry(self.client_faults), **options)
        self._schedulers.append((scheduler, self.context.start(scheduler.serve())))
        return scheduler

    async def work(self, *tasks: Task[..., Any], **options: Any) -> Worker:
        """Return a worker that is at work on the case's loop; options as for :meth:`make_worker`."""
        worker = self.make_worker(*tasks, **options)
        serving = self.serve(worker)
        await self.context.eventually(lambda: _ready(worker, serving), "the worker is ready")
        return worker

    def serve(self, worker: Worker) -> asyncio.Task[None]:
        """Let a worker of :meth:`make_worker` work on the case's loop, ready or not."""
        serving = self.context.start(worker.serve())
        self._workers.append((worker, serving))
        return serving

    async def stop(self, worker: Worker, *, hurry: bool = False) -> None:
        """Stop a worker of :meth:`work` and return when it has ended."""
        worker.stop(hurry=hurry)
        for one, serving in self._workers:
            if one is worker:
                await self.context.wait_for(serving, 2 * self.context.patience)
                assert serving.done(), f"{worker!r} does not stop"
                serving.result()

    async def work_in_thread(self, *tasks: Task[..., Any], **options: Any) -> Worker:
        """Return a worker that is at work on a loop and in a thread of its own."""
        background = BackgroundWorker(self.make_worker(*tasks, **options))
        self._threads.append(background)
        await in_thread(background.start)
        return background.worker

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Return when ``condition`` is true, or fail."""

        async def true() -> bool:
            return condition()

        await self.context.eventually(true, what)

    async def until_called(self, verb: str, times: int) -> None:
        """Return when clients have called ``verb`` this often, or fail."""
        await self.until(lambda: self.client_faults.calls[verb] >= times, f"{times} calls of {verb}")

    async def until_waited_for(self, client: FacadeClient, count: int = 1) -> None:
        """Return when ``client`` waits for ``count`` results, or fail: it may do so without asking the broker."""

        async def waited_for() -> bool:
            return await client.waited_for() >= count

        await self.context.eventually(waited_for, f"{count} results are waited for")

    async def until_long(self, things: Sized, count: int) -> None:
        """Return when there are ``count`` things, such as runs of a task, or fail."""
        await self.until(lambda: len(things) >= count, f"{count} of them")

    def _url(self, via: FaultProxy | None, **options: Any) -> str:
        return self.context.url(via=via, **{name: value for name, value in options.items() if value is not None})

    def _settings(self, url: str, given: dict[str, Any]) -> Settings:
        # Nothing of the environment or of a file.
        if (elsewhere := self.context.harness.results) is not None:
            given = {"result_url": elsewhere.url(self.context.namespace, {}), **given}
        if "result_url" in given:
            given = {**given, "result_url": BrokerURL.parse(given["result_url"])}
        return Settings(broker_url=BrokerURL.parse(url), **given)


async def _ready(worker: Worker, serving: asyncio.Task[None]) -> bool:
    if serving.done():
        serving.result()
    return worker.status().ready


Body = Callable[[Any, FacadeContext], Awaitable[None]]


class _FacadeCase:
    """A body that becomes one case per facade in the class it is written in."""

    def __init__(self, body: Body, kinds: Collection[Kind], described: dict[str, Any]) -> None:
        self._body = body
        self._kinds = kinds
        self._described = described

    def __set_name__(self, owner: type, name: str) -> None:
        for kind in self._kinds:
            case_id = f"{name.removeprefix('test_')}[{kind}]"
            body = _bound(self._body, kind, f"test_{case_id}")
            setattr(owner, f"test_{case_id}", case(case_id, **self._described)(body))
        delattr(owner, name)


def facade_case(
    case_id: str,
    *,
    level: CaseLevel,
    rationale: str,
    needs: Collection[Capability] = (),
    limit: float = LIMIT,
    kinds: Collection[Kind] = KINDS,
) -> Callable[[Body], Any]:
    """Make the decorated async method ``test_<case_id>(self, facade)`` a case for each facade.

    Args:
        case_id, level, rationale, needs, limit: as for :func:`~tranship.testing.case.case`.
        kinds: only these facades, where the other has nothing like it.
    """

    def decorate(body: Body) -> _FacadeCase:
        name = getattr(body, "__name__", "")
        if name != f"test_{case_id}":
            raise ValueError(f"the method of case {case_id!r} is named {name!r}; name it 'test_{case_id}'")
        described = {"level": level, "rationale": rationale, "needs": needs, "limit": limit}
        return _FacadeCase(body, kinds, described)

    return decorate


def worker_case(
    case_id: str,
    *,
    level: CaseLevel,
    rationale: str,
    needs: Collection[Capability] = (),
    limit: float = LIMIT,
) -> Callable[[Body], CaseTest]:
    """Make the decorated async method ``test_<case_id>(self, facade)`` one case; its clients are asynchronous.

    Args:
        case_id, level, rationale, needs, limit: as for :func:`~tranship.testing.case.case`.
    """

    def decorate(body: Body) -> CaseTest:
        bound = _bound(body, "async", getattr(body, "__name__", ""))
        return case(case_id, level=level, rationale=rationale, needs=needs, limit=limit)(bound)

    return decorate


def _bound(body: Body, kind: Kind, name: str) -> Callable[[Any, CaseContext], Awaitable[None]]:
    async def run(suite: Any, context: CaseContext) -> None:
        facade = FacadeContext(context, kind)
        context.at_end(facade.aclose)
        await body(suite, facade)

    run.__name__ = name
    run.__qualname__ = f"{body.__qualname__}[{kind}]"
    run.__module__ = body.__module__
    run.__doc__ = body.__doc__
    return run
