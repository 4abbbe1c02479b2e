"""Nothing is lost and nothing ends twice, whoever is killed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from chaos.fleet import Fleet, spawn
from chaos.worker import poison, work, work_in_thread
from tranship import Client, TaskHandle, TaskResult, TaskState
from tranship.envelope import DeadLetter
from tranship.ports import QueueInfo
from tranship.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCALE = int(os.environ.get("TRANSHIP_TEST_CHAOS", "1"))
"""How many times the usual; the nox session ``chaos`` sets it."""
PATIENCE = 120.0 * SCALE


@pytest.fixture(params=["", "durability=process&"], ids=["power-safe", "process-safe"])
def url(request, tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'chaos.db'}?{request.param}lease=2"


@pytest.fixture
def tell(request, capsys) -> Callable[[str], None]:
    """Print a line whatever pytest captures: the counts are what this is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return line


def test_killed_workers_lose_nothing(url, tmp_path, tell):
    count = 2000 * SCALE
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=4, concurrency=4) as fleet:
        kinds = (work, work_in_thread)
        handles = client.submit_many(kinds[number % 2].call(number, 0.05) for number in range(count))
        results = follow(client, handles, meanwhile=fleet.kill_one, every=(0.1, 0.4))
        again = client.collect([client.handle(handle.id) for handle in handles], PATIENCE)
        fleet.stop()
        runs = fleet.runs()
    states = Counter(result.state.value for result in results)
    tell(
        f"{count} tasks, {fleet.kills} kills, {sum(runs.values())} runs of {len(runs)} tasks "
        f"({sum(times - 1 for times in runs.values())} repeated), results {dict(states)}"
    )
    assert fleet.kills >= 5
    assert all(result.state.terminal for result in results), "some task has not ended"
    assert [result.state for result in again] == [result.state for result in results], "a task ended twice"
    assert set(runs) >= {result.id for result in results if result.success}
    assert [result.value for result in results if result.success] == [
        number for number, result in enumerate(results) if result.success
    ]
    left, dead = asyncio.run(remains(url))
    assert left == 0, f"{left} messages are left on the queue"
    assert {letter.task_id for letter in dead} == {
        result.id for result in results if result.state is TaskState.DEAD_LETTERED
    }
    assert states["SUCCESS"] >= count * 0.999, "a task was given up for its worker's fault"


def test_poison_takes_no_innocent_along(url, tmp_path, tell):
    # A poison may die twice before it is a suspect, which runs with nothing taken in beside it. Two poisons can
    # so hit a neighbour four times; with the usual limit of five the neighbour ends all the same.
    limit = 5
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


def test_killed_submitters_lose_nothing_acknowledged(url, tmp_path, tell):
    acknowledged: list[str] = []
    kills = 5 * SCALE
    for _ in range(kills):
        acknowledged += submit_until_killed(url)
    assert len(set(acknowledged)) == len(acknowledged)
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=2, concurrency=20) as fleet:
        results = client.collect([client.handle(one) for one in acknowledged], PATIENCE)
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
) -> list[TaskResult]:
    """Collect all results and do something in between, again and again."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        collecting = pool.submit(client.collect, handles, PATIENCE)
        while not concurrent.futures.wait([collecting], random.uniform(*every)).done:
            meanwhile()
        return collecting.result()


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
