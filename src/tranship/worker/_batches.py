"""Calls that are handled many at once: gathered on the I/O loop until a batch is full, or has waited long enough.

While it gathers, and while it runs, a batch takes one of the worker's slots. Each of its members is a delivery like any
other: with a lease, a limit, middleware and an outcome of its own. Workers without such tasks never come here.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tranship.task import BatchTask, Task
from tranship.worker._batch_run import BatchRun, Calls
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._handlers import Handlers
from tranship.worker._io import IOLoop
from tranship.worker._record import Run, Stop

__all__ = ["Batches", "GatheringHandlers"]


class _Batch:
    """One that gathers, or runs."""

    __slots__ = ("members", "running", "task", "timer", "unfreed")

    def __init__(self, task: BatchTask[..., Any]) -> None:
        self.task = task
        self.members: dict[Run, None] = {}
        """In order."""
        self.unfreed = 0
        """How many of them have not ended."""
        self.timer: asyncio.TimerHandle | None = None
        self.running = False


class Batches:
    """Those of one worker at work, on its I/O loop.

    Args:
        tasks: the worker's, by name.
        queues: what it consumes.
        slots: how many more may run at once; below 0: too many do.
        room: called when there may be room for more deliveries.

    Attributes:
        extra: how many deliveries take no slot of their own, because others of their batch do.
        run: has a batch run; set before anything is gathered.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        queues: ConsumedQueues,
        *,
        slots: Callable[[], int],
        room: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._queues = queues
        self._slots = slots
        self._room = room
        self.extra = 0
        self.run: Callable[[BatchTask[..., Any], Sequence[Run]], None]
        self.most = max(one.batching.size for one in tasks.values() if one.batching is not None)
        """Members of the largest batch."""
        self._open: dict[str, _Batch] = {}
        """Those that gather, by task."""
        self._waiting: dict[_Batch, None] = {}
        """Those that wait for a slot, in order."""
        self._of: dict[Run, _Batch] = {}
        self._closing = False

    # What to fetch.

    def room(self, free: int) -> int:
        """How many deliveries may be taken where ``free`` more may run and :meth:`shut_queues` are left alone."""
        if free > 0:
            found = [self._batched(queue) for queue in self._queues.names]
            if not all(found):
                return free
            tasks = {one.name: one for some in found for one in some}
            seats = min(map(self._seats, tasks.values()))
            more = max(_size(one) for one in tasks.values()) if len(tasks) == 1 else 1
            return seats + free * more
        return min((min(map(self._seats, self._batched(queue))) for queue in self._readable()), default=0)

    def shut_queues(self) -> frozenset[str]:
        """The queues that may bring what there is no room for, while no slot is free."""
        return frozenset(self._queues.known) - frozenset(self._readable())

    def _readable(self) -> list[str]:
        """The queues that bring nothing but members of batches that gather."""
        if not self._open:
            return []
        return [
            queue for queue in self._queues.names if (tasks := self._batched(queue)) and all(map(self._seats, tasks))
        ]

    def _batched(self, queue: str) -> list[Task[..., Any]]:
        """The tasks of a queue; none where not all of them are handled in batches."""
        # A queue that no task declares may bring any of them.
        tasks = [one for one in self._tasks.values() if one.options_set.queue == queue] or list(self._tasks.values())
        return tasks if all(one.batching is not None for one in tasks) else []

    def _seats(self, task: Task[..., Any]) -> int:
        batch = self._open.get(task.name)
        return 0 if batch is None else _size(task) - len(batch.members)

    # Members.

    def add(self, run: Run, task: BatchTask[..., Any]) -> None:
        """Have ``run`` wait for its batch."""
        assert task.batching is not None
        batch = self._open.get(task.name)
        if batch is None:
            batch = self._open[task.name] = _Batch(task)
            batch.timer = asyncio.get_running_loop().call_later(task.batching.within, self._due, batch)
        batch.members[run] = None
        batch.unfreed += 1
        self.extra += batch.unfreed > 1
        self._of[run] = batch
        if len(batch.members) >= task.batching.size or self._closing:
            self._due(batch)
        self._room()

    def forget(self, run: Run) -> bool:
        """Whether ``run`` was waiting for its batch; it does no longer."""
        batch = self._of.get(run)
        if batch is None or batch.running:
            return False
        del batch.members[run]
        self._leave(run)
        if not batch.members:
            self._close(batch)
        return True

    def freed(self, run: Run) -> None:
        """``run`` takes part in its batch no more, or nothing has become of it."""
        self._leave(run)

    def look(self) -> None:
        """A slot may have become free: run what waits for one."""
        while self._waiting and self._slots() >= 0:
            self._begin(next(iter(self._waiting)))

    def flush(self) -> None:
        """The worker stops: run what is gathered, and whatever comes yet, at once."""
        self._closing = True
        for batch in [*self._waiting, *self._open.values()]:
            self._begin(batch)

    def _leave(self, run: Run) -> None:
        batch = self._of.pop(run, None)
        if batch is not None:
            batch.unfreed -= 1
            self.extra -= batch.unfreed > 0

    def _due(self, batch: _Batch) -> None:
        # A receive that was under way when a batch ran may bring the first of the next one, and no slot is free.
        if self._slots() >= 0 or self._closing:
            self._begin(batch)
            return
        self._waiting[batch] = None
        if len(batch.members) >= _size(batch.task):
            self._open.pop(batch.task.name, None)

    def _begin(self, batch: _Batch) -> None:
        if not batch.running:
            self._close(batch)
            batch.running = True
            self.run(batch.task, list(batch.members))

    def _close(self, batch: _Batch) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        self._waiting.pop(batch, None)
        if self._open.get(batch.task.name) is batch:
            del self._open[batch.task.name]


class GatheringHandlers(Handlers):
    """The handlers of a worker some of whose tasks take many calls at once.

    Args:
        io: the I/O loop.
        batches: where the calls are gathered.
        calls: calls the handlers of batches.
        go_on: called with a run that is to stop, and was waiting for its batch.
        freed: as for all handlers; :class:`Batches` hears of it first.
        **others: what all handlers take.
    """

    def __init__(
        self,
        io: IOLoop,
        *,
        batches: Batches,
        calls: Calls,
        go_on: Callable[[Run], None],
        freed: Callable[[Run], None],
        **others: Any,
    ) -> None:
        def left(run: Run) -> None:
            batches.freed(run)
            freed(run)
            batches.look()

        super().__init__(io, freed=left, **others)
        self._batches = batches
        self._calls = calls
        self._go_on = go_on
        self._clean = contextvars.copy_context()
        batches.run = self._run_batch

    def start(self, run: Run) -> None:
        """Have the handler of ``run`` run; or gather it first."""
        if run.outcome is None and isinstance(run.task, BatchTask):
            self._batches.add(run, run.task)
        else:
            super().start(run)

    def stop(self, run: Run, why: Stop) -> None:
        """Tell ``run`` to stop, also while it is gathered."""
        super().stop(run, why)
        if self._batches.forget(run):
            self._go_on(run)

    def _run_batch(self, task: BatchTask[..., Any], members: Sequence[Run]) -> None:
        batch = BatchRun(task, members, self._calls, context=self._clean)
        for run in members:
            run.task = batch.part(run)
            super().start(run)
        # After each of them has its job there.
        self._io.to_handlers(batch.watch)


def _size(task: Task[..., Any]) -> int:
    return 1 if task.batching is None else task.batching.size
