"""A chord whose body somebody was about to send when he died: it is sent once his claim has ended."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis_kit import Raw

from tranship import AsyncClient, Worker, task
from tranship.envelope import new_id
from tranship.ports import ChordStart, own_chords_of
from tranship.testing.context import CaseContext
from tranship.testing.suites.worker.canvas import canvas_message, step

pytestmark = pytest.mark.timeout(60)
CLAIM = 1.5


@task(name="kit.member", queue="q")
async def member(value: int) -> int:
    return value


@task(name="kit.body", queue="q")
async def body(values: list[int]) -> list[int]:
    return values


async def test_a_claim_of_the_dead_is_waited_for(context: CaseContext, raw: Raw) -> None:
    backend = await context.open()
    chords = own_chords_of(backend)
    assert chords is not None
    group_id, end = new_id(), step("body")
    await chords.start(ChordStart(group_id=group_id, size=1))
    (size,) = [name for name in raw.names() if name.endswith(f"{group_id}.s".encode())]
    raw("SET", size[:-2] + b".c", "a Celery worker's token", "PX", str(int(CLAIM * 1000)))
    began = time.monotonic()
    place = {"group": group_id, "group_index": 0}
    await context.submit(backend, canvas_message("member", 7, then={"chord": end.encode()}, headers=place))
    async with AsyncClient(context.url()) as client:
        worker = Worker(context.url(), tasks=[member, body])
        serving = asyncio.create_task(worker.serve())
        assert await client.handle(end.options["task_id"]).result(20) == [7]
        assert time.monotonic() - began >= CLAIM, "the claim was respected for as long as it held"
        worker.stop()
        await serving
