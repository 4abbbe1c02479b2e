"""What has to be done after a connect is done, however often it has to be tried."""

from __future__ import annotations

import asyncio

import pytest

from tranship.errors import BrokerUnreachable
from tranship_rabbitmq._hooks import Hooks
from tranship_rabbitmq.amqp.ends import ChannelEnded


async def test_one_that_fails_is_tried_again_and_the_others_are_not():
    calls: list[str] = []
    done = asyncio.Event()

    async def stubborn() -> None:
        calls.append("stubborn")
        if calls.count("stubborn") < 3:
            raise ChannelEnded("NOT_FOUND - home node is down", 404)
        done.set()

    async def easy() -> None:
        calls.append("easy")

    hooks = Hooks(lambda: True)
    hooks.add(stubborn)
    hooks.add(easy)
    await hooks.run()
    await asyncio.wait_for(done.wait(), 5)
    assert calls == ["stubborn", "easy", "stubborn", "stubborn"]
    await hooks.aclose()


async def test_without_a_connection_it_is_for_the_next_one():
    async def failing() -> None:
        raise ChannelEnded("gone", 404)

    hooks = Hooks(lambda: False)
    remove = hooks.add(failing)
    with pytest.raises(BrokerUnreachable, match="gone"):
        await hooks.run()
    remove()
    await hooks.run()


async def test_closing_ends_the_trying():
    calls = 0

    async def hopeless() -> None:
        nonlocal calls
        calls += 1
        raise ChannelEnded("NOT_FOUND", 404)

    hooks = Hooks(lambda: True)
    hooks.add(hopeless)
    await hooks.run()
    await hooks.aclose()
    before = calls
    await asyncio.sleep(0.1)
    assert calls == before
