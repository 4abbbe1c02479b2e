"""What a worker tells programs that look on, as Celery's workers do: that it is there, and of its tasks."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tranship import __version__
from tranship.announcing import Announcer, about
from tranship.envelope import Ending, Envelope
from tranship.ports import PeerControl
from tranship.worker._record import Run
from tranship.worker._shown import argument_texts, error_text, value_text

__all__ = ["TaskEvents"]

EVERY: Final = 2.0
"""Seconds between two heartbeats, as Celery's workers have them."""
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
        self._announcer = Announcer(control, node)
        self._runs = runs
        self._done = done
        self.tells_of_tasks = True

    # What happens.

    def received(self, run: Run) -> None:
        """A delivery was taken, and read."""
        envelope = run.envelope
        if not self.tells_of_tasks or envelope is None or run.task is None:
            return
        args, kwargs = argument_texts(run)
        self._announcer.tell("task-received", about(envelope, args, kwargs))

    def started(self, run: Run) -> None:
        """Its handler is called."""
        if self.tells_of_tasks:
            self._announcer.tell("task-started", {"uuid": run.id})

    def ended(self, run: Run) -> None:
        """How it has ended is written."""
        if not self.tells_of_tasks or run.envelope is None or run.outcome is None:
            return
        told = _ENDINGS.get(run.outcome)
        if told is not None and (said := told(run, run.envelope)) is not None:
            kind, fields = said
            self._announcer.tell(kind, {"uuid": run.id, **fields})

    def beat(self) -> None:
        """Say that the worker is there."""
        self._announcer.tell("worker-heartbeat", self._about())

    def _about(self) -> dict[str, Any]:
        load = [round(one, 2) for one in os.getloadavg()] if hasattr(os, "getloadavg") else [0.0, 0.0, 0.0]
        return {"freq": EVERY, "active": len(self._runs()), "processed": self._done(), "loadavg": load, **_ABOUT}

    # Telling.

    async def keep(self) -> None:
        """Say that the worker is there, until cancelled."""
        self._announcer.tell("worker-online", self._about())
        while True:
            await asyncio.sleep(EVERY)
            self.beat()

    async def end(self) -> None:
        """Tell what is left, and that the worker goes."""
        self._announcer.tell("worker-offline", self._about())
        await self._announcer.aclose()


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
