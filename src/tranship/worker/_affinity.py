"""Tasks that are better run by a worker which holds something ready: there first, and after a while anywhere.

A worker that lacks what a task prefers, and knows of one that has it, puts the task back on the schedule for a moment,
as the same attempt, until the task has been passed on for as long as it may. Nothing is known of the task before a
worker has taken it, so it works over every broker with delays and heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from tranship.clocks import Clock
from tranship.envelope import Ending
from tranship.errors import TranshipError
from tranship.ports import Heartbeat
from tranship.protocol import mark_of, marked
from tranship.task import Prefers
from tranship.worker._profile import Profile
from tranship.worker._record import Run

__all__ = ["Affinity"]

log = logging.getLogger("tranship.worker")

LOOK: Final = 2.0
"""Seconds for which what others hold ready is known; one look serves all tasks meanwhile."""
SILENT: Final = 20.0
"""Seconds after its last heartbeat after which a worker is not waited for."""
SHORTEST: Final = 0.1
LONGEST: Final = 1.0
"""Seconds on the schedule, each time."""
PARTS: Final = 8
"""Into so many of them, at the least, the time is divided for which a task may be passed on."""
MARK: Final = "affinity"
"""What a task carries: of which attempt, and until when it is passed on, by the broker's clock."""


class Affinity:
    """That of one worker at work, on its I/O loop.

    Args:
        name: the worker's.
        profile: what it holds ready.
        workers: asks the broker for the last heartbeat of each worker.
        go_on: called with what has waited here, once it is known what others hold ready.
        clock: the broker's.
    """

    def __init__(
        self,
        name: str,
        profile: Profile,
        *,
        workers: Callable[[], Awaitable[Sequence[Heartbeat]]],
        go_on: Callable[[Run], None],
        clock: Clock,
    ) -> None:
        self._name = name
        self._profile = profile
        self._workers = workers
        self._go_on = go_on
        self._clock = clock
        self._others: Sequence[Heartbeat] = ()
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._kept: dict[Run, None] = {}

    def admit(self, run: Run) -> bool:
        """Whether ``run``, which has been decoded, may start here and now."""
        prefers = None if run.task is None else run.task.prefers
        if prefers is None or run.delivery.delivery_count > 1:
            # Back on the schedule its deliveries would be counted from the beginning.
            return True
        names = _names(run, prefers)
        if not names or self._is_hot(names, self._profile.hot_cache, self._profile.skill_dependencies):
            return True
        until = _until(run)
        if until is not None and self._clock.now() >= until:
            return True
        return self._is_known and not any(self._would_take(one, run, names) for one in self._others)

    def put_back(self, run: Run) -> bool:
        """Decide that ``run`` goes back to the broker for a while, as the same attempt; False: it is not known yet who
        would take it.
        """
        assert run.task is not None
        assert run.envelope is not None
        prefers = run.task.prefers
        if not self._is_known or prefers is None:
            return False
        now = self._clock.now()
        until = _until(run)
        if until is None:
            until = now + prefers.within
            run.envelope = marked(run.envelope, MARK, [run.envelope.attempt, until])
        run.delay = min(max(prefers.within / PARTS, SHORTEST), LONGEST, max(until - now, 0.0))
        run.detail = "another worker holds ready what it prefers"
        run.end(Ending.RETRY)
        return True

    def keep(self, run: Run) -> None:
        """Let ``run`` wait here until it is known what others hold ready."""
        self._kept[run] = None
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    @property
    def kept(self) -> list[Run]:
        """What waits here."""
        return list(self._kept)

    def forget(self, run: Run) -> bool:
        """Whether ``run`` was waiting here; it does no longer."""
        found = run in self._kept
        self._kept.pop(run, None)
        return found

    @property
    def _is_known(self) -> bool:
        return time.monotonic() - self._looked_at < LOOK

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(LOOK):
                self._others = [one for one in await self._workers() if one.worker != self._name]
        except (TranshipError, TimeoutError) as error:
            # It is a preference: what can run here does.
            log.debug("what other workers hold ready is not known: %r", error)
            self._others = ()
        self._looked_at, self._looking = time.monotonic(), None
        kept, self._kept = list(self._kept), {}
        for run in kept:
            self._go_on(run)

    def _would_take(self, beat: Heartbeat, run: Run, names: Sequence[str]) -> bool:
        assert run.envelope is not None
        # By the broker's clock, like ours.
        alive = not beat.stopping and self._clock.now() - (beat.at + beat.ahead) < SILENT
        takes = run.envelope.task in beat.tasks and run.delivery.queue in beat.queues
        return alive and takes and all(one in beat.hot_cache or one in beat.hot_skills for one in names)

    @staticmethod
    def _is_hot(names: Sequence[str], cache: Any, skills: Any) -> bool:
        hot: Collection[str] = () if all(one in cache for one in names) else cache.hot(skills)
        return all(one in cache or one in hot for one in names)


def _names(run: Run, prefers: Prefers) -> Sequence[str]:
    """Return what the task prefers to find; nothing, where its function does not say: it may run anywhere then."""
    assert run.envelope is not None
    try:
        return prefers.names(run.envelope.args, run.envelope.kwargs)
    except Exception as error:  # noqa: BLE001 - a function of the user's own may raise anything
        log.warning("what task %s (%s) prefers is not known: %r; it runs anywhere", run.id, run.envelope.task, error)
        return ()


def _until(run: Run) -> float | None:
    """Return until when this attempt is passed on; None: it has not been yet."""
    assert run.envelope is not None
    match mark_of(run.envelope, MARK):
        case [int() as attempt, int() | float() as until] if attempt == run.envelope.attempt:
            return float(until)
    return None
