"""Queues, with the workers that serve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tranship.client._link import ClientLink
from tranship.envelope import Priority
from tranship.errors import UnsupportedError
from tranship.ports import Backend, Capability, Heartbeat, QueueBrowser, QueuedTask, QueueInfo
from tranship.protocol import PURGED

__all__ = ["QueueReport", "live_workers", "purge_queue", "queue_reports", "waiting_tasks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReport:
    """One queue; None where the broker cannot tell."""

    name: str
    ready: Mapping[Priority, int]
    """How many tasks wait for a worker, by level; every level is there."""
    delayed: int | None
    """How many wait for their time."""
    in_flight: int | None
    """How many are held by workers."""
    oldest_age: float | None
    """Seconds since the oldest ready task was submitted; 0.0 when none is ready."""
    dead: int | None
    workers: int | None
    """How many live workers consume it."""

    @property
    def backlog(self) -> int:
        """How many tasks wait for a worker, over all levels."""
        return sum(self.ready.values())

    @property
    def unserved(self) -> bool:
        """Whether tasks wait and nobody consumes the queue."""
        return self.workers == 0 and self.backlog > 0


async def queue_reports(backend: Backend) -> list[QueueReport]:
    """Every queue with something in it or with a worker on it, by name."""
    infos = {info.name: info for info in await backend.inspector().queues()}
    workers = await live_workers(backend)
    for name in {queue for worker in workers or () for queue in worker.queues} - infos.keys():
        infos[name] = QueueInfo(name=name, ready={}, delayed=0, in_flight=0, oldest_age=0.0, dead=0)
    return [_report(infos[name], workers) for name in sorted(infos)]


async def live_workers(backend: Backend) -> Sequence[Heartbeat] | None:
    """Workers that were heard of in the last minute, by name; None where the broker knows of no workers."""
    if not backend.capabilities.has(Capability.CONTROL):
        return None
    return await backend.inspector().workers()


async def waiting_tasks(backend: Backend, queue: str | None, limit: int) -> list[QueuedTask]:
    """What waits in one queue, or in all of them; at most ``limit`` of each.

    Raises:
        UnsupportedError: the broker cannot say.
    """
    browser = _browser(backend)
    names = [queue] if queue is not None else [info.name for info in await browser.queues()]
    return [task for name in names for task in await browser.waiting(name, limit=limit)]


async def purge_queue(link: ClientLink, queue: str, ids: Sequence[str] | None) -> list[str]:
    """Remove what waits in a queue.

    Raises:
        UnsupportedError: the broker cannot.
    """
    removed = list(await _browser(link.backend).purge(queue, ids))
    await link.answer_elsewhere(removed, PURGED)
    return removed


def _browser(backend: Backend) -> QueueBrowser:
    inspector = backend.inspector()
    if backend.capabilities.has(Capability.BROWSE) and isinstance(inspector, QueueBrowser):
        return inspector
    raise UnsupportedError(
        f"{backend.name} cannot show or remove what waits in a queue; `tranship queues` counts it, and "
        "`tranship cancel --id` keeps a task from running"
    )


def _report(info: QueueInfo, workers: Sequence[Heartbeat] | None) -> QueueReport:
    return QueueReport(
        name=info.name,
        ready={level: info.ready.get(level, 0) for level in Priority},
        delayed=info.delayed,
        in_flight=info.in_flight,
        oldest_age=info.oldest_age,
        dead=info.dead,
        workers=None if workers is None else sum(info.name in worker.queues for worker in workers),
    )
