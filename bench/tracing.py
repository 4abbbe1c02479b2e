"""Processor time of a round trip on memory://, and what each way of observing it adds.

``python bench/tracing.py [rounds]``: each round runs every variant once, in a process of its own; the medians are shown,
as a table of Markdown. Prometheus' numbers are those of ``--health-port``, which is there and not asked meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

VARIANTS = {
    "nothing": "",
    "tranship-otel, no SDK": "plugin",
    "Prometheus": "prometheus",
    "OpenTelemetry, metrics": "plugin metrics",
    "OpenTelemetry, traces": "plugin traces",
    "all three": "plugin prometheus metrics traces",
}
TASKS = 2000
WARM = 200


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, parts in VARIANTS.items():
            environ = {**os.environ, "BENCH_TRACING": parts}
            if "plugin" not in parts:
                environ["TRANSHIP_BLOCK_PLUGINS"] = "otel"
            done = subprocess.run([sys.executable, __file__], env=environ, capture_output=True, text=True, check=True)
            found[name].append(float(done.stdout))
    usual = statistics.median(found["nothing"])
    print("| | µs a task | more | least to most |\n|---|---|---|---|")
    for name, times in found.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.0f} | {median - usual:+.0f} | {min(times):.0f} to {max(times):.0f} |")


def configure(parts: list[str]) -> None:
    if "metrics" in parts:
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))
    if "traces" in parts:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
        trace.set_tracer_provider(provider)


async def measure(parts: list[str]) -> float:
    """Microseconds of the processor for one task."""
    from tranship import AsyncClient, Settings, Worker, task

    @task(name="bench.echo")
    async def echo(value: int) -> int:
        return value

    url = "memory://bench"
    counted = {"health_port": 0} if "prometheus" in parts else {}
    worker = Worker(settings=Settings.load(broker_url=url, result_url=url, **counted), tasks=[echo])
    serving = asyncio.create_task(worker.serve())
    async with AsyncClient(url) as client:
        for _ in range(WARM):
            await (await client.submit(echo, 1)).result(timeout=20)
        began = time.process_time()
        for number in range(TASKS):
            await (await client.submit(echo, number)).result(timeout=20)
        took = time.process_time() - began
    assert (worker.health_port is not None) == ("prometheus" in parts)
    worker.stop()
    await serving
    return took / TASKS * 1e6


if __name__ == "__main__":
    variant = os.environ.get("BENCH_TRACING")
    if variant is None:
        main()
    else:
        configure(variant.split())
        print(asyncio.run(measure(variant.split())))
