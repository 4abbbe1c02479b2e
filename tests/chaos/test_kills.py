"""Nothing is lost and nothing ends twice, whoever is killed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from chaos.conftest import LEASE
from chaos.fleet import Fleet, spawn
from chaos.worker import poison, work, work_in_thread
from tranship import Client, TaskHandle, TaskResult, TaskState
from tranship.envelope import DeadLetter
from tranship.ports import QueueInfo
from tranship.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 120.0


def test_killed_workers_lose_nothing(url, tmp_path, tell, tasks, scale, pace):
    count = tasks
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=4, concurrency=4) as fleet:
        kinds = (work, work_in_thread)
        handles = client.submit_many(kinds[number % 2].call(number, 0.05) for number in range(count))
        results = follow(client, handles, meanwhile=fleet.kill_one, every=pace, patience=PATIENCE * scale)
        again = client.collect([client.handle(handle.id) for handle in handles], PATIENCE)
        fleet.stop()
        runs, returns, doubled = fleet.runs(), fleet.returns(), fleet.doubled()
    states = Counter(result.state.value for result in results)
    tell(
        f"{count} tasks, {fleet.kills} kills, {sum(runs.values())} runs of {len(runs)} tasks "
        f"({sum(times - 1 for times in runs.values())} repeated, {len(returns)} of them because their worker had "
        f"been killed: the last {max(returns, default=0.0):.2f} s later), results {dict(states)}"
    )
    assert fleet.kills >= 5
    assert not doubled
    assert all(result.state.terminal for result in results), "some task has not ended"
    assert [one.finished_at for one in again] == [one.finished_at for one in results], "a task ended twice"
    assert set(runs) >= {result.id for result in results if result.success}
    assert [result.value for result in results if result.success] == [
        number for number, result in enumerate(results) if result.success
    ]
    left, dead = asyncio.run(remains(url))
    assert left == 0, f"{left} messages are left on the queue"
    assert {letter.task_id for letter in dead} == {
        result.id for result in results if result.state is TaskState.DEAD_LETTERED
    }
    assert states["SUCCESS"] >= count - max(1, count // 1000), "a task was given up for its worker's fault"


def test_a_dead_workers_tasks_are_back_within_a_lease(url, tmp_path, tell):
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=1, concurrency=8) as fleet:
        for _ in range(2):
            handles = client.submit_many(work.call(number, 60.0) for number in range(8))
            wait_for_runs(fleet, handles, 1)
            fleet.kill(0)
            wait_for_runs(fleet, handles, 2)
            for handle in handles:
                handle.cancel()
            client.collect(handles, PATIENCE)
        returns = fleet.returns()
    tell(f"{len(returns)} tasks were back {returns[0]:.2f} to {returns[-1]:.2f} s after their worker's death")
    assert len(returns) == 16
    # The new worker takes its time to start, seconds on a busy machine, and may not be there yet when the lease ends.
    assert returns[-1] < LEASE + 5


def test_poison_takes_no_innocent_along(url, tmp_path, tell):
    # A poison may die twice before it is a suspect, which runs with nothing taken in beside it. Two poisons can
    # so hit a neighbour four times; with the usual limit of five the neighbour ends all the same.
    limit = 5
    # A poison takes a lease each time.
    url = url.replace(f"lease={LEASE:g}", "lease=1")
    with (
        Client(url) as client,
        Fleet(url, tmp_path / "runs", workers=2, concurrency=5, max_deliveries=limit) as fleet,
    ):
        innocents = client.submit_many(work.call(number, 0.01) for number in range(100))
        poisons = [client.submit(poison, how) for how in ("exit", "kill")]
        innocents += client.submit_many(work_in_thread.call(number, 0.01) for number in range(100, 200))
        results = follow(client, [*innocents, *poisons], meanwhile=fleet.replace_dead, every=(0.02, 0.05))
        fleet.stop()
        runs = fleet.runs()
    repeated = sum(runs[handle.id] - 1 for handle in innocents)
    tell(
        f"{fleet.deaths} workers died of {len(poisons)} poisons (runs {[runs[one.id] for one in poisons]}), "
        f"{len(innocents)} innocents, {repeated} of their runs repeated"
    )
    assert [result.value for result in results[:200]] == list(range(200)), "an innocent task did not end well"
    assert [result.state for result in results[200:]] == [TaskState.DEAD_LETTERED] * 2
    # A delivery that died before its handler was called, with the other poison, counts as well.
    assert all(1 <= runs[handle.id] <= limit for handle in poisons)
    left, dead = asyncio.run(remains(url))
    assert left == 0
    assert {(letter.task_id, letter.reason) for letter in dead} == {(one.id, "delivery-limit") for one in poisons}


def test_killed_submitters_lose_nothing_acknowledged(url, tmp_path, tell, scale):
    acknowledged: list[str] = []
    kills = 5 * scale
    for _ in range(kills):
        acknowledged += submit_until_killed(url)
    assert len(set(acknowledged)) == len(acknowledged)
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=2, concurrency=20) as fleet:
        results = client.collect([client.handle(one) for one in acknowledged], PATIENCE * scale)
        runs = fleet.runs()
    states = Counter(result.state.value for result in results)
    tell(f"{kills} submitters killed, {len(acknowledged)} tasks acknowledged, results {dict(states)}")
    assert len(acknowledged) >= 20 * kills
    assert states == {"SUCCESS": len(acknowledged)}, "an acknowledged task was lost"
    assert max(runs.values()) == 1


def follow(
    client: Client,
    handles: Sequence[TaskHandle[object]],
    *,
    meanwhile: Callable[[], None],
    every: tuple[float, float],
    patience: float = PATIENCE,
) -> list[TaskResult]:
    """Collect all results and do something in between, again and again."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(client.collect, handles, patience)
        while not concurrent.futures.wait([collecting], random.uniform(*every)).done:
            meanwhile()
        return collecting.result()


def wait_for_runs(fleet: Fleet, handles: Sequence[TaskHandle[object]], times: int, within: float = 20.0) -> None:
    """Wait until each of the tasks has been started so many times."""
    end = time.monotonic() + within
    while {fleet.runs()[handle.id] for handle in handles} != {times}:
        assert time.monotonic() < end, f"not all were started {times} times within {within:g} s"
        time.sleep(0.01)


def submit_until_killed(url: str) -> list[str]:
    """Run a submitter and kill it at any moment; return what it said was acknowledged."""
    process = spawn("chaos.submitter", url, stdout=subprocess.PIPE)
    assert process.stdout is not None
    first = process.stdout.readline()
    # The moment of the kill is the point: anywhere in a submit.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        rest = pool.submit(process.stdout.read)
        concurrent.futures.wait([rest], random.uniform(0.05, 0.4))
        process.kill()
        said = first + rest.result()
    process.wait()
    process.stdout.close()
    # A line that was cut by the kill was never said.
    return [line.decode() for line in said.splitlines(keepends=True) if line.endswith(b"\n") for line in [line.strip()]]


async def remains(url: str) -> tuple[int, Sequence[DeadLetter]]:
    """How many messages are left in whatever state, and the dead letters."""
    backend = Registry().create(url)
    await backend.open()
    try:
        inspector = backend.inspector()
        queues = list(await inspector.queues())
        return sum(map(messages, queues)), await inspector.dead(limit=10_000)
    finally:
        await backend.aclose()


def messages(queue: QueueInfo) -> int:
    return sum(queue.ready.values()) + (queue.delayed or 0) + (queue.in_flight or 0)
