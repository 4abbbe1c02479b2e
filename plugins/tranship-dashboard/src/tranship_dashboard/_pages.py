"""The overview, one queue, and the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from tranship.errors import TaskNotFound, TranshipError, UnsupportedError
from tranship.operations import Sample
from tranship.ports import Heartbeat, RunningTask
from tranship_dashboard._format import count, per_second, seconds
from tranship_dashboard._plots import plot, sparkline
from tranship_dashboard._web import Web

__all__ = ["LEAST", "SPANS", "overview", "queue", "running_tasks", "span_of", "workers"]

SPANS: Final = (("15m", 900.0, "15 min"), ("1h", 3600.0, "1 h"), ("6h", 21_600.0, "6 h"), ("12h", 43_200.0, "12 h"))
LEAST: Final = 60.0
"""Seconds across a plot."""
WAITING: Final = 50
"""Tasks of a queue that are shown."""


async def overview(web: Web, request: Request) -> Response:
    """Show everything at a glance."""
    source, span = web.source, span_of(request)
    samples = source.sampler.series(seconds=span[1])
    rows = [
        (one, source.sampler.latest(one.name), _spark(source.sampler.series(one.name, seconds=span[1])))
        for one in source.queues
    ]
    return web.page(
        request,
        "overview.html",
        latest=source.sampler.latest(),
        plots=_plots(samples, span[1]),
        rows=rows,
        busy=sum(one.busy for one in source.workers),
        limit=sum(one.limit for one in source.workers),
        running=running_tasks(source.workers)[:10],
        spans=SPANS,
        span=span[0],
        failures=[one for one in source.history.latest()[:500] if one.outcome in ("failed", "dead")][:5],
    )


async def queue(web: Web, request: Request) -> Response:
    """Show one queue."""
    name, span = request.query_params.get("name", ""), span_of(request)
    report = web.source.queue(name)
    samples = web.source.sampler.series(name, seconds=span[1])
    if report is None and not samples:
        raise TaskNotFound(f"there is no queue {name!r}: nothing is in it, and no worker consumes it")
    waiting, cannot = await _waiting(web, name)
    return web.page(
        request,
        "queue.html",
        name=name,
        report=report,
        latest=web.source.sampler.latest(name),
        plots=_plots(samples, span[1]),
        spans=SPANS,
        span=span[0],
        waiting=waiting,
        more=len(waiting) == WAITING,
        cannot=cannot,
        consumers=[one for one in web.source.workers if name in one.queues],
    )


async def workers(web: Web, request: Request) -> Response:
    """Show the workers."""
    return web.page(request, "workers.html", workers=web.source.workers, sees=web.source.sees_workers)


def running_tasks(beats: Sequence[Heartbeat]) -> list[tuple[RunningTask, Heartbeat]]:
    """Return what runs, the longest running first."""
    found = [(task, worker) for worker in beats for task in worker.running]
    return sorted(found, key=lambda row: row[0].since or time.time())


async def _waiting(web: Web, name: str) -> tuple[list[Any], str]:
    try:
        return await web.source.operator.waiting(name, limit=WAITING), ""
    except UnsupportedError as error:
        return [], str(error)
    except TranshipError as error:
        return [], f"what waits cannot be shown now: {error}"


def span_of(request: Request) -> tuple[str, float, str]:
    """Return which of the spans a page is to show."""
    chosen = request.query_params.get("span", "1h")
    return next((one for one in SPANS if one[0] == chosen), SPANS[1])


def _spark(samples: Sequence[Sample]) -> Markup:
    return sparkline("tasks that waited", samples, lambda one: one.ready)


def _plots(samples: Sequence[Sample], span: float) -> list[tuple[str, str, Markup]]:
    """Return title, legend and drawing of each."""
    until = samples[-1].at if samples else time.time()
    # What has just begun fills the width, too.
    since = max(until - span, samples[0].at if samples else 0.0, 0.0)
    since = min(since, until - LEAST)

    def of(*values: Callable[[Sample], float | None]) -> list[tuple[str, list[tuple[float, float | None]]]]:
        kinds = ("a", "b", "c")
        return [(kinds[at], [(one.at, value(one)) for one in samples]) for at, value in enumerate(values)]

    def drawn(title: str, curves: Any, shown: Callable[[float | None], str]) -> Markup:
        return plot(title, curves, shown, since=since, until=until)

    depth = of(lambda one: one.ready, lambda one: one.in_flight)
    rate = of(lambda one: one.rate, lambda one: one.failing + one.retrying)
    return [
        ("Depth", "waiting|in the hands of workers", drawn("Depth", depth, count)),
        ("Rate", "ended|failed attempts", drawn("Rate", rate, per_second)),
        ("Longest wait", "oldest task that waits", drawn("Longest wait", of(lambda one: one.oldest_age), seconds)),
        ("Run time", "mean of an attempt", drawn("Run time", of(lambda one: one.run_time), seconds)),
    ]
