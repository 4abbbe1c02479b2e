"""Plots as SVG, made here: no script draws them, and a screen reader is told what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from markupsafe import Markup, escape

from tranship.operations import Sample
from tranship_dashboard._format import clock

__all__ = ["Curve", "plot", "sparkline"]

WIDTH: Final = 640
HEIGHT: Final = 150
_LEFT: Final = 64
_BOTTOM: Final = 20
_TOP: Final = 14
MOST: Final = 320
"""Points of a curve, roughly."""
APART: Final = 150.0
"""Seconds between two samples beyond which somebody has not looked: the older ones are a minute apart."""

Curve = tuple[str, Sequence[tuple[float, float | None]]]
"""The class that colours it, and its points: epoch seconds, and a value where there is one."""


def plot(
    title: str,
    curves: Sequence[Curve],
    shown: Callable[[float | None], str],
    *,
    since: float,
    until: float,
    apart: float = APART,
) -> Markup:
    """Return a plot with axes.

    Args:
        title: what it shows.
        curves: one or several, drawn over each other.
        shown: says a value in words.
        since, until: what the horizontal axis goes from and to, in epoch seconds.
        apart: seconds between two points beyond which nothing is known of what is between them.
    """
    top = _nice(max((value for _, points in curves for _, value in points if value is not None), default=0.0))
    span = max(1.0, until - since)

    def across(at: float) -> float:
        return _LEFT + (at - since) / span * (WIDTH - _LEFT - 4)

    def up(value: float) -> float:
        return HEIGHT - _BOTTOM - value / top * (HEIGHT - _BOTTOM - _TOP)

    body = [*_grid(top, shown, up), *_times(since, until, across)]
    for kind, points in curves:
        for stretch in _stretches(points, apart):
            body += _drawn(kind, [(across(at), up(value)) for at, value in stretch])
    latest = shown(next((value for _, value in reversed(curves[0][1]) if value is not None), None)) if curves else ""
    label = escape(f"{title}: {latest} now, at most {shown(_most(curves))}")
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(body)
    )


def sparkline(title: str, samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> Markup:
    """Return a small curve without axes, for a table."""
    width, height = 120, 26
    if not samples:
        return Markup("")
    since, until = samples[0].at, samples[-1].at
    points = [(one.at, value(one)) for one in samples]
    top = max((found for _, found in points if found is not None), default=0.0) or 1.0
    span = max(1.0, until - since)
    drawn = [
        part
        for stretch in _stretches(points, APART, most=60)
        for part in _drawn(
            "a",
            [((at - since) / span * width, height - 2 - found / top * (height - 4)) for at, found in stretch],
            fill=False,
        )
    ]
    return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, title, Markup("").join(drawn)
    )


def _most(curves: Sequence[Curve]) -> float | None:
    return max((value for _, points in curves for _, value in points if value is not None), default=None)


def _grid(top: float, shown: Callable[[float | None], str], up: Callable[[float], float]) -> Iterator[Markup]:
    for part in (0.0, 0.5, 1.0):
        height = up(top * part)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - 4, height, height
        )
        yield Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 6, height + 4, shown(top * part)
        )


def _times(since: float, until: float, across: Callable[[float], float]) -> Iterator[Markup]:
    step = next((one for one in (15, 30, 60, 300, 600, 1800, 3600, 7200, 14_400) if (until - since) / one <= 6), 14_400)
    at = math.ceil(since / step) * step
    while at <= until:
        anchor = "end" if across(at) > WIDTH - 30 else "middle"
        yield Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            across(at), HEIGHT - 4, anchor, clock(at, exact=step < 60)
        )
        at += step


def _stretches(
    points: Sequence[tuple[float, float | None]], apart: float, most: int = MOST
) -> Iterator[Sequence[tuple[float, float]]]:
    """Yield each stretch of time in which values are known, with fewer points where there are many.

    Of those that fall together the highest stays.
    """
    size = max(1, -(-len(points) // most))
    stretch: list[tuple[float, float]] = []
    for at, value in points:
        if stretch and (value is None or at - stretch[-1][0] > apart):
            yield _thinned(stretch, size)
            stretch = []
        if value is not None:
            stretch.append((at, value))
    if stretch:
        yield _thinned(stretch, size)


def _thinned(points: Sequence[tuple[float, float]], size: int) -> Sequence[tuple[float, float]]:
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [max(group, key=lambda one: one[1]) for group in groups]


def _drawn(kind: str, points: Sequence[tuple[float, float]], *, fill: bool = True) -> Iterator[Markup]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    if len(points) == 1:
        ((x, y),) = points
        yield Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(kind, x, y)
        return
    if fill:
        base = HEIGHT - _BOTTOM
        area = f"M{points[0][0]:.1f} {base}L{path}L{points[-1][0]:.1f} {base}Z"
        yield Markup('<path class="area {}" d="{}"/>').format(kind, area)
    yield Markup('<path class="curve {}" d="M{}"/>').format(kind, path)


def _nice(value: float) -> float:
    """Return a round number that is not below ``value``."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    return next((power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= value), power * 10)
