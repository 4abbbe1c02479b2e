"""Handlers that block their event loop: the connection is the lease, and its heartbeats go on."""

from __future__ import annotations

import time

import pytest
from rabbitmq_kit import WITHIN, url_of

from tranship import AsyncClient, Worker, task
from tranship.testing.background import BackgroundWorker
from tranship.testing.context import CaseContext
from tranship.testing.facades import in_thread
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(120)

HEARTBEAT = 2


@pytest.mark.parametrize("how", ["asleep", "busy"])
async def test_heartbeats_go_on_while_a_handler_blocks(
    rabbitmq_service: Service, lab: CaseContext, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """For four heartbeats: one run of it and of its sibling, on the same connection."""
    runs: list[str] = []

    @task(name="block.block", queue="q")
    async def block(how: str) -> str:
        runs.append(how)
        end = time.monotonic() + HEARTBEAT * 4
        if how == "asleep":
            time.sleep(HEARTBEAT * 4)  # noqa: ASYNC251 - the point: nothing else runs on this loop meanwhile
        while time.monotonic() < end:
            pass
        return how

    @task(name="block.note", queue="q")
    async def note() -> str:
        runs.append("behind")
        return "behind"

    url = url_of(rabbitmq_service, namespace=lab.namespace, heartbeat=HEARTBEAT)
    background = BackgroundWorker(Worker(url, tasks=[block, note], name="blocked"))
    await in_thread(background.start)
    async with AsyncClient(lab.url()) as client:
        handles = [await client.submit(block, how), await client.submit(note)]
        assert [await handle.result(WITHIN + HEARTBEAT * 4) for handle in handles] == [how, "behind"]
    await in_thread(background.stop)
    assert runs == [how, "behind"]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("tranship")]
    assert not [one for one in said if "lost" in one or "failed" in one], said
    assert [one for one in said if "block.block" in one and "test_blocking_handlers.py" in one], said
