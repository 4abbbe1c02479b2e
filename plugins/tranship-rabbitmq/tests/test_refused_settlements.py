"""The server refuses what belongs to the end of a task: the message comes again once that is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from rabbitmq_kit import WITHIN, control_of, url_of

from tranship import AsyncClient, Retry, RetryPolicy, Worker, task
from tranship.testing.context import CaseContext
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(120)

USER = "hampered"


@pytest.fixture
def grant(rabbitmq_service: Service) -> Iterator[Callable[[str], str]]:
    """Say what a user of the test's own may configure, write and read."""
    control = control_of(rabbitmq_service)
    control("add_user", USER, USER)
    try:
        yield lambda what: control("set_permissions", "-p", "/", USER, what, what, what)
    finally:
        control("delete_user", USER)


async def test_a_task_whose_end_is_refused_comes_again(rabbitmq_service: Service, lab: CaseContext, grant) -> None:
    """Rights are taken away while it runs, and given back: it runs again, and its result arrives."""
    runs: list[int] = []
    gate = asyncio.Event()

    @task(name="refused.note", queue="q", retry=RetryPolicy(max_attempts=9))
    async def note() -> int:
        runs.append(1)
        await gate.wait()
        if len(runs) == 1:
            # A retry needs what this connection has never touched: rights that were looked at are remembered for a while.
            raise Retry(0.05)
        return len(runs)

    await asyncio.to_thread(grant, ".*")
    worker = Worker(url_of(rabbitmq_service, f"{USER}:{USER}", namespace=lab.namespace), tasks=[note])
    serving = lab.start(worker.serve())
    async with AsyncClient(lab.url()) as client:
        handle = await client.submit(note)
        await lab.eventually(lambda: _is(runs == [1]), "it runs")
        await asyncio.to_thread(grant, "^$")
        gate.set()
        await lab.eventually(lambda: _is(worker.status().done == 1), "its end is refused")
        await asyncio.to_thread(grant, ".*")
        # It may have come again before the rights did: rabbitmqctl takes its time.
        result = await handle.result(WITHIN)
        assert result == len(runs) >= 2
    worker.stop()
    await serving


async def _is(condition: bool) -> bool:
    return condition
