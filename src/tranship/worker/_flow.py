"""What becomes of each delivery of a worker: taken, admitted, run, reported, settled, dropped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tranship.envelope import Ending
from tranship.errors import TranshipError
from tranship.ports import Consumer, Delivery, Settled, Settlement, Tombstone
from tranship.settlement import ENOUGH, Settling
from tranship.task import Durable, TaskContext
from tranship.worker._admission import Admission
from tranship.worker._awaited import AwaitedEvents
from tranship.worker._cancels import hits
from tranship.worker._classify import stopped
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._describe import describe_final
from tranship.worker._following import CannotFollow, Following
from tranship.worker._handlers import Handlers
from tranship.worker._intake import Intake, close
from tranship.worker._leases import Leases
from tranship.worker._rates import RateLimits
from tranship.worker._record import Run, Stop
from tranship.worker._report import Reporter, log_end, log_too_late
from tranship.worker._suspects import Suspects
from tranship.worker._telling import Teller, Tellers
from tranship.worker._types import TypeLimits
from tranship.worker._unsettled import Unsettled

if TYPE_CHECKING:
    from tranship.worker._affinity import Affinity
    from tranship.worker._batches import Batches
    from tranship.worker._events import TaskEvents

__all__ = ["Flow"]

log = logging.getLogger("tranship.worker")

HEEDING: Final = 5.0
"""Seconds that handlers get to end when they are told that the worker stops."""


class Flow:
    """The deliveries of one worker, on the I/O loop: each step hands them to the next.

    Its parts call it back, so it is there before them, and they are set before anything is taken.

    Args:
        limit: how many tasks may run at once.
        queues: what is consumed.
        fused: whether a result is written and its delivery acknowledged in one step.
        began: called when one is taken; None: nobody asks.
        ended: called with each delivery that has ended; None: nobody counts.

    Attributes:
        intake, leases, suspects, types, rates, admission, handlers, reporter, settling, unsettled, following, tellers:
            what the steps are made of; ``types`` is None where no type is limited, ``rates`` where no task is,
            ``tellers`` where nobody can be told.
        affinity: passes on what another worker holds something ready for; None: no task prefers anything.
        awaited: tells those that wait for events; None: nothing keeps any.
        batches: where calls are gathered that are handled many at once; None: no task is.
        events: is told what happens to each; None: nobody looks on.
        limit: how many tasks may run at once.
        done: how many deliveries have been settled, or could not be.
        retired: consumers that were replaced, and brought what is still held.
    """

    intake: Intake
    leases: Leases
    suspects: Suspects
    types: TypeLimits | None
    admission: Admission
    handlers: Handlers
    reporter: Reporter
    settling: Settling
    unsettled: Unsettled
    following: Following
    tellers: Tellers | None

    def __init__(
        self,
        *,
        limit: int,
        queues: ConsumedQueues,
        fused: bool,
        began: Callable[[], None] | None,
        ended: Callable[[Run], None] | None,
    ) -> None:
        self.limit = limit
        self.rates: RateLimits | None = None
        self.affinity: Affinity | None = None
        self.awaited: AwaitedEvents | None = None
        self.batches: Batches | None = None
        self.events: TaskEvents | None = None
        self._queues = queues
        self._fused = fused
        self._began = began
        self._count = ended
        self.done = 0
        self.retired: list[Consumer] = []
        self._runs: set[Run] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._undecided: set[Run] = set()
        """Those that have not ended; others may still occupy a thread."""
        self._decided = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    def count_also(self, count: Callable[[Run], None]) -> None:
        """Have ``count`` called with each delivery that has ended, too."""
        before = self._count
        if before is None:
            self._count = count
            return

        def both(run: Run) -> None:
            count(run)
            before(run)

        self._count = both

    def helpers(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on while the worker works, besides receiving and keeping leases."""
        return []

    async def finish(self) -> None:
        """Do what is left once everything is settled."""

    def runs(self) -> Sequence[Run]:
        """What runs; any thread."""
        return tuple(self._runs)

    @property
    def busy(self) -> bool:
        """Whether something runs or is settled."""
        return bool(self._runs or len(self.leases))

    async def until_empty(self) -> None:
        """Return when nothing runs; what has ended may still be settled."""
        await self._empty.wait()

    def room(self) -> int:
        """How many deliveries may be taken now."""
        if self.suspects:
            return 0
        # What has ended and waits to be settled counts too, or a store that is away would let us run through
        # the whole queue with nothing to show for it.
        most = 2 * self.limit + ENOUGH + (0 if self.awaited is None else len(self.awaited))
        if self.batches is not None:
            most += self.batches.extra + 2 * self.batches.most
        return min(self.slots(), most - len(self.leases))

    def slots(self) -> int:
        """How many more may run at once; below 0: it was more when they began."""
        taken = len(self._runs) if self.batches is None else len(self._runs) - self.batches.extra
        return self.limit - taken

    def free(self) -> int:
        """The same, of the queues that are not to be left alone."""
        if self._queues.none_left:
            return 0
        room = self.room()
        if self.batches is not None and not self.suspects:
            room = self.batches.room(room)
        return room if self.types is None else self.types.room(room)

    def left_alone(self) -> Collection[str]:
        """The queues from which nothing is to be taken now."""
        skip = self._queues.paused
        if self.types is not None:
            skip |= self.types.full_queues()
        if self.rates is not None:
            skip |= self.rates.full_queues(self._queues.known)
        if self.batches is not None and self.room() <= 0:
            skip |= self.batches.shut_queues()
        return skip

    # From step to step.

    def take(self, delivery: Delivery, asked: float) -> None:
        """Begin with ``delivery``, which was asked for at the monotonic time ``asked``."""
        run = Run(delivery, self.intake.consumer)
        self._runs.add(run)
        if self._began is not None:
            self._began()
        self._undecided.add(run)
        self.suspects.look_at(run)
        self._empty.clear()
        self.leases.hold(run, asked)
        if self.types is not None:
            self.types.expect(run)
        admitted = True
        try:
            admitted = self.admission.admit(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        if admitted:
            self._begin(run)
        else:
            self._start(self._admit_slowly(run))

    async def _admit_slowly(self, run: Run) -> None:
        try:
            await self.admission.admit_slowly(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        self._begin(run)

    def _begin(self, run: Run) -> None:
        if self.events is not None:
            self.events.received(run)
        self.go_on(run)

    def _broken(self, run: Run, error: Exception) -> None:
        # A bug of ours: leave the delivery to its lease rather than lose it.
        log.error("running task %s failed in the worker itself", run.id, exc_info=error)
        run.broken = True

    def go_on(self, run: Run) -> None:
        """Start the handler of ``run``, which was admitted, or has waited until it may start; or end it."""
        if run.outcome is None and run.stopped is not None and run.envelope is not None:
            stopped(run, run.stopped)
        if run.outcome is None and not run.broken:
            limits = self._held_by(run)
            if limits is None:
                if self.events is not None:
                    self.events.started(run)
                self.handlers.start(run)
                return
            if not limits.put_back(run):
                limits.keep(run)
                return
        if (self.handlers.takes_endings or run.sequel is not None) and not run.broken:
            self.handlers.start(run)
            return
        try:
            run.settlement = self.reporter.settlement(run)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        self.ended(run)
        self.freed(run)

    def _held_by(self, run: Run) -> TypeLimits | RateLimits | Affinity | None:
        """What keeps ``run`` from starting here and now; None: it may start."""
        if self.affinity is not None and not self.affinity.admit(run):
            return self.affinity
        if self.types is not None and not self.types.admit(run):
            return self.types
        if self.rates is not None and not self.rates.admit(run):
            return self.rates
        return None

    def ended(self, run: Run) -> None:
        """``run`` has an outcome, and the settlement for it."""
        self._undecided.discard(run)
        if not self._undecided:
            self._decided.set()
        if self._count is not None:
            self._count(run)
        if run.broken:
            self.unsettled.leave(run)
        elif run.context is not None and (run.context.telling is not None or run.context.durable is not None):
            self._start(self._report_told(run, run.context))
        else:
            self._report(run, run.settlement)

    async def _report_told(self, run: Run, context: TaskContext) -> None:
        """The same of one that has told something, or has steps that its next run is to find: its end comes after."""
        try:
            if run.stopped is Stop.LOST:
                return
            if self.tellers is not None and isinstance(context.telling, Teller):
                await self.tellers.finish(context.telling)
            if context.durable is not None and run.outcome is Ending.RETRY:
                await self._until_told(run, context.durable)
                await context.durable.renew(run.delay)
        except TranshipError as error:
            log.warning("task %s: what it keeps for its next run may be gone by then: %s", run.id, error)
        finally:
            self._report(run, run.settlement)

    async def _until_told(self, run: Run, durable: Durable) -> None:
        """One that waits for an event goes on when that is sent, if that is before it is due."""
        if self.awaited is None or durable.awaited is None or not run.snoozed:
            return
        if await self.awaited.told(run, durable.awaited):
            run.delay = 0.0
            run.settlement = self.reporter.settlement(run)

    def _report(self, run: Run, settlement: Settlement | None) -> None:
        if run.outcome is Ending.RELEASED:
            self._start(self._release(run))
            return
        if settlement is None or run.stopped is Stop.LOST or not self.leases.ours(run):
            log.warning("task %s is given up, its delivery was lost: nothing was written, and it comes again", run.id)
            self.drop(run)
            return
        log_end(run)
        if run.sequel is None or run.sequel.plan is None:
            self.settling.post(run.consumer, settlement, partial(self._settled, run))
        else:
            self._start(self._follow(run, settlement))

    async def _follow(self, run: Run, settlement: Settlement) -> None:
        """Do what follows the task, and then settle it: so that it is done however often workers die in between."""
        try:
            settlement = await self._carry_out(run, settlement)
        except TranshipError as error:
            log.warning("what follows task %s could not be done, and the task comes again: %s", run.id, error)
            self.unsettled.leave(run)
        except Exception:
            log.exception("what follows task %s failed in the worker itself; the task comes again", run.id)
            self.unsettled.leave(run)
        else:
            self.settling.post(run.consumer, settlement, partial(self._settled, run))

    async def _carry_out(self, run: Run, settlement: Settlement) -> Settlement:
        try:
            await self.following.carry_out(run)
        except CannotFollow as refused:
            info = describe_final(refused.reason)
            message = f"task {run.id} went well, and cannot be followed: {info.message}"
            failed = self.reporter.failed(run, replace(info, message=message))
            if failed is None:
                return settlement
            log_end(run)
            settlement = failed
            try:
                await self.following.carry_out(run)
            except CannotFollow as again:
                log.warning("task %s failed, and its errbacks cannot be sent: %s", run.id, again)
        return settlement

    async def _release(self, run: Run) -> None:
        try:
            await run.consumer.release([run.delivery])
        except TranshipError as error:
            log.warning("task %s could not be given back and will come again after its lease: %s", run.id, error)
        else:
            if self.events is not None:
                self.events.ended(run)
        finally:
            self.drop(run)

    def _settled(self, run: Run, answer: Settled | TranshipError) -> None:
        self.done += 1
        if isinstance(answer, TranshipError):
            log.error("task %s could not be settled and will come again: %s", run.id, answer)
            self.unsettled.leave(run)
            return
        self.drop(run)
        if answer is Settled.LOST:
            log_too_late(run, fused=self._fused)
        elif self.events is not None:
            self.events.ended(run)

    def drop(self, run: Run) -> None:
        """``run`` is not held any more."""
        self.leases.drop(run)
        self.suspects.acquit(run)
        self.intake.room()
        if self.retired:
            self._close_retired()

    def freed(self, run: Run) -> None:
        """``run`` takes no slot any more."""
        self._runs.discard(run)
        if self.types is not None and (kind := self.types.free(run)) is not None:
            self._type_has_room(self.types, kind)
        self.intake.room()
        if not self._runs:
            self._empty.set()

    def _type_has_room(self, types: TypeLimits, kind: str) -> None:
        if (waiting := types.next(kind)) is not None:
            self.go_on(waiting)
        else:
            self.intake.reopened()

    # From outside.

    def stop(self, run: Run, why: Stop) -> None:
        """Tell ``run`` to stop."""
        self.handlers.stop(run, why)
        waited = self.types is not None and self.types.forget(run)
        waited = (self.rates is not None and self.rates.forget(run)) or waited
        waited = (self.affinity is not None and self.affinity.forget(run)) or waited
        if waited:
            self.go_on(run)

    def cancelled(self, tombstone: Tombstone) -> None:
        """Tell those to stop that ``tombstone`` is for."""
        for run in self.runs():
            if run.envelope is not None and hits(tombstone, run.envelope):
                self.stop(run, Stop.CANCELLED)

        if self.awaited is not None:
            self.awaited.cancelled(tombstone)

    def retire(self, consumer: Consumer) -> None:
        """A consumer that fell silent is kept for what it brought and still runs."""
        self.retired.append(consumer)
        self._close_retired()

    def _close_retired(self) -> None:
        for consumer in [one for one in self.retired if not self.leases.uses(one)]:
            self.retired.remove(consumer)
            self._start(close(consumer))

    # At the end.

    async def run_out(self, patience: float, hurried: asyncio.Event) -> None:
        """Let what runs finish for ``patience`` seconds or until it is ``hurried``, and give back the rest."""
        for limits in (self.types, self.rates, self.affinity):
            for run in () if limits is None else limits.kept:
                self.stop(run, Stop.SHUTDOWN)
        if self.batches is not None:
            self.batches.flush()
        if self.awaited is not None:
            self.awaited.close()
        waiting = [asyncio.create_task(event.wait()) for event in (self._empty, hurried)]
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self._runs:
            await self._hard_stop()
        for one in waiting:
            one.cancel()
        if self._jobs:
            # What follows a task may still be on its way.
            await asyncio.wait(set(self._jobs), timeout=HEEDING)

    async def _hard_stop(self) -> None:
        log.warning("giving back %d tasks that did not end in time", len(self._runs))
        for run in self.runs():
            self.stop(run, Stop.SHUTDOWN)
        if self._undecided:
            self._decided.clear()
            # A handler that blocks may not heed it: closing the consumer gives its task back.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._decided.wait(), HEEDING)
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=HEEDING)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
