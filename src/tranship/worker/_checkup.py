"""What a worker answers when it is asked how it is."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from tranship import __version__
from tranship.worker._health import Answer, Door, HealthServer
from tranship.worker._metrics import CONTENT_TYPE, Metrics
from tranship.worker._record import Run

__all__ = ["PORT", "Checkup", "WorkerStatus"]

PORT: Final = 8080
"""Where nobody has chosen one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What a health check wants to know."""

    ready: bool
    """Consuming, or able to: not merely alive. False while it is cut off from the broker, and when it stops."""
    connected: bool
    """Whether the broker could be reached, last time."""
    running: Sequence[str]
    """Ids of the tasks that run."""
    done: int
    """Deliveries settled so far."""
    problem: str | None
    """Why it is not ready."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """How many more tasks it would run of each type that has a limit of its own."""


class Checkup:
    """Health checks and metrics of one worker.

    Args:
        name: the worker's.
        tasks: names of the tasks it can run.
        queues: what it consumes.
        limit: how many tasks run at once.
        status: says how it is.
        runs: returns what runs.
        doors: by path, what answers by itself beside them.

    Attributes:
        metrics: what it has done.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: Collection[str],
        queues: Sequence[str],
        limit: int,
        status: Callable[[], WorkerStatus],
        runs: Callable[[], Sequence[Run]],
        doors: Mapping[str, Door],
    ) -> None:
        self._name = name
        self._queues = queues
        self._limit = limit
        self._status = status
        self._runs = runs
        self._doors = doors
        self.metrics = Metrics(tasks)

    def server(self, host: str, port: int) -> HealthServer:
        """Return what answers at ``host`` and ``port``, once it is entered."""
        pages = {"/live": self._live, "/ready": self._ready, "/metrics": self._numbers, "/health": self._live}
        return HealthServer(host, port, pages, self._doors)

    def _live(self) -> Answer:
        # Whoever gets the answer knows: it comes from the loop that receives, renews and settles.
        return _json(HTTPStatus.OK, {"live": True, "worker": self._name})

    def _ready(self) -> Answer:
        status = self._status()
        facts = {"ready": status.ready, "problem": status.problem, "running": len(status.running), "done": status.done}
        return _json(HTTPStatus.OK if status.ready else HTTPStatus.SERVICE_UNAVAILABLE, facts)

    def _numbers(self) -> Answer:
        status = self._status()
        labels = {"worker": self._name, "host": socket.gethostname(), "version": __version__}
        gauges = {
            "tranship_worker_ready": ("Whether it consumes, or could.", float(status.ready)),
            "tranship_worker_connected": ("Whether the broker could be reached, last time.", float(status.connected)),
            "tranship_worker_slots": ("How many tasks it runs at once.", float(self._limit)),
        }
        text = self.metrics.text(
            labels={**labels, "queues": ",".join(self._queues)}, gauges=gauges, running=self._runs()
        )
        return Answer(HTTPStatus.OK, text, CONTENT_TYPE)


def _json(status: HTTPStatus, facts: object) -> Answer:
    return Answer(status, json.dumps(facts) + "\n")
