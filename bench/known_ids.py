"""What ``knows_ids`` costs a client: submits with it and without, in turns, over one broker.

``python bench/known_ids.py [--broker nats|redis|sqlite|URL] [--rounds 15] [--tasks 300]``: a server of its own, or the one
whose URL is given. Nothing is consumed. Each round submits so many tasks one after another, then as many at once, then as
one batch; each figure is the median over all rounds, per task: milliseconds of wall clock, and of the client's processor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tranship import AsyncClient, named

TASK = named("bench.nothing", queue="bench")
Figures = dict[str, list[tuple[float, float]]]


async def one_by_one(client: AsyncClient, count: int) -> None:
    for number in range(count):
        await client.submit(TASK, number)


async def at_once(client: AsyncClient, count: int) -> None:
    await asyncio.gather(*(client.submit(TASK, number) for number in range(count)))


async def as_a_batch(client: AsyncClient, count: int) -> None:
    await client.submit_many(TASK.call(number) for number in range(count))


WAYS: dict[str, Callable[[AsyncClient, int], Awaitable[None]]] = {
    "one after another": one_by_one,
    "at once": at_once,
    "one batch": as_a_batch,
}


async def measured(url: str, *, rounds: int, count: int) -> dict[bool, Figures]:
    """Return the figures with and without the option, by the way of submitting."""
    found: dict[bool, Figures] = {told: {way: [] for way in WAYS} for told in (False, True)}
    for number in range(rounds):
        for told in (False, True) if number % 2 else (True, False):
            mark = "&" if "?" in url else "?"
            place = f"{url}{mark}namespace=b{uuid.uuid4().hex[:8]}&knows_ids={str(told).lower()}"
            async with AsyncClient(place) as client:
                await one_by_one(client, 5)
                for way, submit in WAYS.items():
                    begun, worked = time.perf_counter(), time.process_time()
                    await submit(client, count)
                    figures = (time.perf_counter() - begun, time.process_time() - worked)
                    found[told][way].append((figures[0] * 1000 / count, figures[1] * 1000 / count))
    return found


@contextlib.contextmanager
def server(broker: str) -> Iterator[str]:
    """The URL of a broker of our own, or the one that was given."""
    if broker == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tranship-ids-") as directory:
            yield f"sqlite:///{Path(directory) / 'ids.db'}"
    elif "://" in broker:
        yield broker
    else:
        from tranship.testing.services import find_service

        service = find_service(broker)
        try:
            service.start()
            yield service.url
        finally:
            service.close()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="nats")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=300)
    chosen = parser.parse_args()
    with server(chosen.broker) as url:
        found = asyncio.run(measured(url, rounds=chosen.rounds, count=chosen.tasks))
    print(f"{chosen.broker}, {chosen.rounds} rounds of {chosen.tasks} tasks, ms per task: wall, processor")
    for way in WAYS:
        cells = [
            [statistics.median(column) for column in zip(*found[told][way], strict=True)] for told in (False, True)
        ]
        (wall, cpu), (wall_told, cpu_told) = cells
        print(
            f"{way:<18} without {wall:7.3f} {cpu:7.3f}   with {wall_told:7.3f} {cpu_told:7.3f}   "
            f"x {wall_told / wall:.2f} {cpu_told / cpu:.2f}"
        )


if __name__ == "__main__":
    main()
