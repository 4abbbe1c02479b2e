"""Tasks that are submitted by name go to the queue that the settings have for them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tranship import AsyncClient, Client, Settings, named, task
from tranship.operations import Operator


@task(name="shop.own")
def own() -> None:
    """Knows its queue."""


CALLS: list[Any] = ["shop.resize", "shop.add", named("shop.add"), named("shop.add", queue="urgent"), "elsewhere", own]
QUEUES = {"media": 1, "celery": 2, "urgent": 1, "default": 2}


@pytest.fixture
def settings() -> Settings:
    return Settings.load({}, broker_url=f"memory://{uuid.uuid4().hex}", task_routes="shop.resize=media, shop.*=celery")


def ready(settings: Settings) -> dict[str, int]:
    with Operator(settings=settings) as operator:
        return {report.name: sum(report.ready.values()) for report in operator.queues() if any(report.ready.values())}


def test_each_submit_goes_where_the_settings_say(settings):
    with Client(settings=settings) as client:
        for one in CALLS:
            client.submit(one)
        assert ready(settings) == QUEUES


def test_a_batch_too(settings):
    with Client(settings=settings) as client:
        client.submit_many((named(one) if isinstance(one, str) else one).call() for one in CALLS)
        assert ready(settings) == QUEUES


async def test_the_asynchronous_client_too(settings):
    async with AsyncClient(settings=settings) as client:
        for one in CALLS:
            await client.submit(one)
        await client.submit_many([named("shop.add").call()])
        assert ready(settings) == {**QUEUES, "celery": 3}
