"""What a session is made of: opened backends, and the parts around them, wired to each other."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from tranship._defaults import default_registry, say_default
from tranship.announcing import peers_of
from tranship.canvas import chords_of
from tranship.clocks import clock_of
from tranship.connections import process_table
from tranship.limits import keeper_of
from tranship.mailbox import node_name
from tranship.ports import (
    Backend,
    Capability,
    Consumer,
    ControlChannel,
    NameKeeper,
    numbers_of,
    ready_in,
    records_of,
)
from tranship.protocol import Routing
from tranship.registry import Registry
from tranship.settlement import Settling
from tranship.submission import Submission
from tranship.task import Durable, Task, TaskContext
from tranship.worker._admission import Admission
from tranship.worker._answered import Answered
from tranship.worker._awaited import AwaitedEvents
from tranship.worker._caller import Caller
from tranship.worker._cancels import Cancels, marks_of
from tranship.worker._canvas import Canvas
from tranship.worker._chunks import chunking
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._each import Each, each_of
from tranship.worker._flow import Flow
from tranship.worker._following import Following
from tranship.worker._handlers import Handlers
from tranship.worker._heartbeats import Heartbeats
from tranship.worker._intake import Intake
from tranship.worker._io import IOLoop
from tranship.worker._leases import Leases
from tranship.worker._limited import LimitedFlow
from tranship.worker._live import LiveControl
from tranship.worker._name import WorkerName, holder
from tranship.worker._namesakes import Namesakes
from tranship.worker._ordered import InOrder
from tranship.worker._own_commands import OwnCommands
from tranship.worker._presence import Presence
from tranship.worker._remote import RemoteCommands
from tranship.worker._report import Reporter
from tranship.worker._session import Session
from tranship.worker._setup import (
    Setup,
    check_events,
    check_hard_limit,
    check_parts,
    check_prefers,
    check_results,
    check_singles,
)
from tranship.worker._starvation import Starvation
from tranship.worker._suspects import Suspects
from tranship.worker._tally import Tally
from tranship.worker._telling import Tellers
from tranship.worker._threads import HandlerThreads
from tranship.worker._through import ends_of
from tranship.worker._types import TypeLimits
from tranship.worker._unlock import unlocking
from tranship.worker._unsettled import Unsettled
from tranship.worker._wanted import affinity_of, history_of, turns_of

if TYPE_CHECKING:
    from tranship.worker._isolation import Isolation

__all__ = ["SessionBuilder", "open_session"]

PATIENCE: Final = 60.0
"""Seconds for which what follows a task is tried while the broker cannot be reached."""
WELL_BEFORE: Final = 0.95
"""Of the time after which a broker takes deliveries back: a task that has no limit of its own ends by then."""

DAY: Final = 86_400.0
"""Seconds that progress and parts are kept of a task that does not say how long its result is."""


async def open_session(
    setup: Setup, stack: contextlib.AsyncExitStack, *, io: IOLoop, registry: Registry | None
) -> Session:
    """Connect, and return a session that hears what is cancelled. On the I/O loop.

    Args:
        setup: what the worker was given.
        stack: closes what is opened.
        io: the I/O loop; handlers run on the loop beside it.
        registry: the plugins to choose from; None: those installed.

    Raises:
        BrokerError: it cannot be reached, or refuses.
        UnsupportedError, ConfigurationError: it cannot do what the tasks need.
        WorkerNameTaken: another worker has the name.
    """
    backend, result_backend = await _open(setup, stack, registry)
    session = SessionBuilder(setup, backend, result_backend, io).build()
    check_hard_limit(session.intake.consumer.hard_limit, setup.tasks.values(), backend.name)
    await session.take_name(stack)
    await session.listen()
    return session


async def _open(
    setup: Setup, stack: contextlib.AsyncExitStack, registry: Registry | None
) -> tuple[Backend, Backend | None]:
    table = process_table()
    say_default(table, setup.settings)
    registry = registry or default_registry(table)
    broker, results = setup.settings.broker(), setup.settings.results()
    backend = registry.create(broker, shared=table.shared)
    stack.push_async_callback(backend.aclose)
    await backend.open()
    result_backend = None
    if results is not None and results != broker:
        result_backend = registry.create(results, shared=table.shared, results=True)
        stack.push_async_callback(result_backend.aclose)
        await result_backend.open()
        result_backend.capabilities.check_keeps_results(result_backend.name)
    check_results(result_backend or backend, setup.tasks.values())
    check_parts(result_backend or backend, setup.tasks.values())
    check_prefers(backend, setup.tasks.values())
    check_singles(backend, result_backend or backend, setup.tasks.values())
    if any(one.limits is not None for one in setup.tasks.values()):
        keeper_of(backend, result_backend)
    await backend.ensure(setup.queues)
    return backend, result_backend


class SessionBuilder:
    """Makes one session. On the I/O loop.

    Args:
        setup: what the worker was given.
        backend: opened.
        result_backend: where results go if not to the broker; opened.
        io: the I/O loop; handlers run on the loop beside it.
    """

    def __init__(self, setup: Setup, backend: Backend, result_backend: Backend | None, io: IOLoop) -> None:
        self._setup = setup
        self._backend = backend
        self._stores = [backend] if result_backend is None else [backend, result_backend]
        self._store = self._stores[-1]
        self._results = self._store.results() if self._store.capabilities.answers else None
        self._fused = result_backend is None and backend.capabilities.has(Capability.FUSED_SETTLE)
        self._io = io
        self._queues = ConsumedQueues(setup.queues)
        self._flow = (LimitedFlow if self._has_limits() else Flow)(
            limit=setup.settings.max_concurrent_tasks,
            queues=self._queues,
            fused=self._fused,
            began=setup.began,
            ended=setup.ended,
        )
        self._tally = Tally()
        if _control(backend) is not None:
            self._flow.count_also(self._tally.count)
        self._history = history_of(setup, self._stores)
        if self._history is not None:
            self._flow.count_also(self._history.ended)
        self._threads = HandlerThreads()
        self._isolation = _isolation(setup.tasks, setup.settings.max_concurrent_tasks)
        self._chords = chords_of(self._store)
        self._control = _control(backend)
        self._cancels = Cancels(self._flow.cancelled, marks_of(_control(self._store), self._control))

    def build(self) -> Session:
        """Return the session."""
        flow = self._flow
        self._take_in(flow)
        self._run(flow)
        self._settle(flow)
        instance = secrets.token_hex(8)
        namesakes = Namesakes(self._control, self._setup.name, instance) if self._control is not None else None
        heartbeats = self._heartbeats(instance, namesakes)
        self._setup.profile.on_change(heartbeats.changed)
        live = self._live(flow)
        self._speak_with_peers(flow, live)
        if isinstance(flow, LimitedFlow):
            store = self._stores[1] if len(self._stores) > 1 else None
            sender = self._submission()
            flow.turns = turns_of(self._setup, self._backend, store, flow, results=self._results, submission=sender)
        return Session(
            self._setup,
            self._backend,
            flow,
            self._queues,
            control=self._control,
            cancels=self._cancels,
            name=self._name(instance),
            namesakes=namesakes,
            commands=self._commands(instance, live, heartbeats),
            heartbeats=heartbeats,
            history=self._history,
            threads=self._threads,
            isolation=self._isolation,
        )

    def _take_in(self, flow: Flow) -> None:
        """What brings deliveries, and knows how long they are ours."""
        backend, queues, silence = self._backend, self._queues, self._setup.settings.watchdog

        def consumer() -> Consumer:
            made = backend.consumer(queues.known)
            return InOrder(made, queues.known) if self._setup.queues_in_order else made

        flow.types = self._limits()
        flow.affinity = affinity_of(self._setup, backend, flow)
        flow.intake = Intake(
            consumer,
            free=flow.free,
            take=flow.take,
            silence=silence,
            skip=flow.left_alone,
            starvation=_starvation(backend, queues, silence),
        )
        flow.intake.retired = flow.retire
        flow.suspects = Suspects(flow.intake.room)
        flow.leases = Leases(flow.intake.consumer.lease, fenced=self._fused, stop=flow.stop)

    def _live(self, flow: Flow) -> LiveControl:
        setup = self._setup
        return LiveControl(
            self._backend,
            flow,
            self._queues,
            setup.tasks,
            caller=self._handler_caller,
            stop=setup.stop,
            restart=self._restart,
        )

    def _commands(self, instance: str, live: LiveControl, heartbeats: Heartbeats) -> RemoteCommands | None:
        setup = self._setup
        if self._control is None and setup.settings.control_token is None:
            return None
        own = OwnCommands(setup.commands, self._io, self._threads, began=setup.began)
        return RemoteCommands(
            self._control, setup.name, instance, live=live, own=own, tasks=setup.tasks, obeyed=heartbeats.hurry
        )

    def _speak_with_peers(self, flow: Flow, live: LiveControl) -> None:
        """What programs of another system ask and command, and are told."""
        control, setup = peers_of(self._backend), self._setup
        if control is None:
            check_events(setup.settings, self._backend)
            return
        # Loaded where there are any.
        from tranship.worker._answers import Answers
        from tranship.worker._commands import CeleryCommands
        from tranship.worker._events import TaskEvents

        node = node_name(setup.name)
        if setup.settings.events:
            flow.events = TaskEvents(control, node, runs=flow.runs, done=lambda: flow.done)
        answers = Answers(setup, node, flow, self._queues, clock=lambda: control.clock)
        flow.count_also(answers.count)
        control.obey(CeleryCommands(answers, live, flow.events))

    def _restart(self) -> None:
        """Have new threads and processes run what comes from now on, or a new process do everything."""
        if self._setup.restart():
            return
        self._threads.renew()
        if self._isolation is not None:
            # Processes are waited for, for a moment.
            self._threads.start(self._isolation.renew)

    def _run(self, flow: Flow) -> None:
        """What decides how they end."""
        setup = self._setup
        flow.reporter = Reporter(
            worker=setup.name,
            max_size=self._largest(),
            content_type=self._store.capabilities.result_type,
        )
        flow.reporter.canvas = canvas = Canvas(
            setup.tasks,
            max_size=self._backend.submitter().max_message_size,
            counts=self._chords is not None,
            in_thread=self._threads.run,
            routing=Routing(numbers=numbers_of(self._backend), queue_of=setup.settings.task_routes.queue_of),
        )
        flow.following = Following(
            canvas,
            self._submission(),
            results=self._results,
            chords=self._chords,
            worker=setup.name,
            content_type=self._store.capabilities.result_type,
            patience=PATIENCE,
        )
        flow.tellers = self._tellers()
        records = records_of(self._store)
        flow.awaited = None if records is None else AwaitedEvents(records)
        flow.admission = self._admission()
        self._handler_caller = self._caller(flow.intake.consumer.hard_limit)
        flow.handlers = self._handlers(flow)

    def _handlers(self, flow: Flow) -> Handlers:
        setup = self._setup
        common: dict[str, Any] = {
            "caller": self._handler_caller,
            "reporter": flow.reporter,
            "ended": flow.ended,
            "freed": flow.freed,
            "ends": ends_of(setup.middleware),
        }
        if all(one.batching is None for one in setup.tasks.values()):
            return Handlers(self._io, **common)
        # Loaded where there are any.
        from tranship.worker._batch_run import Calls
        from tranship.worker._batches import Batches, GatheringHandlers

        flow.batches = Batches(setup.tasks, self._queues, slots=flow.slots, room=flow.intake.room)
        calls = Calls(self._threads, setup.dependencies, setup.middleware)
        return GatheringHandlers(self._io, batches=flow.batches, calls=calls, go_on=flow.go_on, **common)

    def _settle(self, flow: Flow) -> None:
        """What tells the broker, and the store."""
        flow.settling = Settling(
            self._results,
            fused=self._fused,
            patience=max(60.0, 2 * (flow.intake.consumer.lease or 0.0)),
            backlog=lambda: flow.intake.backlog,
        )
        flow.unsettled = Unsettled(flow.drop, flow.intake.renew)

    def _has_limits(self) -> bool:
        return any(one.limits is not None for one in self._setup.tasks.values())

    def _limits(self) -> TypeLimits | None:
        setup = self._setup
        if not setup.type_limits:
            return None
        delays = self._backend.capabilities.has(Capability.DELAY)
        return TypeLimits(setup.type_limits, setup.tasks, setup.queues, delays=delays)

    def _admission(self) -> Admission:
        settings = self._setup.settings
        unlock = self._unlock()
        asked = not self._fused and self._store.capabilities.has(Capability.RESULTS)
        return Admission(
            self._setup.tasks,
            self._cancels,
            Answered(self._results if asked else None),
            max_deliveries=settings.max_deliveries,
            max_size=self._backend.submitter().max_message_size,
            counts=self._chords is not None or unlock is not None,
            own=[*self._celerys(), *([] if unlock is None else [unlock])],
            clock=clock_of(self._backend),
        )

    def _unlock(self) -> Task[..., Any] | None:
        if self._results is None or not self._store.capabilities.has(Capability.RESULTS):
            return None
        return unlocking(self._results, self._flow.following)

    def _celerys(self) -> list[Task[..., Any]]:
        """Celery's own tasks that call, or send, others."""
        setup = self._setup
        each = Each(setup.tasks, self._threads, setup.dependencies, self._isolation)
        return [*each_of(each), chunking(self._flow.following)]

    def _submission(self) -> Submission:
        return Submission(
            self._backend.submitter(),
            loop=asyncio.get_running_loop(),
            timeout=PATIENCE,
            retry_safe=self._backend.capabilities.has(Capability.RETRY_SAFE),
        )

    def _caller(self, hard_limit: float | None) -> Caller:
        setup = self._setup
        caller = Caller(
            self._cancels,
            self._threads,
            dependencies=setup.dependencies,
            isolation=self._isolation,
            hot_cache=setup.profile.hot_cache,
            tell=None if self._flow.tellers is None else self._flow.tellers.teller,
            durably=self._durably(),
            middleware=setup.middleware,
        )
        if hard_limit is not None:
            caller.longest = hard_limit * WELL_BEFORE
        return caller

    def _tellers(self) -> Tellers | None:
        records = records_of(self._store)
        return None if records is None else Tellers(records, limit=self._largest(), ttl=DAY)

    def _durably(self) -> Callable[[TaskContext], Durable] | None:
        records, io, limit = records_of(self._store), asyncio.get_running_loop(), self._largest()
        if records is None:
            return None

        def durably(context: TaskContext) -> Durable:
            # Loaded with the first step.
            from tranship.worker._durable import Steps

            return Steps(context, records, io=io, limit=limit)

        return durably

    def _largest(self) -> int:
        return min(one.submitter().max_message_size for one in self._stores)

    def _name(self, instance: str) -> WorkerName | None:
        if self._control is None or not self._backend.capabilities.has(Capability.UNIQUE_NAMES):
            return None
        return WorkerName(cast("NameKeeper", self._control), holder(self._setup.name, instance, self._setup.family))

    def _heartbeats(self, instance: str, namesakes: Namesakes | None) -> Heartbeats:
        setup, flow = self._setup, self._flow
        presence = Presence(
            name=setup.name,
            instance=instance,
            queues=lambda: self._queues.names,
            tasks=setup.tasks,
            limit=lambda: self._flow.limit,
            profile=setup.profile,
            clock=clock_of(self._backend),
            runs=self._flow.runs,
            capacity=lambda: {} if flow.types is None else flow.types.capacity(),
            totals=self._tally.totals,
            remembered=lambda: (0, 0) if self._history is None else (setup.settings.history, self._history.count),
            namesakes=list if namesakes is None else namesakes.known,
            room=self._backend.submitter().max_message_size,
        )
        return Heartbeats(
            self._control, backend=self._backend, settings=setup.settings, presence=presence, namesakes=namesakes
        )


def _isolation(tasks: Mapping[str, Task[..., Any]], most: int) -> Isolation | None:
    if all(one.isolation is None for one in tasks.values()):
        return None
    # multiprocessing is loaded where it is used.
    from tranship.worker._isolation import Isolation

    return Isolation(tasks, most)


def _starvation(backend: Backend, queues: ConsumedQueues, patience: float) -> Starvation | None:
    if not backend.capabilities.has(Capability.INSPECT_DEPTH):
        return None
    return Starvation(lambda: ready_in(backend.inspector(), queues.names), patience)


def _control(backend: Backend) -> ControlChannel | None:
    return backend.control() if backend.capabilities.has(Capability.CONTROL) else None
