"""Draw one trace of a task over client, broker and worker: ``python docs/diagrams/trace.py``.

With ``--record`` it is run anew before: a task on a real Redis, RabbitMQ and NATS, with tranship-otel and an exporter
in memory, whose spans are kept in ``traces.json``. Client and worker have a provider each, as two processes would. Of
several runs on a broker the fastest is kept: it shows the way of a task, not what else the machine does.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

HERE: Final = Path(__file__).parent
SOURCE: Final = HERE / "traces.json"
BROKERS: Final = {"redis": "Redis", "rabbitmq": "RabbitMQ", "nats": "NATS"}
CLIENT, WORKER, BROKER = "shop", "worker", "broker"
DOWNLOAD: Final = 0.002
"""Seconds that the task takes."""
RUNS: Final = 100


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it is drawn."""

    name: str
    service: str
    kind: str
    trace: str
    parent: str | None
    """Its name."""
    links: list[str]
    """The names of the spans that it links to."""
    begin: float
    """Milliseconds since the trace began."""
    end: float


# Recording.


def recorded(url: str, runs: int = RUNS) -> list[Span]:
    """Run a task over the broker at ``url``, and return the spans of the fastest run, in the order of their begin."""
    from tranship import Client, Worker, task
    from tranship.testing.background import BackgroundWorker
    from tranship_otel import OpenTelemetry

    (ours, of_client), (theirs, of_worker) = _provider(CLIENT), _provider(WORKER)
    tracer, inside = ours.get_tracer("shop"), theirs.get_tracer("photos")

    @task(name="photos.resize", queue="trace-picture")
    async def resize(uri: str) -> str:
        with inside.start_as_current_span("download"):
            await asyncio.sleep(DOWNLOAD)
        return f"small {uri}"

    worker = Worker(url, tasks=[resize], middleware=[OpenTelemetry(tracer_provider=theirs)])
    found = []
    with (
        BackgroundWorker(worker),
        Client(url, middleware=[OpenTelemetry(tracer_provider=ours)]) as client,
    ):
        for _ in range(runs):
            with tracer.start_as_current_span("GET /thumbnail"):
                assert client.submit(resize, "a.png").result(timeout=20) == "small a.png"
            found.append(_taken(of_client, of_worker))
    ours.shutdown()
    theirs.shutdown()
    return min(found, key=_length)


def _provider(service: str) -> tuple[TracerProvider, InMemorySpanExporter]:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def _taken(*exporters: InMemorySpanExporter) -> list[Span]:
    """Return what has ended, and forget it. The result comes behind the end of the task's last span."""
    raw = sorted(
        (one for exporter in exporters for one in exporter.get_finished_spans()), key=lambda one: one.start_time
    )
    for exporter in exporters:
        exporter.clear()
    names = {one.context.span_id: one.name for one in raw}
    return [_span(one, names, raw[0].start_time) for one in raw]


def _span(raw: ReadableSpan, names: dict[int, str], began: int) -> Span:
    return Span(
        name=raw.name,
        service=str(raw.resource.attributes["service.name"]),
        kind=raw.kind.name.lower(),
        trace=format(raw.context.trace_id, "032x"),
        parent=None if raw.parent is None else names[raw.parent.span_id],
        links=[names[link.context.span_id] for link in raw.links],
        begin=(raw.start_time - began) / 1e6,
        end=((raw.end_time or 0) - began) / 1e6,
    )


def _length(spans: Sequence[Span]) -> float:
    return max(one.end for one in spans)


def record() -> None:
    """Write ``traces.json`` anew."""
    from tranship.testing.services import find_service

    found: dict[str, Any] = {}
    for broker in BROKERS:
        with find_service(broker) as service:
            found[broker] = [asdict(one) for one in recorded(service.url)]
    SOURCE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read() -> dict[str, list[Span]]:
    """Return what was recorded, by broker."""
    kept = json.loads(SOURCE.read_text("utf-8"))
    return {broker: [Span(**one) for one in spans] for broker, spans in kept.items()}


# Drawing.

WIDTH, LEFT, RIGHT, ROW, HEAD = 680, 262, 70, 24, 34
THEMES: Final = {
    "light": {
        "text": "#212121",
        "faint": "#616161",
        "line": "#cfd8dc",
        CLIENT: "#00796b",
        BROKER: "#546e7a",
        WORKER: "#c2571a",
    },
    "dark": {
        "text": "#e0e0e0",
        "faint": "#a7b0b5",
        "line": "#3a434a",
        CLIENT: "#4db6ac",
        BROKER: "#90a4ae",
        WORKER: "#ff9e64",
    },
}


def drawn(traces: dict[str, list[Span]], theme: str, checksum: str) -> str:
    """Return the picture: a waterfall for each broker, all on one scale."""
    colours = THEMES[theme]
    longest = max(map(_length, traces.values()))
    parts, top = [], 8
    for broker, spans in traces.items():
        parts.extend(_panel(BROKERS[broker], spans, top, longest, colours))
        top += HEAD + ROW * (len(spans) + 1) + 14
    words = ". ".join(f"{BROKERS[one]}: {_told(spans)}" for one, spans in traces.items())
    return (
        f"<!-- of {SOURCE.name}: {checksum} -->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>One trace on three brokers</title>'
        f"<desc>{html.escape(words)}</desc>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _told(spans: Sequence[Span]) -> str:
    return ", ".join(f"{one.name} in {one.service} {one.end - one.begin:.1f} ms" for one in spans)


def _panel(title: str, spans: Sequence[Span], top: int, longest: float, colours: dict[str, str]) -> Iterator[str]:
    scale = (WIDTH - LEFT - RIGHT) / longest
    yield _text(8, top + 18, title, colours["text"], "bold", size=15)
    about = f"trace {spans[0].trace[:8]}…, {_length(spans):.1f} ms"
    yield _text(WIDTH - 8, top + 18, about, colours["faint"], anchor="end")
    yield f'<path d="M8 {top + 27}H{WIDTH - 8}" stroke="{colours["line"]}"/>'
    at = {}
    for number, row in enumerate(_rows(spans)):
        y = top + HEAD + number * ROW
        at[row.label] = (LEFT + row.begin * scale, y)
        yield from _drawn_row(row, y, scale, colours)
    for one in spans:
        for link in one.links:
            yield _link(at[link], at[one.name], colours["faint"])


class Row(NamedTuple):
    """A line of a panel."""

    label: str
    service: str
    depth: int
    begin: float
    end: float


def _rows(spans: Sequence[Span]) -> Iterator[Row]:
    """Yield a line for each span; what no span tells of stands between send and process."""
    named = {one.name: one for one in spans}
    for one in spans:
        if one.kind == "consumer":
            (send,) = one.links
            yield Row("on its way", BROKER, 2, named[send].begin, one.begin)
        depth, above = 0, one
        while above.parent is not None:
            depth, above = depth + 1, named[above.parent]
        yield Row(one.name, one.service, depth, one.begin, one.end)


def _drawn_row(row: Row, y: int, scale: float, colours: dict[str, str]) -> Iterator[str]:
    x, width = LEFT + row.begin * scale, max((row.end - row.begin) * scale, 2)
    hatched = ' fill-opacity="0.45" stroke-dasharray="3 2"' if row.service == BROKER else ""
    colour = colours[row.service]
    yield _text(8, y + 16, row.service, colour, "bold")
    yield _text(66 + 12 * row.depth, y + 16, row.label, colours["text"])
    yield (
        f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="15" rx="2" fill="{colour}" '
        f'stroke="{colour}"{hatched}/>'
    )
    yield _text(x + width + 6, y + 16, f"{row.end - row.begin:.2f} ms", colours["faint"])


def _link(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    bend = min(x1, x2) - 14
    return (
        f'<path d="M{x2:.1f} {y2 + 11.5}H{bend:.1f}V{y1 + 11.5}H{x1:.1f}" fill="none" stroke="{colour}" '
        'stroke-dasharray="2 3"><title>link</title></path>'
    )


def _text(
    x: float, y: float, words: str, colour: str, weight: str = "normal", *, size: int = 13, anchor: str = ""
) -> str:
    more = f' text-anchor="{anchor}"' if anchor else ""
    return (
        f'<text x="{x:.1f}" y="{y}" fill="{colour}" font-weight="{weight}" font-size="{size}"{more}>'
        f"{html.escape(words)}</text>"
    )


def main() -> None:
    """Draw what was recorded, or record it first."""
    if "--record" in sys.argv[1:]:
        record()
    checksum = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    for theme in THEMES:
        SOURCE.with_suffix(f".{theme}.svg").write_text(drawn(read(), theme, checksum), encoding="utf-8")


if __name__ == "__main__":
    main()
