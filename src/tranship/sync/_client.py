"""The blocking client."""

from __future__ import annotations

import queue
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from tranship.checks import Duration, duration, positive_duration, text
from tranship.client import CANCEL_TTL
from tranship.client.shared import (
    Arrivals,
    Budget,
    Chains,
    Connector,
    Passed,
    as_call,
    as_calls,
    batch_handles,
    cancel_target,
    chains_of,
    check_read,
    check_stored,
    end_through,
    envelopes_of,
    has_single,
    ids_of,
    known_task,
    own_middleware,
    prepare,
    prepare_one,
    routed,
    routed_all,
    states_through,
    submit_many_through,
    submit_through,
    wait_blocking,
    wait_for_end,
)
from tranship.connections import process_table
from tranship.envelope import Envelope, Receipt, TaskResult
from tranship.errors import ResultTimeout
from tranship.settings import Settings
from tranship.sync._handle import TaskHandle
from tranship.task import Task, TaskCall

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client import Probe
    from tranship.client._link import ClientLink
    from tranship.client._shape import Shape
    from tranship.envelope import WorkflowResult
    from tranship.middleware import Chain, Middleware
    from tranship.outcomes import Progress
    from tranship.ports import Capabilities
    from tranship.protocol import Message
    from tranship.registry import Registry
    from tranship.submission import Answer
    from tranship.sync._workflow_handle import WorkflowHandle
    from tranship.task import Runs, Workflow

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Submits tasks and waits for their results, blocking. Thread-safe, and safe to use in a forked child.

    Clients of one process that name the same broker share one connection; ``with`` (or :meth:`close`) gives
    it back.

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

    def open(self) -> Self:
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
        self._connector.blocking_link()
        return self

    def close(self) -> None:
        """Give the connection back; the last client closes it. Idempotent; submits under way are finished."""
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

    @property
    def capabilities(self) -> Capabilities:
        """What the connected broker can do.

        Raises:
            ClosedError: not opened yet, or closed.
        """
        return self._connector.any_link().backend.capabilities

    # Submitting.

    @overload
    def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]: ...
    @overload
    def submit(self, task: TaskCall[R], /) -> TaskHandle[R]: ...
    @overload
    def submit(self, task: Workflow[R], /) -> WorkflowHandle[R]: ...
    @overload
    def submit(self, task: type[Runs[Any, Coroutine[Any, Any, R]]], /, *args: Any, **kwargs: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, task: type[Runs[Any, R]], /, *args: Any, **kwargs: Any) -> TaskHandle[R]: ...
    @overload
    def submit(self, task: str, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]: ...

    def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
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
        link = self._link()
        call = as_call(task, args, kwargs)
        if not isinstance(call, TaskCall):
            return self._submit_workflow(link, call)
        if self._routes:
            call = routed(self._routes, call)
        if self._refuses_unread:
            self._on_link(lambda link: check_read(link, [call]))
        if self._chains.submits is not None or call.task.single is not None:
            return self._submit_through(self._chains.submits, link, call)
        message = prepare_one(link, call)
        (answer,) = link.submission.submit_blocking([message])
        return self._handle(link, call.task, message, answer)

    def submit_many(self, calls: Iterable[TaskCall[R]]) -> list[TaskHandle[R]]:
        """Hand many tasks over in as few round trips as possible; handles come in the order of ``calls``.

        Raises:
            BatchSubmitError: some were not submitted (its ``errors`` say which and why); all the others were.
            InvalidArgumentsError, EncodeError, MessageTooLarge: a call is bad; nothing was sent. With middleware,
                what is bad shows call by call, as a BatchSubmitError.
        """
        link = self._link()
        calls = as_calls(calls)
        if self._routes:
            calls = routed_all(self._routes, calls)
        if self._refuses_unread:
            self._on_link(lambda link: check_read(link, calls))
        if self._chains.submits is not None or has_single(calls):
            return self._submit_many_through(self._chains.submits, link, calls)
        messages = prepare(link, calls)
        if not messages:
            return []
        return batch_handles(partial(self._handle, link), calls, messages, link.submission.submit_blocking(messages))

    # Results.

    @overload
    def handle(self, task_id: str, task: None = None) -> TaskHandle[Any]: ...
    @overload
    def handle(self, task_id: str, task: Task[..., R]) -> TaskHandle[R]: ...

    def handle(self, task_id: str, task: Task[..., Any] | None = None) -> TaskHandle[Any]:
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
        return TaskHandle(self, text("task_id", task_id), known_task(task), submitted=False)

    def collect(self, handles: Iterable[TaskHandle[Any]], timeout: Duration | None = None) -> list[TaskResult]:
        """Wait for many tasks within one budget and return their results in the order of ``handles``.

        A task that has not ended in time is reported as such: its ``unwrap()`` raises ResultTimeout.

        Args:
            timeout: seconds, or a timedelta, for all of them together; None: as long as it takes.
        """
        arrivals = Arrivals(handles)
        try:
            for _ in self._completed(arrivals, timeout):
                pass
        except ResultTimeout:
            pass  # said in each unfinished result
        return arrivals.results(self._seconds(timeout))

    def as_completed(
        self, handles: Iterable[TaskHandle[R]], timeout: Duration | None = None
    ) -> Iterator[TaskHandle[R]]:
        """Yield each handle as its task ends; its ``result()`` then returns at once.

        Args:
            timeout: seconds, or a timedelta, for all of them together; None: as long as it takes.

        Raises:
            ResultTimeout: some had not ended by then.
        """
        yield from self._completed(Arrivals(handles), timeout)

    def forget(self, tasks: Iterable[TaskHandle[Any] | str]) -> None:
        """Delete stored results; unknown ids are ignored."""
        ids = ids_of(tasks)
        self._on_link(lambda link: link.forget(ids))

    # Control and health.

    def cancel(self, key: str | None = None, /, *, task_id: str | None = None, ttl: Duration = CANCEL_TTL) -> list[str]:
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
        return list(self._on_link(lambda link: link.cancel(kind, [value], seconds)).removed)

    def send_event(self, task_id: str, name: str, value: Any = None) -> bool:
        """Send the task with this id an event: as the handle's ``send_event``."""
        # Loaded by the first event.
        from tranship.client import event_record, send_event

        record = event_record(task_id, name, value)
        return self._on_link(lambda link: send_event(link, record))

    def ping(self) -> float:
        """Make one round trip to the broker, no task involved; return its seconds.

        Raises:
            BrokerUnreachable: there was no answer.
        """
        return self._on_link(lambda link: link.ping())

    def probe(self, queue: str = "default", timeout: Duration = 10.0) -> Probe:
        """Send a task that every worker answers by itself through ``queue``, and say how each leg went."""
        from tranship.client import run_probe

        seconds = positive_duration("timeout", timeout)
        return self._on_link(lambda link: run_probe(link, queue, seconds))

    # Steps.

    def _link(self) -> ClientLink:
        return self._connector.opened(None) or self._connector.blocking_link()

    def _on_link(self, work: Callable[[ClientLink], Coroutine[Any, Any, T]]) -> T:
        link = self._link()
        return process_table().portal_of(link.loop).run(work(link))

    def _submit_workflow(self, link: ClientLink, workflow: Workflow[Any]) -> WorkflowHandle[Any]:
        # Loaded by the first workflow.
        from tranship.client._following import planned, submit_planned
        from tranship.client._shape import ends
        from tranship.sync._workflow_handle import WorkflowHandle

        found = planned(link, workflow, self._routes)
        self._on_link(lambda link: submit_planned(link, found, self._chains))
        return WorkflowHandle(self, found.shape, stored=all(leaf.stored for leaf in ends(found.shape)))

    def _follow(self, handle: WorkflowHandle[Any], shape: Shape, timeout: Duration | None) -> TaskResult:
        from tranship.client._following import follow

        check_stored(handle.id, stored=handle.stored)
        seconds, chain = self._seconds(timeout), self._chains.results
        return self._on_link(lambda link: follow(link, shape, seconds, chain))

    def _snapshot(self, shape: Shape) -> WorkflowResult[Any]:
        from tranship.client._following import snapshot

        return self._on_link(lambda link: snapshot(link, shape, self._chains.results))

    def _ends(self, shapes: Mapping[str, Shape]) -> list[TaskResult]:
        """The results of those that have ended."""
        if not shapes:
            return []
        from tranship.client._following import ends_of

        return self._on_link(lambda link: ends_of(link, shapes, self._chains.results))

    def _cancel_all(self, shape: Shape) -> None:
        from tranship.client._following import cancel_all

        self._on_link(lambda link: cancel_all(link, shape))

    def _submit_through(
        self, chain: Chain[Envelope, Receipt] | None, link: ClientLink, call: TaskCall[Any]
    ) -> TaskHandle[Any]:
        ((envelope, own_id),) = envelopes_of(link, [call])
        message, receipt = self._on_link(
            lambda link: submit_through(link, chain, envelope, own_id=own_id, awaited=True, task=call.task)
        )
        return self._handle(link, call.task, message, receipt)

    def _submit_many_through(
        self, chain: Chain[Envelope, Receipt] | None, link: ClientLink, calls: Sequence[TaskCall[Any]]
    ) -> list[TaskHandle[Any]]:
        envelopes, tasks = envelopes_of(link, calls), [one.task for one in calls]
        answered = self._on_link(lambda link: submit_many_through(link, chain, envelopes, tasks))
        messages, answers = [one[0] for one in answered], [one[1] for one in answered]
        return batch_handles(partial(self._handle, link), calls, messages, answers)

    def _handle(self, link: ClientLink, task: Task[..., Any], message: Message, answer: Answer) -> TaskHandle[Any]:
        if not isinstance(answer, Receipt):
            raise answer
        stored = message.envelope.keeps_result
        if answer.duplicate_of is None:
            if message.envelope.not_before is not None:
                link.delayed_submitted(message.envelope)
            return TaskHandle(self, answer.id, task, stored=stored)
        return TaskHandle(self, answer.duplicate_of, task, stored=stored, duplicate=True)

    def _wait(self, handle: TaskHandle[Any], timeout: Duration | None) -> TaskResult:
        check_stored(handle.id, stored=handle.stored)
        seconds = self._seconds(timeout)
        unknown = None if handle.submitted else self.settings.unknown_id_timeout
        chain, link = self._chains.results, self._link()
        portal = process_table().portal_of(link.loop)
        if chain is None:
            return wait_blocking(link, portal, handle.id, seconds, unknown=unknown)
        return portal.run(end_through(chain, wait_for_end(link, handle.id, seconds, unknown=unknown)))

    def _seconds(self, timeout: Duration | None) -> float | None:
        return self.settings.result_timeout if timeout is None else duration("timeout", timeout)

    def _states(self, ids: Sequence[str]) -> list[TaskResult]:
        chain = self._chains.results
        if chain is None:
            return self._on_link(lambda link: link.states(ids))
        return self._on_link(lambda link: states_through(chain, link.states(ids)))

    def _progress(self, task_id: str) -> Progress | None:
        from tranship.client import read_progress

        return self._on_link(lambda link: read_progress(link, task_id))

    def _parts(self, handle: TaskHandle[Any], timeout: Duration | None) -> Generator[Any, None, None]:
        # Loaded by the first stream.
        from tranship.client import PartReader

        check_stored(handle.id, stored=handle.stored)
        unknown = None if handle.submitted else self.settings.unknown_id_timeout
        reader = PartReader(handle.id, self._seconds(timeout), unknown)
        try:
            while parts := self._on_link(reader.next):
                yield from parts
        finally:
            self._on_link(reader.close)
        handle.final = reader.ending() if self._chains.results is None else self._wait(handle, timeout)
        handle.final.unwrap()

    def _completed(self, arrivals: Arrivals[TaskHandle[R]], timeout: Duration | None) -> Iterator[TaskHandle[R]]:
        yield from arrivals.finished
        if not arrivals:
            return
        for handle in arrivals.handles:
            check_stored(handle.id, stored=handle.stored)
        link = self._link()
        budget = Budget(self._seconds(timeout), unknown=None if link.can_tell else self.settings.unknown_id_timeout)
        if budget.timeout == 0:
            # No waiting, but what is there already is told.
            for known in [*self._states(arrivals.single_ids), *self._ends(arrivals.shapes)]:
                yield from arrivals.known(known)
        found: queue.SimpleQueue[tuple[str, Passed]] = queue.SimpleQueue()
        end = arrivals.watch(link, lambda task_id, what: found.put((task_id, what)), self._chains.results)
        try:
            while arrivals:
                try:
                    task_id, what = found.get(timeout=arrivals.left(budget))
                except queue.Empty:
                    raise arrivals.timeout(budget) from None
                yield from arrivals.arrived(task_id, what)
        finally:
            end()

    def __repr__(self) -> str:
        return f"<Client {self.settings.broker_url}{' closed' if self._connector.closed else ''}>"
