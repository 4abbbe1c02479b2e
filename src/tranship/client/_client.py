"""The asynchronous facade."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from tranship.checks import Duration, duration, positive_duration, text
from tranship.client._connector import Connector
from tranship.client._gather import Arrivals, Budget, check_stored, wait_for_end
from tranship.client._handle import AsyncTaskHandle
from tranship.client._prepare import (
    CANCEL_TTL,
    as_call,
    as_calls,
    batch_handles,
    cancel_target,
    has_single,
    ids_of,
    known_task,
    prepare,
    prepare_one,
)
from tranship.client._readers import check_read
from tranship.client._routed import routed, routed_all
from tranship.client._through import (
    Chains,
    Passed,
    chains_of,
    end_through,
    envelopes_of,
    own_middleware,
    states_through,
    submit_many_through,
    submit_through,
)
from tranship.connections import process_table
from tranship.envelope import Envelope, Receipt, TaskResult
from tranship.errors import ResultTimeout
from tranship.settings import Settings
from tranship.task import Task, TaskCall

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.client._probe import Probe
    from tranship.client._shape import Shape
    from tranship.client._workflow_handle import AsyncWorkflowHandle
    from tranship.envelope import WorkflowResult
    from tranship.middleware import Chain, Middleware
    from tranship.outcomes import Progress
    from tranship.ports import Capabilities
    from tranship.protocol import Message
    from tranship.registry import Registry
    from tranship.submission import Answer
    from tranship.task import Runs, Workflow

__all__ = ["CANCEL_TTL", "AsyncClient"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """Submits tasks and waits for their results, from asyncio.

    One object may be used from several event loops and threads, and in a forked child. Clients of one
    process that name the same broker share one connection; ``async with`` (or :meth:`aclose`) gives it back.

    Args:
        url: the broker, such as ``"sqlite:///jobs.db"``; None: ``TRANSHIP_BROKER_URL``, the settings file,
            else the embedded default.
        result_url: where results are kept; None: at the broker.
        namespace: prefixes every name on the broker; two namespaces never see each other.
        submit_timeout: seconds, or a timedelta, until a submit that the broker does not take is given up.
        middleware: what every submit and every result passes through; the first is the outermost.
        settings: all of the above but ``middleware``, already loaded.
        registry: the plugins to choose from; None: those installed.

    Raises:
        InvalidURLError, InvalidOptionError: a value that cannot be used. Connecting happens on first use, or
            on :meth:`open`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        result_url: str | None = None,
        namespace: str | None = None,
        submit_timeout: Duration | None = None,
        middleware: Iterable[Middleware] = (),
        settings: Settings | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.settings: Settings = settings or Settings.load(
            broker_url=url, result_url=result_url, namespace=namespace, submit_timeout=submit_timeout
        )
        self._connector = Connector(self.settings, registry)
        self._middleware = own_middleware(middleware)
        self._registry = registry
        self._routes = self.settings.task_routes
        self._refuses_unread = self.settings.unread_queues == "refuse"

    @cached_property
    def _chains(self) -> Chains:
        """What submits and results pass through. Made with the first of them: plugins are loaded for it."""
        return chains_of(self._middleware, self._registry)

    async def open(self) -> Self:
        """Connect now rather than on first use.

        Raises:
            BrokerUnreachable: nobody answers there.
            BrokerRefused: the broker answered that it will not have this client: credentials, rights, version.
            StorageCorrupt: the file is no database, or a damaged one.
            UnsupportedError: the broker cannot do what the options ask of it.
            UnknownSchemeError, PluginError: no plugin serves the URL, or the one that does cannot be loaded.
        """
        # A plugin whose middleware cannot be made is told of now, and not by the first submit.
        _ = self._chains
        await self._connector.link()
        return self

    async def aclose(self) -> None:
        """Give the connection back; the last client closes it. Idempotent; submits under way are finished."""
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

    @property
    def capabilities(self) -> Capabilities:
        """What the connected broker can do.

        Raises:
            ClosedError: not opened yet, or closed.
        """
        return self._connector.any_link().backend.capabilities

    # Submitting.

    @overload
    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(self, task: TaskCall[R], /) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(self, task: Workflow[R], /) -> AsyncWorkflowHandle[R]: ...
    @overload
    async def submit(
        self, task: type[Runs[Any, Coroutine[Any, Any, R]]], /, *args: Any, **kwargs: Any
    ) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(self, task: type[Runs[Any, R]], /, *args: Any, **kwargs: Any) -> AsyncTaskHandle[R]: ...
    @overload
    async def submit(self, task: str, /, *args: Any, **kwargs: Any) -> AsyncTaskHandle[Any]: ...

    async def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> AsyncTaskHandle[Any]:
        """Hand one task over; returns once the broker has it.

        Args:
            task: a task, a :class:`~tranship.TaskClass`, ``task.options(...)``, ``task.call(...)``, a workflow made
                of calls, or the name of a task elsewhere.
            args, kwargs: exactly the task's own arguments, checked before anything is sent.

        Raises:
            InvalidArgumentsError, EncodeError, MessageTooLarge: nothing was sent.
            QueueUnread: nobody reads its queue, and the setting ``unread_queues`` refuses that.
            SubmitTimeout: the broker did not take it in time; it was not submitted.
            SubmitUnknown: the broker's answer was lost.
            BatchSubmitError: of a workflow that begins with several tasks some were refused; it was not submitted.
            UnsupportedError: the broker, or its result store, cannot do what a workflow takes.
            StorageFull: the broker has no room for it.
            ClosedError: this client was closed.
            TranshipError: whatever :meth:`open` raises, where this is the first use.
        """
        link = self._connector.opened(asyncio.get_running_loop()) or await self._connector.link()
        call = as_call(task, args, kwargs)
        if not isinstance(call, TaskCall):
            return await self._submit_workflow(link, call)
        if self._routes:
            call = routed(self._routes, call)
        if self._refuses_unread:
            await self._on_link(lambda link: check_read(link, [call]))
        if self._chains.submits is not None or call.task.single is not None:
            return await self._submit_through(self._chains.submits, link, call)
        message = prepare_one(link, call)
        (answer,) = await self._submit(link, [message])
        return self._handle(link, call.task, message, answer)

    async def submit_many(self, calls: Iterable[TaskCall[R]]) -> list[AsyncTaskHandle[R]]:
        """Hand many tasks over in as few round trips as possible; handles come in the order of ``calls``.

        Raises:
            BatchSubmitError: some were not submitted (its ``errors`` say which and why); all the others were.
            InvalidArgumentsError, EncodeError, MessageTooLarge: a call is bad; nothing was sent. With middleware,
                what is bad shows call by call, as a BatchSubmitError.
        """
        link = await self._connector.link()
        calls = as_calls(calls)
        if self._routes:
            calls = routed_all(self._routes, calls)
        if self._refuses_unread:
            await self._on_link(lambda link: check_read(link, calls))
        if self._chains.submits is not None or has_single(calls):
            return await self._submit_many_through(self._chains.submits, link, calls)
        messages = prepare(link, calls)
        if not messages:
            return []
        return batch_handles(partial(self._handle, link), calls, messages, await self._submit(link, messages))

    # Results.

    @overload
    def handle(self, task_id: str, task: None = None) -> AsyncTaskHandle[Any]: ...
    @overload
    def handle(self, task_id: str, task: Task[..., R]) -> AsyncTaskHandle[R]: ...

    def handle(self, task_id: str, task: Task[..., Any] | None = None) -> AsyncTaskHandle[Any]:
        """A handle for a task that was submitted elsewhere, or earlier.

        Some brokers cannot tell an id that nobody has submitted from one that is queued: Redis and NATS, and every
        result store that is not the broker. There such a handle's wait without a ``timeout`` ends after
        ``unknown_id_timeout`` seconds of the settings (60 by default), unless more than the id is known by then.

        Args:
            task_id: what the submit's handle had as its ``id``.
            task: which task it is; the result is then read as that one is annotated to return it.

        Raises:
            InvalidArgumentsError: ``task`` is no task.
            InvalidOptionError: ``task_id`` is no text, or empty.
        """
        return AsyncTaskHandle(self, text("task_id", task_id), known_task(task), submitted=False)

    async def collect(
        self, handles: Iterable[AsyncTaskHandle[Any]], timeout: Duration | None = None
    ) -> list[TaskResult]:
        """Wait for many tasks within one budget and return their results in the order of ``handles``.

        A task that has not ended in time is reported as such: its ``unwrap()`` raises ResultTimeout.

        Args:
            timeout: seconds, or a timedelta, for all of them together; None: as long as it takes.
        """
        arrivals = Arrivals(handles)
        with contextlib.suppress(ResultTimeout):
            async for _ in self._completed(arrivals, timeout):
                pass
        return arrivals.results(self._seconds(timeout))

    async def as_completed(
        self, handles: Iterable[AsyncTaskHandle[R]], timeout: Duration | None = None
    ) -> AsyncIterator[AsyncTaskHandle[R]]:
        """Yield each handle as its task ends; awaiting its ``result()`` then returns at once.

        Args:
            timeout: seconds, or a timedelta, for all of them together; None: as long as it takes.

        Raises:
            ResultTimeout: some had not ended by then.
        """
        async for handle in self._completed(Arrivals(handles), timeout):
            yield handle

    async def forget(self, tasks: Iterable[AsyncTaskHandle[Any] | str]) -> None:
        """Delete stored results; unknown ids are ignored."""
        ids = ids_of(tasks)
        await self._on_link(lambda link: link.forget(ids))

    # Control and health.

    async def cancel(
        self, key: str | None = None, /, *, task_id: str | None = None, ttl: Duration = CANCEL_TTL
    ) -> list[str]:
        """Cancel every task with the cancel key ``key``, or the one task ``task_id``.

        Queued tasks are not run, running ones are told to stop; both end as CANCELLED. The cancel is
        durable: tasks with the key that are submitted within ``ttl`` seconds are cancelled too.

        Returns:
            The ids of the tasks that have ended by this at once: queued and delayed ones where the broker can take
            them out, and delayed ones that were submitted through this connection. It may be empty; workers end the
            rest, queued tasks when they come to them.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        kind, value = cancel_target(key, task_id)
        seconds = positive_duration("ttl", ttl)
        report = await self._on_link(lambda link: link.cancel(kind, [value], seconds))
        return list(report.removed)

    async def send_event(self, task_id: str, name: str, value: Any = None) -> bool:
        """Send the task with this id an event: as the handle's ``send_event``."""
        # Loaded by the first event.
        from tranship.client._events import event_record, send_event

        record = event_record(task_id, name, value)
        return await self._on_link(lambda link: send_event(link, record))

    async def ping(self) -> float:
        """Make one round trip to the broker, no task involved; return its seconds.

        Raises:
            BrokerUnreachable: there was no answer.
        """
        return await self._on_link(lambda link: link.ping())

    async def probe(self, queue: str = "default", timeout: Duration = 10.0) -> Probe:
        """Send a task that every worker answers by itself through ``queue``, and say how each leg went."""
        from tranship.client._probe import run_probe

        seconds = positive_duration("timeout", timeout)
        return await self._on_link(lambda link: run_probe(link, queue, seconds))

    # Steps.

    async def _on_link(self, work: Callable[[ClientLink], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` on the link's own loop, wherever we are."""
        link = await self._connector.link()
        if link.loop is asyncio.get_running_loop():
            return await work(link)
        return await asyncio.wrap_future(process_table().portal_of(link.loop).call(work(link)))

    async def _submit(self, link: ClientLink, messages: Sequence[Message]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        if link.loop is loop:
            return await link.submission.submit(messages)
        return await link.submission.submit_from(messages, loop)

    async def _submit_workflow(self, link: ClientLink, workflow: Workflow[Any]) -> AsyncWorkflowHandle[Any]:
        # Loaded by the first workflow.
        from tranship.client._following import planned, submit_planned
        from tranship.client._shape import ends
        from tranship.client._workflow_handle import AsyncWorkflowHandle

        found = planned(link, workflow, self._routes)
        await self._on_link(lambda link: submit_planned(link, found, self._chains))
        return AsyncWorkflowHandle(self, found.shape, stored=all(leaf.stored for leaf in ends(found.shape)))

    async def _follow(self, handle: AsyncWorkflowHandle[Any], shape: Shape, timeout: Duration | None) -> TaskResult:
        from tranship.client._following import follow

        check_stored(handle.id, stored=handle.stored)
        seconds, chain = self._seconds(timeout), self._chains.results
        return await self._on_link(lambda link: follow(link, shape, seconds, chain))

    async def _snapshot(self, shape: Shape) -> WorkflowResult[Any]:
        from tranship.client._following import snapshot

        return await self._on_link(lambda link: snapshot(link, shape, self._chains.results))

    async def _ends(self, shapes: Mapping[str, Shape]) -> list[TaskResult]:
        """The results of those that have ended."""
        if not shapes:
            return []
        from tranship.client._following import ends_of

        return await self._on_link(lambda link: ends_of(link, shapes, self._chains.results))

    async def _cancel_all(self, shape: Shape) -> None:
        from tranship.client._following import cancel_all

        await self._on_link(lambda link: cancel_all(link, shape))

    async def _submit_through(
        self, chain: Chain[Envelope, Receipt] | None, link: ClientLink, call: TaskCall[Any]
    ) -> AsyncTaskHandle[Any]:
        ((envelope, own_id),) = envelopes_of(link, [call])
        message, receipt = await self._on_link(
            lambda link: submit_through(link, chain, envelope, own_id=own_id, awaited=True, task=call.task)
        )
        return self._handle(link, call.task, message, receipt)

    async def _submit_many_through(
        self, chain: Chain[Envelope, Receipt] | None, link: ClientLink, calls: Sequence[TaskCall[Any]]
    ) -> list[AsyncTaskHandle[Any]]:
        envelopes, tasks = envelopes_of(link, calls), [one.task for one in calls]
        answered = await self._on_link(lambda link: submit_many_through(link, chain, envelopes, tasks))
        messages, answers = [one[0] for one in answered], [one[1] for one in answered]
        return batch_handles(partial(self._handle, link), calls, messages, answers)

    def _handle(self, link: ClientLink, task: Task[..., Any], message: Message, answer: Answer) -> AsyncTaskHandle[Any]:
        if not isinstance(answer, Receipt):
            raise answer
        stored = message.envelope.keeps_result
        if answer.duplicate_of is None:
            if message.envelope.not_before is not None:
                link.delayed_submitted(message.envelope)
            return AsyncTaskHandle(self, answer.id, task, stored=stored)
        return AsyncTaskHandle(self, answer.duplicate_of, task, stored=stored, duplicate=True)

    def _wait(self, handle: AsyncTaskHandle[Any], timeout: Duration | None) -> Coroutine[Any, Any, TaskResult]:
        # No coroutine of its own: thousands of them may wait at once.
        check_stored(handle.id, stored=handle.stored)
        unknown = None if handle.submitted else self.settings.unknown_id_timeout
        return self._on_link(partial(self._end, handle.id, self._seconds(timeout), unknown))

    def _end(
        self, task_id: str, seconds: float | None, unknown: float | None, link: ClientLink
    ) -> Coroutine[Any, Any, TaskResult]:
        ending, chain = wait_for_end(link, task_id, seconds, unknown=unknown), self._chains.results
        return ending if chain is None else end_through(chain, ending)

    def _seconds(self, timeout: Duration | None) -> float | None:
        return self.settings.result_timeout if timeout is None else duration("timeout", timeout)

    async def _states(self, ids: Sequence[str]) -> list[TaskResult]:
        chain = self._chains.results
        if chain is None:
            return await self._on_link(lambda link: link.states(ids))
        return await self._on_link(lambda link: states_through(chain, link.states(ids)))

    async def _progress(self, task_id: str) -> Progress | None:
        from tranship.client._parts import read_progress

        return await self._on_link(lambda link: read_progress(link, task_id))

    async def _parts(self, handle: AsyncTaskHandle[Any], timeout: Duration | None) -> AsyncGenerator[Any, None]:
        # Loaded by the first stream.
        from tranship.client._parts import PartReader

        check_stored(handle.id, stored=handle.stored)
        unknown = None if handle.submitted else self.settings.unknown_id_timeout
        reader = PartReader(handle.id, self._seconds(timeout), unknown)
        try:
            while parts := await self._on_link(reader.next):
                for part in parts:
                    yield part
        finally:
            await self._on_link(reader.close)
        handle.final = reader.ending() if self._chains.results is None else await self._wait(handle, timeout)
        handle.final.unwrap()

    async def _completed(
        self, arrivals: Arrivals[AsyncTaskHandle[R]], timeout: Duration | None
    ) -> AsyncIterator[AsyncTaskHandle[R]]:
        for handle in arrivals.finished:
            yield handle
        if not arrivals:
            return
        for handle in arrivals.handles:
            check_stored(handle.id, stored=handle.stored)
        link = await self._connector.link()
        budget = Budget(self._seconds(timeout), unknown=None if link.can_tell else self.settings.unknown_id_timeout)
        if budget.timeout == 0:
            # No waiting, but what is there already is told.
            for known in [*await self._states(arrivals.single_ids), *await self._ends(arrivals.shapes)]:
                for handle in arrivals.known(known):
                    yield handle
        async with contextlib.aclosing(self._arriving(link, arrivals, budget)) as arriving:
            async for handle in arriving:
                yield handle

    async def _arriving(
        self, link: ClientLink, arrivals: Arrivals[AsyncTaskHandle[R]], budget: Budget
    ) -> AsyncGenerator[AsyncTaskHandle[R], None]:
        found: asyncio.Queue[tuple[str, Passed]] = asyncio.Queue()
        end = arrivals.watch(link, _into(found), self._chains.results)
        try:
            while arrivals:
                try:
                    # Not wait_for: before Python 3.12 it misses what is there already when the time is up.
                    async with asyncio.timeout(arrivals.left(budget)):
                        task_id, what = await found.get()
                except TimeoutError:
                    raise arrivals.timeout(budget) from None
                for handle in arrivals.arrived(task_id, what):
                    yield handle
        finally:
            end()

    def __repr__(self) -> str:
        return f"<AsyncClient {self.settings.broker_url}{' closed' if self._connector.closed else ''}>"


def _into(found: asyncio.Queue[tuple[str, Passed]]) -> Callable[[str, Passed], None]:
    """A sink for the link's loop that feeds a queue of this loop."""
    loop = asyncio.get_running_loop()

    def sink(task_id: str, what: Passed) -> None:
        # A loop that is closed takes its waiters along, and must not take the hub.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(found.put_nowait, (task_id, what))

    return sink
