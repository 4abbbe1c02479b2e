"""The connection-sharing table of the document, row by row, and the limits: slots, a fair line, connections."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sides import KINDS, side_of

from interop.runs import until
from tranship.compat.sandai import (
    ClientPoolTimeoutError,
    OperatorClient,
    TaskTimeoutError,
    create_async_client,
    create_client,
)
from tranship.testing.services import ServiceFinder, redis_recipe

pytestmark = pytest.mark.usefixtures("no_links_left")


@pytest.fixture
def own_redis():
    """A Redis that nobody else is connected to, and that this test may harm."""
    pytest.importorskip("tranship_redis")
    service = ServiceFinder([redis_recipe()]).find("redis")
    service.start()
    yield service
    service.close()


@pytest.fixture
def connected(own_redis) -> Iterator[Callable[[], int]]:
    """Count the connections of everybody else, as the server knows them."""
    from redis import Redis

    with Redis.from_url(own_redis.url) as redis:
        own, one_at_a_time = redis.client_id(), threading.Lock()

        def count() -> int:
            with one_at_a_time:
                return len([one for one in redis.client_list() if int(one["id"]) != own])

        yield count


@pytest.fixture
def make(own_redis) -> Iterator[Callable[..., OperatorClient]]:
    """Make opened clients, with everything the table is about said in so many words."""
    clients: list[OperatorClient] = []
    base = own_redis.url.rpartition("/")[0]
    said = {
        "shared_transport_scope": "operator",
        "operator_name": "video-clipper",
        "operator_version": "v1",
        "broker_url": f"{base}/0",
        "result_backend": f"{base}/1",
        "task_serializer": "msgpack",
        "result_serializer": "json",
        "accept_content": ["json", "msgpack"],
        "broker_pool_limit": 12,
        "backend_pool_limit": 12,
        "backend_poll_concurrency": 6,
    }

    def made(**different: Any) -> OperatorClient:
        places = {
            name: f"{base}/{value}" for name, value in different.items() if name in ("broker_url", "result_backend")
        }
        client = OperatorClient(**{**said, **different, **places})
        clients.append(client)
        assert client.ping()
        return client

    yield made
    for client in clients:
        client.close()


def shared(one: OperatorClient, other: OperatorClient) -> tuple[bool, bool]:
    """Whether they share what belongs to the broker, and to the result backend: connection and slots together."""
    mine, others = one._transport.blocking_links(None), other._transport.blocking_links(None)
    slots, other_slots = one._transport._limits(), other._transport._limits()
    broker, backend = mine.broker is others.broker, mine.backend is others.backend
    assert (broker, backend) == (slots[0] is other_slots[0], slots[1] is other_slots[1])
    return broker, backend


ROWS = [
    ("shared_transport_scope", "process", (False, False)),
    ("operator_name", "other", (False, False)),
    ("operator_version", "v2", (False, False)),
    ("broker_url", 2, (False, True)),
    ("result_backend", 2, (True, False)),
    ("task_serializer", "json", (False, True)),
    ("result_serializer", "msgpack", (True, False)),
    ("accept_content", ["json"], (False, False)),
    ("broker_pool_limit", 4, (False, True)),
    ("backend_pool_limit", 4, (True, False)),
    ("backend_poll_concurrency", 3, (True, False)),
    ("pool_acquire_timeout", 1.0, (True, True)),
    ("timeout", 5, (True, True)),
    ("priority", "low", (True, True)),
    ("cancel_key", "k", (True, True)),
    ("debug", True, (True, True)),
    ("auto_forget_result", False, (True, True)),
]


@pytest.mark.parametrize(("name", "value", "expected"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_row_of_the_table(make, connected, name, value, expected):
    one = make()
    assert shared(one, make()) == (True, True)
    before = connected()
    other = make(**{name: value})
    assert shared(one, other) == expected
    # What is shared is one connection on the server, too.
    assert connected() - before == expected.count(False)


def test_different_operators_share_within_the_process_if_told_so(make):
    one = make(shared_transport_scope="process")
    other = make(shared_transport_scope="process", operator_name="other", operator_version="v7")
    assert shared(one, other) == (True, True)
    assert shared(one, make(shared_transport_scope="process", broker_pool_limit=3)) == (False, True)


def test_a_shared_connection_outlives_one_of_its_clients(make, connected):
    one, other = make(), make()
    before = connected()
    one.close()
    assert other.ping()
    assert connected() == before
    other.close()
    until(lambda: connected() == 0, "all connections are closed")


# Limits.


def test_connections_do_not_grow_with_requests(own_redis, connected):
    url, peak = own_redis.url, [0]
    with ThreadPoolExecutor(64) as pool:
        clients = [create_client("video-clipper", "v1", broker_url=url) for _ in range(16)]
        calls = [pool.submit(clients[n % 16].async_call, [], {"n": n}) for n in range(640)]
        while not all(call.done() for call in calls):
            peak[0] = max(peak[0], connected())
        assert {type(call.exception()) for call in calls} == {type(None)}
        assert peak[0] <= 2
        for client in clients:
            client.close()
    until(lambda: connected() == 0, "all connections are closed")


def test_eight_loops_share_four_connections(own_redis, connected):
    peaks: list[int] = []
    together = threading.Barrier(8)

    async def calls() -> None:
        async with create_async_client("video-clipper", "v1", broker_url=own_redis.url) as client:
            handles = await asyncio.gather(*(client.async_call([], {"n": n}) for n in range(20)))
            assert len({handle.id for handle in handles}) == 20
            await asyncio.to_thread(together.wait, 20)
            peaks.append(connected())
            await asyncio.to_thread(together.wait, 20)

    threads = [threading.Thread(target=asyncio.run, args=(calls(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(peaks) == 8
    assert max(peaks) <= 4
    until(lambda: connected() == 0, "all connections are closed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_slot_is_an_unconfirmed_hand_over(own_redis, kind):
    options = {"broker_url": own_redis.url, "broker_pool_limit": 2, "pool_acquire_timeout": 0.4}
    with create_client("a", "v1", **options) as holder, side_of(kind, **options) as side, ThreadPoolExecutor(2) as pool:
        assert holder.ping()
        client = side.client("a", "v1")
        assert side(client.ping())
        own_redis.pause()
        try:
            held = [pool.submit(holder.async_call, [], {}) for _ in range(2)]
            slots = holder._transport._limits()[0]
            until(lambda: slots.taken == 2, "both slots are taken")
            begun = time.monotonic()
            with pytest.raises(ClientPoolTimeoutError) as full:
                side(client.async_call([], {}))
            assert 0.35 < time.monotonic() - begun < 3
            assert (full.value.pool_name, full.value.timeout, full.value.limit) == ("broker", 0.4, 2)
            submitted = side(client.batch_submit([([], {})] * 2))
            assert {type(one.error) for one in submitted} == {ClientPoolTimeoutError}
        finally:
            own_redis.resume()
        assert all(call.result(10).id for call in held)
        until(lambda: slots.taken == 0, "both slots are free")
        assert side(client.async_call([], {})).id


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_less_time_than_the_slots_times_out_by_himself(own_redis, kind):
    options = {"broker_url": own_redis.url, "broker_pool_limit": 1, "pool_acquire_timeout": 9.0}
    with create_client("a", "v1", **options) as holder, side_of(kind, **options) as side, ThreadPoolExecutor(1) as pool:
        assert holder.ping()
        client = side.client("a", "v1")
        assert side(client.ping())
        own_redis.pause()
        try:
            held = pool.submit(holder.async_call, [], {})
            until(lambda: holder._transport._limits()[0].taken == 1, "the slot is taken")
            begun = time.monotonic()
            with pytest.raises(TaskTimeoutError) as late:
                side(client.sync([], {}, timeout=1.2))
            assert late.value.timeout == 1.2
            (found,) = side(client.batch_sync_detailed([([], {})], timeout=1))
            assert (found.submitted, type(found.error)) == (False, TaskTimeoutError)
            assert time.monotonic() - begun < 6
        finally:
            own_redis.resume()
        assert held.result(10).id


def test_a_backend_slot_is_a_read(own_redis):
    options = {"broker_url": own_redis.url, "backend_poll_concurrency": 1, "pool_acquire_timeout": 0.3}
    with create_client("a", "v1", **options) as client, ThreadPoolExecutor(1) as pool:
        handle = client.async_call([], {})
        own_redis.pause()
        try:
            reading = pool.submit(handle.ready)
            until(lambda: client._transport._limits()[1].taken == 1, "the slot is taken")
            with pytest.raises(ClientPoolTimeoutError) as full:
                handle.ready()
            assert (full.value.pool_name, full.value.limit) == ("backend", 1)
        finally:
            own_redis.resume()
        assert reading.result(10) is False
        assert handle.ready() is False


async def test_a_waiter_holds_no_slot(own_redis):
    limits = {"broker_pool_limit": 1, "backend_pool_limit": 1, "pool_acquire_timeout": 5.0}
    async with create_async_client("nobody", "v1", broker_url=own_redis.url, **limits) as client:
        waiting = asyncio.gather(*(client.sync([], {}, timeout=30) for _ in range(50)), return_exceptions=True)
        slots = client._transport._limits()
        links = await client._transport.links(None)
        async with asyncio.timeout(20):
            while len(links.backend.waiting) < 50:
                await client.async_call([], {})
        assert len(links.backend.waiting) == 50
        assert [one.taken for one in slots] == [0, 0]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_a_forked_child_has_slots_and_connections_of_its_own(own_redis):
    import os

    with create_client("a", "v1", broker_url=own_redis.url) as client:
        client.async_call([], {})
        before = client._transport._limits()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                client.async_call([], {})
                status = 0 if client._transport._limits() is not before else 2
                client.close()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        client.async_call([], {})
