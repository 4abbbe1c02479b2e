"""How long tasks wait and run: percentiles by task, and over time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from tranship.operations import Finished, Percentiles, latencies, percentiles, waited
from tranship_dashboard._format import seconds
from tranship_dashboard._pages import LEAST, SPANS, span_of
from tranship_dashboard._plots import plot
from tranship_dashboard._web import Web

__all__ = ["latency"]

SLICES: Final = 48
"""Of a plot, across: each shows the percentiles of what ended in it."""
SHOWN: Final = 200
"""Tasks in the table."""


async def latency(web: Web, request: Request) -> Response:
    """Show how long the attempts took that workers remember, of all tasks or of one."""
    name, span = request.query_params.get("task", ""), span_of(request)
    history, until = web.source.history, time.time()
    rows = latencies(history, seconds=span[1])
    attempts = [one for one in history.latest() if one.at >= until - span[1] and name in ("", one.task)]
    since = min(until - LEAST, max(until - span[1], attempts[-1].at if attempts else 0.0))

    def drawn(title: str, value: Callable[[Finished], float | None]) -> tuple[str, str, Markup]:
        measured = [(one.at, found) for one in attempts if (found := value(one)) is not None]
        return title, "p50|p95|p99", _plot(title, measured, since, until)

    return web.page(
        request,
        "latency.html",
        task=name,
        rows=rows[:SHOWN],
        found=len(rows),
        plots=[drawn("Run time", lambda one: one.seconds), drawn("Wait", lambda one: waited(history, one))],
        attempts=len(attempts),
        since=attempts[-1].at if attempts else None,
        remembering=any(one.remembers for one in web.source.workers),
        spans=SPANS,
        span=span[0],
    )


def _plot(title: str, measured: Sequence[tuple[float, float]], since: float, until: float) -> Markup:
    """Return the percentiles of moments and seconds, slice by slice."""
    width = (until - since) / SLICES
    slices: dict[int, list[float]] = {}
    for at, value in measured:
        slices.setdefault(min(SLICES - 1, max(0, int((at - since) / width))), []).append(value)
    known = {place: found for place, values in sorted(slices.items()) if (found := percentiles(values)) is not None}

    def curve(value: Callable[[Percentiles], float]) -> list[tuple[float, float | None]]:
        return [(since + (place + 0.5) * width, value(found)) for place, found in known.items()]

    curves = [
        ("a", curve(lambda one: one.p50)),
        ("b", curve(lambda one: one.p95)),
        ("c", curve(lambda one: one.p99)),
    ]
    return plot(title, curves, seconds, since=since, until=until, apart=1.5 * width)
