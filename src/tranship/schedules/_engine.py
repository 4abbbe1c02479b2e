"""One scheduler at work: it has itself known, leads or waits to lead, and sends what is due while it leads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tranship.clocks import TOLERATED
from tranship.errors import SubmitUnknown, TranshipError
from tranship.ports import NameHolder, Records
from tranship.schedules._book import Book, Entry, Origin
from tranship.schedules._schedule import Schedule
from tranship.task import TaskCall
from tranship.timetable import Plan, plan, stamp

__all__ = ["LEADER", "Engine", "Pace"]

log = logging.getLogger("tranship.schedules")

LEADER: Final = "scheduler"
"""The name of the lock."""
LEAVING: Final = 2.0
"""Seconds that giving up the lead may take."""

Submit = Callable[[Sequence[TaskCall[object]]], Awaitable[Mapping[int, TranshipError]]]
"""Submits calls and returns the errors of those that were not, by their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a scheduler looks, in seconds."""

    lease: float = 6.0
    """How long nobody leads after the leader was killed, at most; it says three times as often that it leads."""
    look: float = 1.0
    """Between two looks at the schedules, and of those that do not lead at the lead."""
    known: float = 30.0
    """How long it is known, and what it declares is valid, after it was heard of last."""


class Engine:
    """Runs on one loop until it is told to stop. Cancelled, it may leave ticks that were sent and not written down.

    Args:
        records: where the lock is.
        book: where schedules are.
        submit: hands tasks over.
        declared: the schedules that this scheduler knows by itself, with their origin.
        holder: this scheduler.
        now: the time at the broker.
        pace: how often it looks.
    """

    def __init__(
        self,
        records: Records,
        book: Book,
        submit: Submit,
        declared: Sequence[tuple[Schedule, Origin]],
        *,
        holder: NameHolder,
        now: Callable[[], float],
        pace: Pace,
    ) -> None:
        self._records, self._book, self._submit = records, book, submit
        self._declared = declared
        self._holder, self._now, self._pace = holder, now, pace
        self._loop = asyncio.get_running_loop()
        self._time, self._stop = self._loop.time, asyncio.Event()
        self._has_declared = False
        self._attended = self._said = float("-inf")
        self.leads: bool = False
        self._wakes: dict[tuple[str, int], float] = {}
        """When each version of an entry has something to do."""
        self._trouble = ""
        self._ahead: set[str] = set()
        self._ended: set[str] = set()

    async def run(self) -> None:
        """Declare, lead, send, until :meth:`stop`.

        Raises:
            TranshipError: one that does not pass.
        """
        try:
            while not self._stop.is_set():
                pause = await self._round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop.wait()
        finally:
            await self._leave()

    def stop(self) -> None:
        """Finish what is being sent, and give up the lead; any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _round(self) -> float:
        """Do what is to be done; return the seconds until the next round."""
        try:
            await self._be_known()
            if not await self._lead():
                return self._pace.look
            pause = await self._turn()
        except TranshipError as error:
            if not error.retryable:
                raise
            self._note(error)
            return self._pace.look
        self._note(None)
        return pause

    async def _be_known(self) -> None:
        """First what it declares, then itself: others take what nobody declares for gone.

        What is there by then is left as it is: schedulers of two versions would change it again and again.
        """
        if self._time() - self._attended < self._pace.known / 3:
            return
        names = [schedule.name for schedule, _ in self._declared]
        wanted = await self._book.absent(names) if self._has_declared else names
        for schedule, origin in self._declared:
            if schedule.name in wanted:
                await self._book.declare(schedule, origin, self._now())
        self._has_declared = True
        await self._book.attend(self._holder, names, self._pace.known)
        self._attended = self._time()

    async def _lead(self) -> bool:
        """Take or keep the lead; False: somebody else has it."""
        asked = self._time()
        if self.leads and asked - self._said < self._pace.lease / 3:
            return True
        other = await self._records.take_lock(replace(self._holder, at=self._now()), self._pace.lease)
        if (other is None) != self.leads:
            log.info("this scheduler %s", "leads" if other is None else f"does not lead any more: {other.host} does")
            self._wakes.clear()
        self.leads = other is None
        # From when it was asked: it may have been granted then.
        self._said = asked
        return self.leads

    @property
    def _sure(self) -> bool:
        """Whether the lead is still this scheduler's, whatever has held it up."""
        return self.leads and self._time() - self._said < self._pace.lease

    async def _turn(self) -> float:
        """Send what is due; return the seconds until there is more to do."""
        declared, entries = await self._book.declared(), await self._book.entries()
        now = self._now()
        live = [one for one in entries if not one.paused and (one.origin == "added" or one.name in declared)]
        due: list[tuple[Entry, Plan]] = []
        wakes = [now + self._pace.look]
        for entry in live:
            wake = self._wakes.get((entry.name, entry.version), now)
            if wake <= now:
                found = self._plan(entry, now)
                if found is None:
                    continue
                wake = found.wake
                if found.last > entry.last:
                    # What is due stays so until it is written down.
                    due.append((entry, found))
                else:
                    self._wakes[entry.name, entry.version] = wake
            wakes.append(wake)
        if due and not self._sure:
            return 0.0
        await self._send(due)
        if len(self._wakes) > 2 * len(entries) + 100:
            self._wakes.clear()
        return max(0.0, min(wakes) - self._now())

    def _plan(self, entry: Entry, now: float) -> Plan | None:
        """Return what is to be done about one schedule; None: its ticks cannot be computed any more."""
        table = entry.schedule.timetable
        if entry.last > now + TOLERATED and entry.name not in self._ahead:
            self._ahead.add(entry.name)
            log.warning(
                "schedule %s was dealt with up to %s, which is %.0f s ahead of the time now: nothing is sent until "
                "then. Synchronise the clocks (NTP) of hosts that run schedulers",
                entry.name,
                stamp(entry.last),
                entry.last - now,
            )
        try:
            return plan(entry.name, table, entry.last, now)
        except (ArithmeticError, ValueError) as error:
            if entry.name not in self._ended:
                self._ended.add(entry.name)
                log.error("schedule %s has no more ticks: %s", entry.name, error)  # noqa: TRY400 - no bug of ours
            return None

    async def _send(self, due: Sequence[tuple[Entry, Plan]]) -> None:
        """Hand over the ticks of all schedules together, then note what was sent. Whoever dies in between leaves ticks
        that are sent again, under the same ids.
        """
        if not due:
            return
        calls = [entry.schedule.call(tick) for entry, found in due for tick in found.send]
        errors = await self._submit(calls) if calls else {}
        place = 0
        for entry, found in due:
            own = {at - place: error for at, error in errors.items() if place <= at < place + len(found.send)}
            place += len(found.send)
            await self._sent(entry, found, own)

    async def _sent(self, entry: Entry, found: Plan, errors: Mapping[int, TranshipError]) -> None:
        """Note what was sent: up to the first that has to be sent again, without those that never can be."""
        again = min((at for at, error in errors.items() if _passes(error)), default=len(found.send))
        last = found.last
        if again < len(found.send):
            self._note(errors[again])
            last = found.send[again - 1] if again else entry.last
        done = [tick for at, tick in enumerate(found.send[:again]) if at not in errors]
        refused = [error for at, error in errors.items() if at < again]
        self._tell(entry, found, done, refused)
        if last > entry.last:
            sent = done[-1] if done else entry.sent
            error = str(refused[-1]) if refused else "" if done else entry.error
            # Where somebody else has written it meanwhile, it is read again in the next round.
            await self._book.write(replace(entry, last=last, sent=sent, error=error))

    def _tell(self, entry: Entry, found: Plan, done: Sequence[float], refused: Sequence[TranshipError]) -> None:
        for error in refused:
            log.error("schedule %s: a tick could not be sent, and is left out: %s", entry.name, error)
        if not found.send:
            log.warning(
                "schedule %s: its ticks between %s and %s were missed, and are skipped",
                entry.name,
                stamp(entry.last),
                stamp(found.last),
            )
        for tick in done:
            late = self._now() - entry.schedule.timetable.due(entry.name, tick)
            log.info("schedule %s: %s is sent, %.1f s after it was due", entry.name, stamp(tick), late)

    def _note(self, error: TranshipError | None) -> None:
        """Say once that the broker cannot be reached, and once that it can."""
        trouble = "" if error is None else type(error).__name__
        if trouble == self._trouble:
            return
        if error is not None:
            log.warning("the scheduler cannot go on at the moment, and tries again: %s", error)
        else:
            log.info("the scheduler goes on")
        self._trouble = trouble

    async def _leave(self) -> None:
        """Give up the lead, so that the next one need not wait."""
        try:
            async with asyncio.timeout(LEAVING):
                await self._book.leave(self._holder)
                if self.leads:
                    await self._records.free_lock(self._holder)
        except (TranshipError, TimeoutError) as error:
            log.debug("the lead is free in %g s only: %r", self._pace.lease, error)


def _passes(error: TranshipError) -> bool:
    return error.retryable or isinstance(error, SubmitUnknown)
