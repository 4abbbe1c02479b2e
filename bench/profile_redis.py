"""Where the time of a task goes on Redis: ``python bench/profile_redis.py submit_many|serial|concurrent|...``.

Says what a task costs without a profiler (wall, our CPU, Redis's CPU, commands), then prints cProfile's top of each
of our threads in a second run. Client or worker are pinned to the first CPU, Redis to the second. For developing.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ours_work
from harness import PRODUCER, Bench, cpu
from on_redis import ARGUMENT
from server import WORKER, Server, redis_server
from tranship import AsyncClient, Client, Worker
from tranship.connections import process_table
from workload import TASKS, noop, noop_def, unheard, url

CALLERS = 100
WARM = 200


@dataclass
class Cost:
    """Measures the part of a run that counts; with ``profiled`` it profiles it, too."""

    server: Server
    amount: int
    profiled: bool
    profiles: dict[str, cProfile.Profile] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    commands: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Calls and Redis's microseconds, both per task, of each command; those in scripts are counted in both."""

    @contextmanager
    def counted(self, portal: object = None) -> Iterator[None]:
        """``portal``: of the I/O loop thread that works for us, to be profiled as well."""
        gc.collect()
        said, before = self.server.client.info("commandstats"), self._look()
        with ExitStack() as stack:
            if self.profiled:
                if portal is not None:
                    stack.enter_context(self._there(portal))
                stack.enter_context(self._here())
            yield
        after = self._look()
        self.figures = {name: (after[name] - before[name]) / self.amount for name in before}
        self.figures["Redis commands"] -= 1 / self.amount  # one of them was ours
        self._tell_apart(said)

    def _tell_apart(self, before: dict[str, dict[str, float]]) -> None:
        for name, now in self.server.client.info("commandstats").items():
            then = before.get(name, {"calls": 0, "usec": 0})
            calls, spent = ((now[what] - then[what]) / self.amount for what in ("calls", "usec"))
            if calls and name != "cmdstat_info":
                self.commands[name.removeprefix("cmdstat_")] = calls, spent

    def _look(self) -> dict[str, float]:
        return {
            "µs wall": time.perf_counter() * 1e6,
            "µs of our CPU": time.process_time() * 1e6,
            "µs of Redis's CPU": self.server.cpu_seconds() * 1e6,
            "Redis commands": self.server.info("stats", "total_commands_processed"),
        }

    @contextmanager
    def _here(self) -> Iterator[None]:
        profile = self.profiles["this thread"] = cProfile.Profile()
        profile.enable()
        yield
        profile.disable()

    @contextmanager
    def _there(self, portal) -> Iterator[None]:
        profile = cProfile.Profile()
        try:
            portal.run(called(profile.enable))
        except ValueError:  # from Python 3.12 on there is one profiler per process
            yield
            return
        self.profiles["the I/O loop thread"] = profile
        yield
        portal.run(called(profile.disable))


async def called(function: Callable[[], object]) -> None:
    function()


def blocking(client: Client):
    """The portal of the thread that does the client's I/O."""
    return process_table().portal_of(client._connector.any_link().loop)


# What can be profiled. Each is given what it needs, and does its work within cost.counted().


def submit_many(cost: Cost, chosen: argparse.Namespace) -> None:
    """Client.submit_many."""
    task, payload = chosen.task, "x" * chosen.argument
    with Client(url()) as client:
        client.submit_many([task.call(payload) for _ in range(WARM)])
        with cost.counted(blocking(client)):
            client.submit_many([task.call(payload) for _ in range(cost.amount)])


def submit_many_async(cost: Cost, chosen: argparse.Namespace) -> None:
    """AsyncClient.submit_many."""
    task, payload = chosen.task, "x" * chosen.argument

    async def main() -> None:
        async with AsyncClient(url()) as client:
            await client.submit_many([task.call(payload) for _ in range(WARM)])
            with cost.counted():
                await client.submit_many([task.call(payload) for _ in range(cost.amount)])

    asyncio.run(main())


def serial(cost: Cost, chosen: argparse.Namespace) -> None:
    """Client.submit, one after the other."""
    task, payload = chosen.task, "x" * chosen.argument
    with Client(url()) as client:
        for _ in range(WARM):
            client.submit(task, payload)
        with cost.counted(blocking(client)):
            for _ in range(cost.amount):
                client.submit(task, payload)


def concurrent(cost: Cost, chosen: argparse.Namespace) -> None:
    """AsyncClient.submit from 100 callers."""
    task, payload = chosen.task, "x" * chosen.argument

    async def main() -> None:
        async with AsyncClient(url()) as client:

            async def caller(count: int) -> None:
                for _ in range(count):
                    await client.submit(task, payload)

            await together(caller, 2)
            with cost.counted():
                await together(caller, cost.amount // CALLERS)

    asyncio.run(main())


async def together(caller, each: int) -> None:
    await asyncio.gather(*(caller(each) for _ in range(CALLERS)))


def roundtrip(cost: Cost, chosen: argparse.Namespace) -> None:
    """AsyncClient: submit and result, one after the other; a worker in a process of its own."""
    payload = "x" * chosen.argument

    async def main() -> None:
        async with AsyncClient(url()) as client:

            async def trips(count: int) -> None:
                for _ in range(count):
                    await (await client.submit(noop, payload)).result(timeout=30)

            await trips(WARM)
            with cost.counted():
                await trips(cost.amount)

    asyncio.run(main())


def roundtrip_blocking(cost: Cost, chosen: argparse.Namespace) -> None:
    """Client: the same."""
    payload = "x" * chosen.argument
    with Client(url()) as client:
        for _ in range(WARM):
            client.submit(noop, payload).result(timeout=30)
        with cost.counted(blocking(client)):
            for _ in range(cost.amount):
                client.submit(noop, payload).result(timeout=30)


def in_flight(cost: Cost, chosen: argparse.Namespace) -> None:
    """AsyncClient: submit and result from 100 callers; a worker in a process of its own."""
    payload = "x" * chosen.argument

    async def main() -> None:
        async with AsyncClient(url()) as client:

            async def caller(count: int) -> None:
                for _ in range(count):
                    await (await client.submit(noop, payload)).result(timeout=30)

            await together(caller, 2)
            with cost.counted():
                await together(caller, cost.amount // CALLERS)

    asyncio.run(main())


def drain(cost: Cost, chosen: argparse.Namespace) -> None:
    """A worker in this process (its loop's thread) empties a full queue; results stored."""
    payload = "x" * chosen.argument
    with Client(url()) as client:
        client.submit_many([chosen.task.call(payload) for _ in range(WARM + cost.amount)])

    async def main() -> None:
        worker = Worker(url(), tasks=TASKS, max_concurrent_tasks=chosen.limit)
        serving = asyncio.create_task(worker.serve())
        await ours_work.until(serving, lambda: worker.status().done, WARM)
        with cost.counted():
            await ours_work.until(serving, lambda: worker.status().done, WARM + cost.amount)
        worker.stop()
        await serving

    asyncio.run(main())


@dataclass(frozen=True)
class Work:
    function: Callable[[Cost, argparse.Namespace], None]
    amount: int
    worker: bool = False


WORKS = {
    "submit_many": Work(submit_many, 20_000),
    "submit_many_async": Work(submit_many_async, 20_000),
    "serial": Work(serial, 5000),
    "concurrent": Work(concurrent, 9500),
    "roundtrip": Work(roundtrip, 2000, worker=True),
    "roundtrip_blocking": Work(roundtrip_blocking, 2000, worker=True),
    "in_flight": Work(in_flight, 10_000, worker=True),
    "drain": Work(drain, 10_000),
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python bench/profile_redis.py", description=__doc__)
    parser.add_argument("what", choices=WORKS)
    parser.add_argument("--amount", type=int, default=0, help="tasks (a multiple of 100)")
    parser.add_argument("--argument", type=int, default=ARGUMENT, help=f"its length (default {ARGUMENT})")
    parser.add_argument("--limit", type=int, default=100, help="drain: tasks at once (default 100)")
    parser.add_argument("--no-results", action="store_true", help="tasks whose results nobody wants")
    parser.add_argument("--def", dest="plain", action="store_true", help="drain: a plain function, in threads")
    parser.add_argument("--sort", default="tottime", choices=("tottime", "cumulative", "ncalls"))
    parser.add_argument("--top", type=int, default=25)
    chosen = parser.parse_args()
    chosen.task = unheard if chosen.no_results else noop_def if chosen.plain else noop
    return chosen


def run(work: Work, chosen: argparse.Namespace, root: Path, *, profiled: bool) -> Cost:
    with redis_server(Bench(root, quick=False, argument=chosen.argument)) as server:
        cost = Cost(server, chosen.amount or work.amount, profiled)
        with worker_of(server) if work.worker else ExitStack(), pinned(), chdir(server.where):
            work.function(cost, chosen)
    return cost


@contextmanager
def pinned() -> Iterator[None]:
    """This process on the client's CPU; what it starts outside of this may run elsewhere."""
    wanted = cpu(PRODUCER)
    if wanted is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {wanted})
    yield
    os.sched_setaffinity(0, before)


def worker_of(server: Server) -> AbstractContextManager[object]:
    stack = ExitStack()
    bench = Bench(server.where, quick=False, argument=0)
    child = stack.enter_context(bench.child("ours_work:serve", server.where, on=WORKER))
    child.wait_ready()
    return stack


def main() -> None:
    chosen = options()
    work = WORKS[chosen.what]
    root = Path(tempfile.mkdtemp(prefix="tranship-profile-"))
    try:
        plain = run(work, chosen, root, profiled=False)
        profiled = run(work, chosen, root, profiled=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    figures = ", ".join(f"{value:.2f} {name}" for name, value in plain.figures.items())
    print(f"{work.function.__doc__}\nper task, of {plain.amount}: {figures}")
    for name, (calls, spent) in sorted(plain.commands.items(), key=lambda item: -item[1][1]):
        print(f"  {name:20} {calls:8.3f} calls {spent:8.2f} µs")
    for thread, profile in profiled.profiles.items():
        print(f"\n{thread}, profiled: {profiled.figures['µs wall']:.1f} µs per task\n")
        pstats.Stats(profile).strip_dirs().sort_stats(chosen.sort).print_stats(chosen.top)


if __name__ == "__main__":
    main()
