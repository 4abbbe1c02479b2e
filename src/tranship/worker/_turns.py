"""The turns of tasks with limits: each has its place in the line of its key, and runs when it has a slot there.

A slot is the worker's for as long as it renews it. It is freed once the task is settled, and nothing of it runs any
more; a task that goes on elsewhere, or later in the order of its key, keeps it. On the I/O loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from tranship.envelope import Ending, Receipt
from tranship.errors import TranshipError
from tranship.limits import LEASE, NEAR, Lines, Standing
from tranship.pauses import Pauses
from tranship.ports import NameHolder, Records
from tranship.protocol import Encoder, Place, place_of
from tranship.task import Limits, held_back, without_place
from tranship.worker._answered import Answered
from tranship.worker._describe import describe_final
from tranship.worker._record import Run, Stop

__all__ = ["Turns"]

log = logging.getLogger("tranship.worker")

RENEWED: Final = 5.0
"""Seconds between two renewals of the slots of what runs."""
LOOK: Final = 5.0
"""Seconds between two looks for slots of which nobody makes use."""
FIRST_LOOK: Final = 0.05
LAST_LOOK: Final = 2.0
"""Seconds until it is looked again whether a task still runs elsewhere, at least and at most."""
LOCKED: Final = 15.0
"""Seconds for which one worker looks for all."""
LAST_CALL: Final = 30.0
"""Seconds that giving slots back may take when the worker ends."""


@dataclass(slots=True)
class _Turn:
    """The place of one run."""

    task: str
    limits: Limits
    place: Place
    owner: str
    renewed: float
    """When its slot was last known to be ours, by the monotonic clock."""
    claimed: bool = False
    settled: bool = False
    """Whether its end is written where it belongs."""
    dropped: bool = False
    """Whether its delivery is not held any more."""
    freed: bool = False
    """Whether nothing of it runs any more."""


class Turns:
    """Those of one worker.

    Args:
        lines: the lines of the fleet.
        records: where they are kept.
        limits: of the worker's tasks, by name.
        answered: says whether a task has its result already.
        delays: whether the broker has a schedule to put something back on.
        stop: tells a run to stop.
    """

    def __init__(
        self,
        lines: Lines,
        records: Records,
        limits: dict[str, Limits],
        *,
        answered: Answered,
        delays: bool,
        stop: Callable[[Run, Stop], None],
    ) -> None:
        self._lines, self._records, self._limits = lines, records, limits
        self._answered, self._delays, self._stop = answered, delays, stop
        self._encoder = Encoder()
        self._turns: dict[Run, _Turn] = {}
        self._waiting: dict[Run, asyncio.Event] = {}
        """What waits here for its turn, and what wakes it when it is told to stop."""
        self._jobs: set[asyncio.Task[None]] = set()
        self._holder = NameHolder(name="limits", instance=secrets.token_hex(8))

    def concerns(self, run: Run) -> bool:
        """Whether a delivery is of a task with limits."""
        return run.task is not None and run.task.limits is not None

    @property
    def busy(self) -> bool:
        """Whether a slot is about to be given back."""
        return bool(self._jobs)

    # Before it runs.

    async def take(self, run: Run) -> None:
        """Return when ``run``, which was admitted, may start, or has an outcome.

        Raises:
            TranshipError: the lines cannot be reached.
        """
        envelope, task = run.envelope, run.task
        assert envelope is not None
        assert task is not None
        assert task.limits is not None
        place = place_of(envelope)
        if place is not None and place.taken:
            turn = self._turns[run] = _Turn(task.name, task.limits, place, secrets.token_hex(6), time.monotonic())
            if run.outcome is None:
                await self._claim(run, turn)
        elif run.outcome is None:
            await self._enter(run, place, task.limits)

    async def _enter(self, run: Run, place: Place | None, limits: Limits) -> None:
        """Have it wait in its line: it comes again when its turn has come."""
        envelope = run.envelope
        assert envelope is not None
        try:
            place = place or limits.place(envelope.task, envelope.args, envelope.kwargs)
        except TranshipError as error:
            run.end(Ending.FAILED, describe_final(error))
            return
        message = self._encoder.encode(held_back(without_place(envelope)))
        (answer,) = await self._lines.enter(Place(place.key, place.share), [message], limits)
        if isinstance(answer, Receipt):
            run.detail = "it waits for its turn"
            run.end(Ending.HELD)
        else:
            run.end(Ending.FAILED, describe_final(answer))

    async def _claim(self, run: Run, turn: _Turn) -> None:
        pauses = Pauses(FIRST_LOOK, LAST_LOOK)
        while run.outcome is None and run.stopped is None:
            asked = time.monotonic()
            claim = await self._lines.claim(turn.task, turn.place, turn.owner, turn.limits)
            wait = claim.at - self._lines.now()
            match claim.standing:
                case Standing.ITS_TURN | Standing.RESUMED:
                    turn.claimed, turn.renewed = True, asked
                    if claim.standing == Standing.RESUMED:
                        await self._recall(run)
                    await self._wait(run, wait)
                    self._begin(run, turn)
                    return
                case Standing.OVER:
                    run.detail = "it has ended, or its turn has not come: this is a copy"
                    run.end(Ending.HELD)
                case Standing.UNKNOWN:
                    await self._come_anew(run, turn)
                case Standing.EARLY:
                    await self._put_back(run, wait, "its rate does not let it start yet")
                case _:
                    # Its worker has died, or is about to say that it goes on here.
                    await self._put_back(run, min(wait, pauses.next()), "it runs elsewhere")

    def _begin(self, run: Run, turn: _Turn) -> None:
        assert run.envelope is not None
        if not turn.limits.ordered:
            # Its next attempt takes a place of its own: nobody waits for it meanwhile.
            run.envelope = without_place(run.envelope)

    async def _come_anew(self, run: Run, turn: _Turn) -> None:
        """Nothing is known of its line any more."""
        del self._turns[run]
        await self._recall(run)
        if run.outcome is None:
            await self._enter(run, turn.place, turn.limits)

    async def _recall(self, run: Run) -> None:
        """Whoever had begun it may have ended it."""
        assert run.envelope is not None
        run.answered = await self._answered.find(run.envelope)
        if run.answered is not None:
            run.end(Ending.ANSWERED)

    async def _put_back(self, run: Run, wait: float, why: str) -> None:
        """Have it come again when its turn may have come, or wait here if that is soon."""
        if wait > NEAR and self._delays and run.delivery.delivery_count <= 1:
            run.delay = wait
            run.detail = why
            run.end(Ending.RETRY)
        else:
            # Back on the schedule its deliveries would be counted from the beginning.
            await self._wait(run, max(wait, 0.01))

    async def _wait(self, run: Run, seconds: float) -> None:
        if seconds <= 0 or run.stopped is not None or run.outcome is not None:
            return
        woken = self._waiting[run] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await woken.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiting[run]

    @property
    def waiting(self) -> list[Run]:
        """What waits here for its turn."""
        return list(self._waiting)

    def wake(self, run: Run) -> None:
        """``run`` was told to stop: it waits no longer."""
        if (woken := self._waiting.get(run)) is not None:
            woken.set()

    # When it has ended.

    def settled(self, run: Run) -> None:
        """The end of ``run`` is written."""
        if (turn := self._turns.get(run)) is not None:
            turn.settled = True

    def dropped(self, run: Run) -> None:
        """The delivery of ``run`` is not held any more."""
        if (turn := self._turns.get(run)) is not None:
            turn.dropped = True
            self._look_whether_over(run, turn)

    def freed(self, run: Run) -> None:
        """Nothing of ``run`` runs any more."""
        if (turn := self._turns.get(run)) is not None:
            turn.freed = True
            self._look_whether_over(run, turn)

    def _look_whether_over(self, run: Run, turn: _Turn) -> None:
        if not turn.dropped or not turn.freed:
            return
        del self._turns[run]
        goes_on = run.outcome is Ending.RETRY and turn.limits.ordered
        if run.outcome is Ending.HELD or (run.outcome is Ending.RETRY and not turn.claimed):
            return
        if turn.settled and not goes_on:
            self._start(self._lines.leave(turn.task, turn.place, turn.owner, turn.limits))
        elif turn.claimed:
            delay = run.delay if goes_on else 0.0
            self._start(self._lines.give_back(turn.task, turn.place, turn.owner, turn.limits, delay))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(self._finish(work))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TranshipError as error:
            log.warning("the slot of a task could not be given back, and is free in a while: %s", error)

    async def aclose(self) -> None:
        """Wait until slots are given back, and those who get them are sent, within bounds."""
        if self._jobs:
            await asyncio.wait(set(self._jobs), timeout=LAST_CALL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lines.aclose(), LAST_CALL)

    # Meanwhile.

    async def keep(self) -> None:
        """Renew the slots of what runs; runs until cancelled."""
        while True:
            await asyncio.sleep(RENEWED)
            by_line: defaultdict[tuple[str, str], dict[str, tuple[Run, _Turn]]] = defaultdict(dict)
            for run, turn in self._turns.items():
                if turn.claimed and time.monotonic() > turn.renewed + RENEWED / 2:
                    by_line[turn.task, turn.place.key][turn.owner] = run, turn
            await asyncio.gather(*map(self._renew, by_line.values()))

    async def _renew(self, turns: dict[str, tuple[Run, _Turn]]) -> None:
        _, first = next(iter(turns.values()))
        places = {owner: turn.place for owner, (_, turn) in turns.items()}
        asked = time.monotonic()
        lost: list[str] = []
        try:
            async with asyncio.timeout(RENEWED):
                lost = await self._lines.renew(first.task, places, first.limits)
        except (TranshipError, TimeoutError) as error:
            log.warning("renewing %d slots failed, trying again: %s", len(turns), error or "no answer in time")
        else:
            for owner, (_, turn) in turns.items():
                turn.renewed = turn.renewed if owner in lost else asked
        for owner, (run, turn) in turns.items():
            if owner in lost or time.monotonic() > turn.renewed + 0.9 * LEASE:
                self._lost(run, turn)

    def _lost(self, run: Run, turn: _Turn) -> None:
        if self._turns.get(run) is turn and run.outcome is None and run.stopped is None:
            log.warning("task %s has lost its slot: it was not renewed in time, and somebody else may have it", run.id)
            self._stop(run, Stop.LOST)

    async def look(self) -> None:
        """See, for the whole fleet, to slots of which nobody makes use; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                if await self._records.take_lock(self._holder, LOCKED) is None:
                    for task, limits in self._limits.items():
                        await self._lines.look(task, limits)
            except TranshipError as error:
                log.warning("the lines of tasks with limits could not be looked at: %s", error)

    async def free(self) -> None:
        """Let another worker look from now on."""
        try:
            await self._records.free_lock(self._holder)
        except TranshipError as error:
            log.debug("the lock of limits could not be given up: %s", error)
