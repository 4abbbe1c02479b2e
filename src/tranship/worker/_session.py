"""One worker at work: opened backends, and the tasks that take in, run, renew and settle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tranship.clocks import clock_of, look
from tranship.envelope import Ending
from tranship.errors import TranshipError
from tranship.middleware import Middleware
from tranship.ports import (
    Backend,
    Capability,
    ConnectionEvent,
    Consumer,
    ControlChannel,
    Delivery,
    Settled,
    Settlement,
    Signal,
    Tombstone,
    ready_in,
)
from tranship.settings import Settings
from tranship.settlement import ENOUGH, Settling
from tranship.task import Task
from tranship.worker._answered import Answered
from tranship.worker._cancels import Cancels, hits, marks_of
from tranship.worker._checkup import WorkerStatus
from tranship.worker._classify import stopped
from tranship.worker._dependencies import Dependencies
from tranship.worker._handlers import Handlers
from tranship.worker._heartbeats import Heartbeats
from tranship.worker._intake import Intake, close
from tranship.worker._io import IOLoop
from tranship.worker._leases import Leases
from tranship.worker._namesakes import Namesakes
from tranship.worker._ordered import InOrder
from tranship.worker._pipeline import Pipeline
from tranship.worker._presence import Presence
from tranship.worker._profile import Profile
from tranship.worker._record import Run, Stop
from tranship.worker._report import Reporter, log_end, log_too_late
from tranship.worker._starvation import Starvation
from tranship.worker._suspects import Suspects
from tranship.worker._threads import HandlerThreads
from tranship.worker._through import ends_of
from tranship.worker._types import TypeLimits
from tranship.worker._unsettled import Unsettled

if TYPE_CHECKING:
    from tranship.worker._isolation import Isolation

__all__ = ["Session"]

log = logging.getLogger("tranship.worker")

HEEDING: Final = 5.0
"""Seconds that handlers get to end when they are told that the worker stops."""
NO_LIMITS: Final[Mapping[str, int]] = MappingProxyType({})
WELL_BEFORE: Final = 0.95
"""Of the time after which a broker takes deliveries back: a task that has no limit of its own ends by then."""


class Session:
    """Everything of a worker that lives as long as its connection; on the I/O loop.

    Args:
        backend: opened.
        result_backend: where results go if not to the broker; opened.
        io: the I/O loop; handlers run on the loop beside it.
        tasks: the handlers by task name.
        queues: what to consume.
        queues_in_order: whether an earlier queue goes before a later one.
        settings: limits and times.
        name: the worker's name.
        profile: what its owner and its handlers say of it.
        ended: called with each delivery that has ended; None: nobody counts.
        type_limits: how many tasks of a type may run at once.
        dependencies: what handlers are given besides their arguments.
        middleware: what handlers and endings pass through.
    """

    def __init__(
        self,
        backend: Backend,
        result_backend: Backend | None,
        io: IOLoop,
        *,
        tasks: Mapping[str, Task[..., Any]],
        queues: Sequence[str],
        settings: Settings,
        name: str,
        profile: Profile,
        dependencies: Dependencies,
        queues_in_order: bool = False,
        ended: Callable[[Run], None] | None = None,
        type_limits: Mapping[str, int] = NO_LIMITS,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._count = ended
        self._backend = backend
        self._queues = queues
        self._settings = settings
        self._name = name
        self._done = 0
        self._runs: set[Run] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._undecided: set[Run] = set()
        """Those that have not ended; others may still occupy a thread."""
        self._decided = asyncio.Event()
        self._helpers: list[asyncio.Task[None]] = []
        self._jobs: set[asyncio.Task[None]] = set()
        self._hurried = asyncio.Event()
        self._threads = HandlerThreads()
        self._isolation = _isolation(tasks, settings.max_concurrent_tasks)
        self._control = _control(backend)
        self._cancels = Cancels(self._cancelled, marks_of(_control(result_backend or backend), self._control))
        instance = secrets.token_hex(8)
        self._namesakes = Namesakes(self._control, name, instance) if self._control is not None else None
        presence = Presence(
            name=name,
            instance=instance,
            queues=queues,
            tasks=tasks,
            limit=settings.max_concurrent_tasks,
            profile=profile,
            clock=clock_of(backend),
            runs=self.runs,
            capacity=self.capacity,
            namesakes=self._namesakes.known if self._namesakes is not None else list,
            room=backend.submitter().max_message_size,
        )
        self._heartbeats = Heartbeats(
            self._control, backend=backend, settings=settings, presence=presence, namesakes=self._namesakes
        )
        profile.on_change(self._heartbeats.changed)
        stores = [backend] if result_backend is None else [backend, result_backend]
        self._reporter = Reporter(
            worker=name,
            max_size=min(one.submitter().max_message_size for one in stores),
            content_type=stores[-1].capabilities.result_type,
        )
        delays = backend.capabilities.has(Capability.DELAY)
        self._types = limits = TypeLimits(type_limits, tasks, queues, delays=delays) if type_limits else None
        self.intake = Intake(
            lambda: InOrder(backend.consumer(queues), queues) if queues_in_order else backend.consumer(queues),
            free=self._room if limits is None else lambda: limits.room(self._room()),
            take=self._take,
            silence=settings.watchdog,
            skip=tuple if limits is None else limits.full_queues,
            starvation=_starvation(backend, queues, settings.watchdog),
        )
        self.intake.retired = self._retire
        self._unsettled = Unsettled(self._drop, self.intake.renew)
        self._suspects = Suspects(self.intake.room)
        self._retired: list[Consumer] = []
        self._fused = fused = result_backend is None and backend.capabilities.has(Capability.FUSED_SETTLE)
        store = result_backend or backend
        results = store.results() if store.capabilities.answers else None
        known = results if not fused and store.capabilities.has(Capability.RESULTS) else None
        self._pipeline = Pipeline(
            tasks,
            self._cancels,
            Answered(known),
            self._threads,
            max_deliveries=settings.max_deliveries,
            isolation=self._isolation,
            clock=clock_of(backend),
            max_size=backend.submitter().max_message_size,
            hot_cache=profile.hot_cache,
            dependencies=dependencies,
            middleware=middleware,
        )
        self._handlers = Handlers(
            io,
            pipeline=self._pipeline,
            reporter=self._reporter,
            ended=self._ended,
            freed=self._free,
            ends=ends_of(middleware),
        )
        if (hard_limit := self.intake.consumer.hard_limit) is not None:
            self._pipeline.longest = hard_limit * WELL_BEFORE
        self._leases = Leases(self.intake.consumer.lease, fenced=fused, stop=self._stop)
        self._settling = Settling(
            results,
            fused=fused,
            patience=max(60.0, 2 * (self.intake.consumer.lease or 0.0)),
            backlog=lambda: self.intake.backlog,
        )

        backend.on_event(self._connection)

    @property
    def url(self) -> str:
        """Where it consumes from, without secrets."""
        return self._backend.url

    async def listen(self) -> None:
        """Hear what is cancelled. To be done before :meth:`run`: nothing is admitted before we know.

        Raises:
            BrokerError.
        """
        if self._control is not None:
            await self._control.listen(self._heard, worker=self._name)

    async def run(self) -> None:
        """Work until cancelled or :meth:`drain`; returns when intake has ended.

        Raises:
            BrokerError: a permanent one.
        """
        if self._isolation is not None:
            self._isolation.warm()
        await look(self._backend, self._backend.url)
        self._helpers = [asyncio.create_task(self._leases.keep()), asyncio.create_task(self._heartbeats.keep())]
        await self.intake.run()

    async def drain(self, patience: float) -> None:
        """Stop taking in, let what runs finish for ``patience`` seconds, give back the rest, settle everything."""
        self.intake.stop()
        for run in () if self._types is None else self._types.kept:
            self._stop(run, Stop.SHUTDOWN)
        ending = [asyncio.create_task(event.wait()) for event in (self._empty, self._hurried)]
        await asyncio.wait(ending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self._runs:
            await self._hard_stop()
        await self._settling.drain()
        self._unsettled.stop()
        # The leases were kept until here: settling may have had to wait for the broker.
        for helper in (*ending, *self._helpers):
            helper.cancel()
        await asyncio.gather(self.intake.aclose(), *map(close, self._retired))
        self._threads.stop()
        if self._isolation is not None:
            await asyncio.to_thread(self._isolation.close)
        await self._heartbeats.end()

    def hurry(self) -> None:
        """Cut the patience of :meth:`drain` short."""
        self._hurried.set()

    async def idle(self) -> bool:
        """Whether nothing is left to do: nothing runs or is settled here, nothing is ready, scheduled or in flight."""
        if self._busy():
            return False
        for queue in await self._backend.inspector().queues():
            if queue.name in self._queues and (any(queue.ready.values()) or queue.delayed or queue.in_flight):
                return False
        return not self._busy()

    def _busy(self) -> bool:
        return bool(self._runs or len(self._leases))

    def status(self) -> WorkerStatus:
        """What a health check wants to know."""
        problem = self._problem()
        return WorkerStatus(
            ready=self.intake.ready and problem is None,
            connected=self.intake.failed is None and not self._heartbeats.cut_off,
            running=self._running(),
            done=self._done,
            problem=problem,
            capacity=self.capacity(),
        )

    def _problem(self) -> str | None:
        if self.intake.stopping:
            return "stopping"
        if self.intake.failed is not None:
            return str(self.intake.failed)
        return "the broker cannot be reached" if self._heartbeats.cut_off else None

    @property
    def lease(self) -> float | None:
        """Seconds that a delivery is ours without being renewed; None: as long as the connection lives."""
        return self.intake.consumer.lease

    def capacity(self) -> Mapping[str, int]:
        """How many more tasks of each limited type may run now; any thread."""
        return {} if self._types is None else self._types.capacity()

    def shared_types(self) -> Mapping[str, Sequence[str]]:
        """Each limited type whose queue is not its own, with the queues that it shares."""
        return {} if self._types is None else self._types.shared

    def runs(self) -> Sequence[Run]:
        """What runs; any thread."""
        return tuple(self._runs)

    def latest(self) -> Run | None:
        """What was the last to begin; any thread."""
        return self._handlers.latest

    def _running(self) -> list[str]:
        # A copy in one step: health checks ask from other threads.
        return [run.id for run in self.runs() if run.id is not None]

    # One delivery.

    def _take(self, delivery: Delivery, asked: float) -> None:
        run = Run(delivery, self.intake.consumer)
        self._runs.add(run)
        self._undecided.add(run)
        self._suspects.look_at(run)
        self._empty.clear()
        self._leases.hold(run, asked)
        if self._types is not None:
            self._types.expect(run)
        admitted = True
        try:
            admitted = self._pipeline.admit(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        if admitted:
            self._go_on(run)
        else:
            self._start(self._admit_slowly(run))

    async def _admit_slowly(self, run: Run) -> None:
        try:
            await self._pipeline.admit_slowly(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        self._go_on(run)

    def _broken(self, run: Run, error: Exception) -> None:
        # A bug of ours: leave the delivery to its lease rather than lose it.
        log.error("running task %s failed in the worker itself", run.id, exc_info=error)
        run.broken = True

    def _go_on(self, run: Run) -> None:
        if run.outcome is None and run.stopped is not None and run.envelope is not None:
            stopped(run, run.stopped)
        if run.outcome is None and not run.broken:
            if self._types is None or self._types.admit(run):
                self._handlers.start(run)
                return
            if not self._types.put_back(run):
                self._types.keep(run)
                return
        if self._handlers.takes_endings and not run.broken:
            self._handlers.start(run)
            return
        try:
            run.settlement = self._reporter.settlement(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        self._ended(run)
        self._free(run)

    def _ended(self, run: Run) -> None:
        self._undecided.discard(run)
        if not self._undecided:
            self._decided.set()
        if self._count is not None:
            self._count(run)
        if run.broken:
            self._unsettled.leave(run)
        else:
            self._report(run, run.settlement)

    def _report(self, run: Run, settlement: Settlement | None) -> None:
        if run.outcome is Ending.RELEASED:
            self._start(self._release(run))
            return
        if settlement is None or run.stopped is Stop.LOST or not self._leases.ours(run):
            log.warning("task %s is given up, its delivery was lost: nothing was written, and it comes again", run.id)
            self._drop(run)
            return
        log_end(run)
        self._settling.post(run.consumer, settlement, lambda answer: self._settled(run, answer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _release(self, run: Run) -> None:
        try:
            await run.consumer.release([run.delivery])
        except TranshipError as error:
            log.warning("task %s could not be given back and will come again after its lease: %s", run.id, error)
        finally:
            self._drop(run)

    def _settled(self, run: Run, answer: Settled | TranshipError) -> None:
        self._done += 1
        if isinstance(answer, TranshipError):
            log.error("task %s could not be settled and will come again: %s", run.id, answer)
            self._unsettled.leave(run)
            return
        self._drop(run)
        if answer is Settled.LOST:
            log_too_late(run, fused=self._fused)

    def _free(self, run: Run) -> None:
        self._runs.discard(run)
        if self._types is not None and (kind := self._types.free(run)) is not None:
            self._type_has_room(self._types, kind)
        self.intake.room()
        if not self._runs:
            self._empty.set()

    def _type_has_room(self, types: TypeLimits, kind: str) -> None:
        if (waiting := types.next(kind)) is not None:
            self._go_on(waiting)
        else:
            self.intake.reopened()

    def _room(self) -> int:
        if self._suspects:
            return 0
        limit = self._settings.max_concurrent_tasks
        # What has ended and waits to be settled counts too, or a store that is away would let us run through
        # the whole queue with nothing to show for it.
        return min(limit - len(self._runs), 2 * limit + ENOUGH - len(self._leases))

    # Around it.

    def _heard(self, signals: Sequence[Signal]) -> None:
        self._cancels.heard(signals)
        if self._namesakes is not None and self._namesakes.heard(signals):
            self._heartbeats.hurry()

    def _connection(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.RESTORED:
            self.intake.hurry()
            if self._namesakes is not None:
                self._namesakes.ask_again()
        # Whether it can be reached is found out now.
        self._heartbeats.hurry()
        self._leases.look()

    def _cancelled(self, tombstone: Tombstone) -> None:
        for run in self.runs():
            if run.envelope is not None and hits(tombstone, run.envelope):
                self._stop(run, Stop.CANCELLED)

    def _stop(self, run: Run, why: Stop) -> None:
        self._handlers.stop(run, why)
        if self._types is not None and self._types.forget(run):
            self._go_on(run)

    def _retire(self, consumer: Consumer) -> None:
        """A consumer that fell silent is kept for what it brought and still runs."""
        self._retired.append(consumer)
        self._close_retired()

    def _close_retired(self) -> None:
        for consumer in [one for one in self._retired if not self._leases.uses(one)]:
            self._retired.remove(consumer)
            self._start(close(consumer))

    def _drop(self, run: Run) -> None:
        self._leases.drop(run)
        self._suspects.acquit(run)
        self.intake.room()
        if self._retired:
            self._close_retired()

    async def _hard_stop(self) -> None:
        log.warning("giving back %d tasks that did not end in time", len(self._runs))
        for run in self.runs():
            self._stop(run, Stop.SHUTDOWN)
        if self._undecided:
            self._decided.clear()
            # A handler that blocks may not heed it: closing the consumer gives its task back.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._decided.wait(), HEEDING)
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=HEEDING)


def _isolation(tasks: Mapping[str, Task[..., Any]], most: int) -> Isolation | None:
    if all(one.isolation is None for one in tasks.values()):
        return None
    # multiprocessing is loaded where it is used.
    from tranship.worker._isolation import Isolation

    return Isolation(tasks, most)


def _starvation(backend: Backend, queues: Sequence[str], patience: float) -> Starvation | None:
    if not backend.capabilities.has(Capability.INSPECT_DEPTH):
        return None
    return Starvation(lambda: ready_in(backend.inspector(), queues), patience)


def _control(backend: Backend) -> ControlChannel | None:
    return backend.control() if backend.capabilities.has(Capability.CONTROL) else None
