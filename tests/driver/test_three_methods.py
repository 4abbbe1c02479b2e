"""Send, take and end make a backend that submits and works; what it does not declare is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from driver import three_methods
from tranship import AsyncClient, TaskState, Worker, task
from tranship.connections import process_table
from tranship.errors import ClosedError, Reject, UnsupportedError
from tranship.ports import Level
from tranship.registry import Registry
from tranship.settings import BrokerURL, Settings


@task(name="three.add")
async def add(a: int, b: int) -> int:
    return a + b


@task(name="three.one", limit=1)
async def one_at_once() -> None:
    """Take a place in a line, and nobody works."""


@task(name="three.refuse", queue="q")
async def refuse() -> None:
    raise Reject("not this one")


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.register(three_methods)
    return registry


def settings(path: Path, name: str) -> Settings:
    result_url = BrokerURL.parse(f"sqlite:///{path}/results.db")
    return Settings(broker_url=BrokerURL.parse(f"three://{name}"), result_url=result_url)


async def test_fifty_tasks_are_submitted_and_worked(registry: Registry, tmp_path: Path) -> None:
    chosen = settings(tmp_path, "fifty")
    worker = Worker(settings=chosen, tasks=[add], registry=registry)
    serving = asyncio.create_task(worker.serve())
    async with AsyncClient(settings=chosen, registry=registry) as client:
        handles = [await client.submit(add, number, 1) for number in range(50)]
        assert [await handle.result(20) for handle in handles] == [number + 1 for number in range(50)]
    worker.stop()
    await serving


async def test_a_task_in_a_line_of_the_store_is_known(registry: Registry, tmp_path: Path) -> None:
    result_url = BrokerURL.parse(f"sqlite:///{tmp_path}/results.db?knows_ids=true")
    chosen = settings(tmp_path, "lines").replace(result_url=result_url)
    async with AsyncClient(settings=chosen, registry=registry) as client:
        handles = [await client.submit(one_at_once) for _ in range(2)]
        assert [(await one.info()).state for one in handles] == [TaskState.PENDING] * 2
        assert await client.handle("nobody-has-submitted-it").state() is TaskState.UNKNOWN


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"priority": "high"}, "has no priorities"),
        ({"delay": timedelta(seconds=60)}, "cannot delay tasks"),
        ({"dedup_key": "k"}, "cannot recognise duplicates"),
    ],
    ids=["priority", "delay", "dedup-key"],
)
async def test_what_is_not_declared_is_refused(
    registry: Registry, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    async with AsyncClient(settings=settings(tmp_path, "refused"), registry=registry) as client:
        with pytest.raises(UnsupportedError, match=f"three {says}.*leave it out"):
            await client.submit(add.options(**options), 1, 2)


async def test_missing_ports_refuse(registry: Registry) -> None:
    backend = registry.create("three://ports")
    await backend.open()
    assert {name for name, support in backend.capabilities.items() if support.level is not Level.NONE} == set()
    with pytest.raises(UnsupportedError, match="three has no results"):
        backend.results()
    with pytest.raises(UnsupportedError, match="three has no control"):
        backend.control()
    with pytest.raises(UnsupportedError, match="three cannot say what is in its queues"):
        await backend.inspector().queues()
    for asked in (backend.inspector().dead(), backend.inspector().dead_purge()):
        with pytest.raises(UnsupportedError, match="three cannot say what is in its queues: name the queue"):
            await asked
    with pytest.raises(UnsupportedError, match="three keeps no rows"):
        await backend.inspector().workers()
    await backend.aclose()
    with pytest.raises(ClosedError):
        await backend.inspector().queues()


async def test_a_rejected_task_is_kept_in_a_queue_of_its_own(registry: Registry, tmp_path: Path) -> None:
    chosen = settings(tmp_path, "rejected")
    worker = Worker(settings=chosen, tasks=[refuse], registry=registry)
    serving = asyncio.create_task(worker.serve())
    async with AsyncClient(settings=chosen, registry=registry) as client:
        handle = await client.submit(refuse)
        assert (await handle.wait(20)).state.terminal
    worker.stop()
    await serving
    backend = registry.create("three://rejected", shared=process_table().shared)
    await backend.open()
    (letter,) = await backend.inspector().dead("q")
    assert (letter.task_id, letter.reason, letter.queue) == (handle.id, "not this one", "q")
    (left,) = (await backend.consumer(["q.dead"]).receive(5, 1.0)).deliveries
    assert left.queue == "q.dead"
    await backend.aclose()


async def test_ids_cannot_be_kept_where_there_are_no_rows(registry: Registry, tmp_path: Path) -> None:
    chosen = settings(tmp_path, "ids").replace(broker_url=BrokerURL.parse("three://ids?knows_ids=true"))
    with pytest.raises(UnsupportedError, match="knows_ids: three has no table to keep ids in"):
        await AsyncClient(settings=chosen, registry=registry).open()
