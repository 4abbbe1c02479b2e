"""The plans that stages, sdax and a bare TaskGroup run alike: one measured process each."""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from collections.abc import Awaitable, Callable

from harness import percentile

SHAPES = {"levels": (100, 10, "pre_execute"), "wide": (1, 1000, "execute")}
"""Levels, tasks in each, and the phase whose functions they are."""


async def nothing(ctx):
    ctx["ran"] += 1


async def turn(ctx):
    ctx["ran"] += 1
    await asyncio.sleep(0)


BODIES = {"nothing": nothing, "turn": turn}


def processor(module: str, shape: str, body: str, times: int = 1):
    """The plan, by sdax's names: ours are the same. ``times`` as many tasks in each level."""
    names = importlib.import_module(module)
    levels, width, phase = SHAPES[shape]
    function = names.TaskFunction(function=BODIES[body])
    builder = names.AsyncTaskProcessor.builder()
    for level in range(levels):
        for number in range(width * times):
            builder.add_task(names.AsyncTask(name=f"t{level}-{number}", **{phase: function}), level=level)
    return builder.build()


def processed(module: str, shape: str, body: str, repeats: int):
    """Functions per second of ``process_tasks``; the processor is made before, once."""
    return measured(processor(module, shape, body).process_tasks, shape, repeats)


def bare(shape: str, body: str, repeats: int):
    """The same functions in the same order, in one TaskGroup for each level."""
    levels, width, _ = SHAPES[shape]
    function = BODIES[body]

    async def run(ctx):
        for _ in range(levels):
            async with asyncio.TaskGroup() as group:
                for _ in range(width):
                    group.create_task(function(ctx))

    return measured(run, shape, repeats)


def measured(run: Callable[[dict], Awaitable[None]], shape: str, repeats: int):
    levels, width, _ = SHAPES[shape]

    async def main():
        ctx = {"ran": 0}
        for _ in range(3):
            await run(ctx)
        gc.collect()
        took = []
        for _ in range(repeats):
            begun = time.perf_counter()
            await run(ctx)
            took.append(time.perf_counter() - begun)
        # A run takes milliseconds: the slower ones are those in which somebody else had the processor.
        typical = percentile(took, 0.25)
        return {"rate": levels * width / typical, "ran": ctx["ran"], "wanted": (repeats + 3) * levels * width}

    return asyncio.run(main())


def growth(module: str, times: list[int]):
    """Microseconds per function of one level that is ``times`` as wide, the best of five, by ``x times``."""
    found = {}
    for count in times:
        made = processor(module, "wide", "nothing", count)
        best = float("inf")
        for _ in range(5):
            ctx = {"ran": 0}
            gc.collect()
            begun = time.perf_counter()
            asyncio.run(made.process_tasks(ctx))
            best = min(best, time.perf_counter() - begun)
            assert ctx["ran"] == 1000 * count
        found[f"x{count}"] = best / (1000 * count) * 1e6
    return found
