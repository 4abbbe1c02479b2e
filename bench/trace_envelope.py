"""The path of one envelope: files and calls, ours above the ports and below them apart.

``python bench/trace_envelope.py [--broker sqlite|redis|URL] [--calls]`` traces one submit, and one submit with its run and its result,
both after a warm-up of the same. Client and worker are in one process; every thread of theirs is traced. A *move* is a call into
another file than that of the call before it in the same thread. What a loop does beside it meanwhile (heartbeats, looks) is in it, too:
of several tries the one with the fewest calls counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

TRIES = 5
BELOW = ("tranship/driver/", "tranship/backends/", "tranship_")
"""What stands below the ports: the driver kit, the embedded backends, the plugins."""


class Trace:
    """Calls of our functions, noted while it is on, in all threads that are started after :meth:`install`."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.moves = 0
        self._on = False
        self._last: dict[int, str] = {}
        self._names: dict[str, str] = {}

    def install(self) -> None:
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self.calls, self.moves, self._last = Counter(), 0, {}
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _called(self, frame: FrameType, event: str, _argument: Any) -> None:
        if not self._on or event != "call":
            return
        path = frame.f_code.co_filename
        name = self._names.get(path)
        if name is None:
            name = self._names[path] = _ours(path)
        if name:
            thread = threading.get_ident()
            self.moves += self._last.get(thread, name) != name
            self._last[thread] = name
            self.calls[f"{name}:{frame.f_code.co_qualname}"] += 1


def _ours(path: str) -> str:
    """The file as it is called below ``src``; empty: it is none of ours."""
    for root in ("/src/tranship/", "/src/tranship_"):
        if root in path:
            return path[path.rindex(root) + len("/src/") :]
    return ""


async def traced(url: str, result_url: str) -> dict[str, Counter[str]]:
    """Trace both, and return the calls of each; ``moves`` are among them under that name."""
    trace = Trace()
    trace.install()
    from tranship import AsyncClient, Worker, task

    @task(name="trace.echo", queue="trace")
    async def echo(value: int) -> int:
        return value

    @task(name="trace.away", queue="away")
    async def away(value: int) -> int:
        return value

    found: dict[str, list[Counter[str]]] = {"submit": [], "submit, run, result": []}
    worker = Worker(url, tasks=[echo], result_url=result_url)
    serving = asyncio.create_task(worker.serve())
    async with AsyncClient(url, result_url=result_url) as client:
        for number in range(3):
            await client.submit(away, number)
            assert await (await client.submit(echo, number)).result(30) == number
        for number in range(TRIES):
            with trace.on():
                await client.submit(away, number)
            found["submit"].append(_noted(trace))
            with trace.on():
                assert await (await client.submit(echo, number)).result(30) == number
            found["submit, run, result"].append(_noted(trace))
    worker.stop()
    await serving
    return {name: min(several, key=lambda one: one.total()) for name, several in found.items()}


def _noted(trace: Trace) -> Counter[str]:
    calls = Counter(trace.calls)
    calls["moves"] = trace.moves
    return calls


def report(broker: str, found: dict[str, Counter[str]], *, calls: bool) -> None:
    """Print a table, and with ``calls`` every function."""
    print(f"\n| {broker} | files above the ports | calls | files below | calls | moves between files |")
    print("|---|---|---|---|---|---|")
    for name, noted in found.items():
        moves = noted.pop("moves", 0)
        cells = []
        for below in (False, True):
            some = {one: count for one, count in noted.items() if one.startswith(BELOW) is below}
            cells += [str(len({one.partition(":")[0] for one in some})), str(sum(some.values()))]
        print(f"| {name} | {' | '.join(cells)} | {moves} |")
    if calls:
        for name, noted in found.items():
            print(f"\n{name}:")
            for one, count in sorted(noted.items()):
                print(f"{count:5}  {one}")


@contextlib.contextmanager
def place(broker: str) -> Iterator[str]:
    """The URL of a broker of our own, or the one that was given."""
    if broker == "sqlite":
        with tempfile.TemporaryDirectory(prefix="tranship-trace-") as directory:
            yield f"sqlite:///{Path(directory) / 'trace.db'}"
    elif broker == "redis":
        from tranship.testing.services import find_service

        server = find_service("redis")
        try:
            server.start()
            yield server.url
        finally:
            server.close()
    else:
        yield broker


def main() -> None:
    """Read the arguments and trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", action="append", help="sqlite, redis (a server of its own), or a URL; several")
    parser.add_argument("--calls", action="store_true", help="list every function that was called")
    chosen = parser.parse_args()
    for broker in chosen.broker or ["redis", "sqlite"]:
        with place(broker) as url:
            report(broker, asyncio.run(traced(url, url)), calls=chosen.calls)


if __name__ == "__main__":
    main()
