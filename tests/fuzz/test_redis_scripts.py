"""Redis' Lua scripts, fed what somebody pushes into the lists and hashes they read: no script ends in an error."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hostile import TEXTS, as_json, dicts, documents, either, maps

from tranship.ports import Backend, Settlement, Verdict
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.services import Place, Service, ask_redis

pytest.importorskip("tranship_redis")

INPUTS = int(os.environ.get("TRANSHIP_TEST_FUZZ", "0")) // 100
SEED = int(os.environ.get("TRANSHIP_TEST_FUZZ_SEED", "0"))
LIST = b"q\x06\x163"
"""Where Celery and we keep the level *normal* of the queue ``q``."""
LONGEST = 2.0
"""Seconds for ten elements of a few kilobytes; the server is busy for a few milliseconds."""

TAGS = [*TEXTS, 1.5, 10**30, None, True, [], {}]


def _tagged(random: Random) -> bytes:
    odd = maps(random)
    return as_json({"properties": {"delivery_tag": random.choice(TAGS), **odd}, **odd})


elements = either(documents(json_only=True), _tagged)


@pytest.mark.timeout(max(120, INPUTS))
def test_no_element_of_a_stranger_ends_a_script(tranship_service: Callable[[str], Service]) -> None:
    service = tranship_service("redis")
    url = BrokerURL.parse(service.url)
    place = Place(port=url.port or 6379, directory=Path(), host=url.host)

    def raw(*words: str | bytes) -> Any:
        return ask_redis(place, *words)

    # What is left of them would end the Celery workers of other tests on this server.
    with contextlib.ExitStack() as stack:
        stack.callback(raw, "FLUSHALL")
        runner = stack.enter_context(asyncio.Runner())
        for seed in range(SEED * INPUTS, SEED * INPUTS + max(20, INPUTS)):
            random = Random(seed)
            pushed = [elements(random) for _ in range(random.randrange(1, 11))]
            unacked = dicts(TEXTS, elements, 2)(random)
            raw("FLUSHALL")
            for name, element in unacked.items():
                tag = name.encode("utf-8", "surrogatepass")
                raw("HSET", "unacked", tag, element)
                raw("ZADD", "unacked_index", "1", tag)
            raw("LPUSH", LIST, *pushed)
            runner.run(asyncio.wait_for(drained(service.url), 30))
            assert raw("LLEN", LIST) == 0


async def drained(url: str) -> None:
    backend = Registry().create(url)
    await backend.open()
    try:
        began = time.monotonic()
        await _drained(backend)
        assert time.monotonic() - began < LONGEST
    finally:
        await backend.aclose()


async def _drained(backend: Backend) -> None:
    consumer = backend.consumer(["q"])
    while found := (await consumer.receive(20, 0.05)).deliveries:
        verdicts = [Verdict.ACK, Verdict.REJECT]
        await consumer.settle([Settlement(one, verdicts[at % 2], reason="r") for at, one in enumerate(found)])
    letters = await backend.inspector().dead(None, limit=100)
    assert await backend.inspector().dead_purge([one.id for one in letters]) == len(letters)
    await backend.inspector().queues()
