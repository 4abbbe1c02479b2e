"""What a worker tells programs that look on, as Celery's workers do: that it is there, and what happens to its tasks.

Nobody waits for it, and no task depends on it. What happens within a moment is told together.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tranship import __version__
from tranship.envelope import Ending, Envelope
from tranship.errors import BrokerUnreachable, TranshipError
from tranship.ports import PeerControl, PeerEvent
from tranship.worker._record import Run
from tranship.worker._shown import argument_texts, error_text, value_text

__all__ = ["TaskEvents"]

log = logging.getLogger("tranship.worker")

EVERY: Final = 2.0
"""Seconds between two heartbeats, as Celery's workers have them."""
TOGETHER: Final = 0.05
"""Seconds for which what happens is gathered."""
AGAIN: Final = 1.0
"""Seconds before a broker that could not be reached is told again."""
TIMEOUT: Final = 5.0
"""Seconds that telling may take."""
MOST: Final = 10_000
"""Events that wait for a broker; the oldest are dropped."""
AT_ONCE: Final = 1_000
"""Events that are told in one go."""
_ABOUT: Final = {"sw_ident": "tranship", "sw_ver": __version__, "sw_sys": platform.system()}
_SIGTERM: Final = 15
"""What Celery says of a task that was stopped while it ran."""


class TaskEvents:
    """Those of one worker at work; on its I/O loop.

    Args:
        control: where they go.
        node: what Celery's tools call the worker.
        runs: returns what runs.
        done: returns how many deliveries have ended.

    Attributes:
        tells_of_tasks: whether it tells of tasks, or only that it is there.
    """

    def __init__(
        self, control: PeerControl, node: str, *, runs: Callable[[], Sequence[Run]], done: Callable[[], int]
    ) -> None:
        self._control = control
        self._node = node
        self._runs = runs
        self._done = done
        self.tells_of_tasks = True
        self._waiting: collections.deque[PeerEvent] = collections.deque(maxlen=MOST)
        self._news = asyncio.Event()

    # What happens.

    def received(self, run: Run) -> None:
        """A delivery was taken, and read."""
        envelope = run.envelope
        if not self.tells_of_tasks or envelope is None or run.task is None:
            return
        args, kwargs = argument_texts(run)
        self._tell(
            "task-received",
            {
                "uuid": envelope.id,
                "name": envelope.task,
                "args": args,
                "kwargs": kwargs,
                "root_id": envelope.root_id or envelope.id,
                "parent_id": envelope.parent_id,
                "retries": envelope.attempt,
                "eta": _date(envelope.not_before),
                "expires": _date(envelope.deadline),
            },
        )

    def started(self, run: Run) -> None:
        """Its handler is called."""
        if self.tells_of_tasks:
            self._tell("task-started", {"uuid": run.id})

    def ended(self, run: Run) -> None:
        """How it has ended is written."""
        if not self.tells_of_tasks or run.envelope is None or run.outcome is None:
            return
        told = _ENDINGS.get(run.outcome)
        if told is not None and (said := told(run, run.envelope)) is not None:
            kind, fields = said
            self._tell(kind, {"uuid": run.id, **fields})

    def beat(self) -> None:
        """Say that the worker is there."""
        self._tell("worker-heartbeat", self._about())

    def _tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._waiting.append(PeerEvent(kind, fields, time.time()))
        self._news.set()

    def _about(self) -> dict[str, Any]:
        load = [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else [0.0, 0.0, 0.0]
        return {"freq": EVERY, "active": len(self._runs()), "processed": self._done(), "loadavg": load, **_ABOUT}

    # Telling.

    async def keep(self) -> None:
        """Tell, until cancelled."""
        loop = asyncio.get_running_loop()
        self._tell("worker-online", self._about())
        beat_at = loop.time() + EVERY
        while True:
            try:
                async with asyncio.timeout_at(beat_at):
                    await self._news.wait()
            except TimeoutError:
                self.beat()
                beat_at = loop.time() + EVERY
            # What happens meanwhile is told with it.
            await asyncio.sleep(TOGETHER)
            self._news.clear()
            while self._waiting:
                if not await self._say():
                    await asyncio.sleep(AGAIN)

    async def end(self) -> None:
        """Tell what is left, and that the worker goes."""
        self._tell("worker-offline", self._about())
        while self._waiting and await self._say():
            pass

    async def _say(self) -> bool:
        """Tell a part of what waits; whether it makes sense to go on."""
        events = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._control.announce(self._node, events)
        except (BrokerUnreachable, TimeoutError) as error:
            log.debug("%d events were not told: %r", len(events), error)
            # The newest count: what does not fit any more is dropped at this end.
            room = MOST - len(self._waiting)
            self._waiting.extendleft(reversed(events[len(events) - min(room, len(events)) :]))
            return False
        except TranshipError as error:
            log.warning("%d events for programs that look on cannot be told: %s", len(events), error)
        return True


def _succeeded(run: Run, _envelope: Envelope) -> tuple[str, dict[str, Any]]:
    runtime = time.monotonic() - run.began if run.began else 0.0
    return "task-succeeded", {"result": value_text(run.value), "runtime": runtime}


def _failed(run: Run, envelope: Envelope) -> tuple[str, dict[str, Any]]:
    if run.task is None:
        return "task-failed", {"exception": f"NotRegistered({envelope.task!r})"}
    said = error_text(run.error) or run.detail
    return "task-failed", {"exception": said, "traceback": (run.error and run.error.traceback) or ""}


def _retried(run: Run, _envelope: Envelope) -> tuple[str, dict[str, Any]] | None:
    if not run.started:
        # It came before its time: nothing has been tried.
        return None
    said = error_text(run.error) or f"Retry({run.delay:.3g})"
    return "task-retried", {"exception": said, "traceback": (run.error and run.error.traceback) or ""}


def _revoked(run: Run, _envelope: Envelope) -> tuple[str, dict[str, Any]]:
    expired = run.outcome is Ending.EXPIRED
    terminated = run.started and not expired
    return "task-revoked", {"terminated": terminated, "signum": _SIGTERM if terminated else None, "expired": expired}


def _rejected(_run: Run, _envelope: Envelope) -> tuple[str, dict[str, Any]]:
    return "task-rejected", {"requeue": True}


_ENDINGS: Final[Mapping[Ending, Callable[[Run, Envelope], tuple[str, dict[str, Any]] | None]]] = {
    Ending.SUCCEEDED: _succeeded,
    Ending.FAILED: _failed,
    Ending.DEAD: _failed,
    Ending.RETRY: _retried,
    Ending.CANCELLED: _revoked,
    Ending.EXPIRED: _revoked,
    Ending.RELEASED: _rejected,
}


def _date(epoch: float | None) -> str | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC).isoformat()
