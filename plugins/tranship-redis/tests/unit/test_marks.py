"""Cancels that other programs leave as keys of their own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from redis_context import opened, shut
from redis_kit import Raw

from tranship.errors import BrokerRefused, ClosedError
from tranship.ports import CancelMarks
from tranship.testing.services import Service
from tranship_redis._context import Context
from tranship_redis._control import RedisControl


@pytest.fixture
async def context(redis_service: Service) -> AsyncIterator[Context]:
    async with opened(redis_service.url, namespace=uuid.uuid4().hex) as made:
        yield made


@pytest.fixture
def key() -> str:
    return f"job-{uuid.uuid4().hex}"


async def test_a_key_of_that_very_name_is_a_mark(context, raw: Raw, key):
    control = RedisControl(context)
    assert isinstance(control, CancelMarks)
    assert await control.marked([key, "other"]) == [False, False]
    await context.main.call("SET", key, "")
    assert await control.marked(["other", key, key]) == [False, True, True]
    await context.main.call("DEL", key)
    await context.main.call("HSET", key, "by", "somebody")
    assert await control.marked([key]) == [True], "whatever it holds"
    await context.main.call("DEL", key)
    assert await control.marked([key]) == [False]
    assert await control.marked([]) == []


async def test_the_template_of_the_url_says_where(redis_service: Service, key):
    async with opened(redis_service.url, cancel_template="off:{key}") as context:
        control = RedisControl(context)
        await context.main.call("SET", key, "1")
        assert await control.marked([key]) == [False]
        await context.main.call("SET", f"off:{key}", "1")
        assert await control.marked([key]) == [True]
        await context.main.call("DEL", key, f"off:{key}")


@pytest.mark.parametrize(
    "name", ["unacked_index", "celery-task-meta-7", "_kombu.binding.q", "tranship:x", "q\x06\x163"]
)
async def test_names_that_may_be_celerys_or_ours_are_none(redis_service: Service, name):
    async with opened(redis_service.url) as context:
        await context.main.call("SETNX", name, "1")
        assert await RedisControl(context).marked([name]) == [False]
        await context.main.call("DEL", name)


async def test_what_the_server_refuses_is_said(redis_service: Service, context, key):
    await context.main.call("ACL", "SETUSER", key, "on", ">pw", "~*", "&*", "+@all", "-exists")
    address = redis_service.url.partition("://")[2]
    async with opened(f"redis://{key}:pw@{address}") as limited:
        with pytest.raises(BrokerRefused, match="exists"):
            await RedisControl(limited).marked([key])
    await context.main.call("ACL", "DELUSER", key)


async def test_closed_is_closed(context):
    control = RedisControl(context)
    shut(context)
    with pytest.raises(ClosedError):
        await control.marked(["a"])
