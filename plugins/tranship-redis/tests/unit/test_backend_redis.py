"""The backend as a whole: what it says of itself, what it opens, and that nothing is left of it."""

import asyncio
import contextlib
import importlib.metadata
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from link_kit import clients, server, until
from redis_kit import until_works

from tranship import codec
from tranship.driver import DriverBackend
from tranship.errors import BrokerUnreachable, ClosedError, InvalidOptionError, InvalidURLError
from tranship.ports import Capability, ConnectionEvent, Level
from tranship.registry import Registry
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.services import ProcessService, ask_redis
from tranship_redis._backend import make_backend


@pytest.fixture(scope="module")
def redis() -> Iterator[ProcessService]:
    with server() as service:
        yield service


@pytest.fixture
def plain() -> Iterator[ProcessService]:
    with server("--appendonly", "no") as service:
        yield service


def make(url: str, **options: Any) -> DriverBackend:
    broker = BrokerURL.parse(url).with_options(**options)
    return make_backend(BackendConfig(broker, lambda _key, create: create()))


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[DriverBackend]:
    backend = make(url, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def test_the_entry_point_and_its_schemes() -> None:
    (point,) = [one for one in importlib.metadata.entry_points(group="tranship") if one.name == "redis"]
    assert point.value == "tranship_redis"
    for scheme in ("redis", "rediss", "valkey", "valkeys"):
        assert Registry().create(f"{scheme}://localhost:1/0").name == "redis"
    assert Registry().create("unix:///run/redis.sock?db=2").name == "redis"


def test_the_hook_imports_no_redis_library() -> None:
    code = "import sys, tranship_redis; sys.exit(any(name in sys.modules for name in ('redis', 'hiredis')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_what_it_can_do(redis: ProcessService) -> None:
    async with opened(redis.url) as backend:
        found = backend.capabilities
    absent = {capability for capability, support in found.items() if support.level is Level.NONE}
    assert absent == {Capability.AGING, Capability.KNOWS_IDS}
    assert found[Capability.DURABLE].properties == {"fsync": "always"}
    assert found[Capability.RESULT_PUSH].properties == {"with_submit": True}
    assert found[Capability.RESULTS].properties == {"content_type": codec.JSON}
    assert found[Capability.RETRY_SAFE].properties == {"among": "checked"}


async def test_what_depends_on_server_and_options(plain: ProcessService) -> None:
    async with opened(plain.url, protocol=2, result_serializer="msgpack") as backend:
        found = backend.capabilities
    assert found[Capability.DURABLE].level is Level.NONE
    assert found[Capability.RESULT_PUSH].properties == {"with_submit": False}
    assert found[Capability.RESULTS].properties == {"content_type": codec.MSGPACK}


async def test_a_server_that_keeps_its_configuration_to_itself(redis: ProcessService) -> None:
    ask_redis(redis.place, "ACL", "SETUSER", "guest", "reset", "on", ">pw", "~*", "&*", "+@all", "-config")
    async with opened(f"redis://guest:pw@127.0.0.1:{redis.place.port}/0") as backend:
        assert backend.capabilities[Capability.DURABLE].properties == {"fsync": "unknown"}


async def test_a_server_that_throws_things_away_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with server("--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as careless:
        async with opened(careless.url):
            pass
    assert "maxmemory-policy is allkeys-lru" in caplog.text


async def test_names(redis: ProcessService) -> None:
    url = redis.url.replace("redis://", "redis://:ignored@")
    async with opened(url) as backend, opened(url) as other:
        assert backend.name == "redis"
        assert "ignored" not in backend.url + repr(backend)
        assert str(uuid.UUID(backend.address)) == backend.address != other.address
        assert await backend.native.call("ECHO", "x") == b"x"


async def test_ensure_makes_queues_known(redis: ProcessService) -> None:
    async with opened(redis.url, namespace="shop") as backend:
        await backend.ensure([])
        await backend.ensure(["a", "b"])
        await backend.ensure(["b"])
        await backend.ping()
    assert sorted(ask_redis(redis.place, "SMEMBERS", "shop:tranship:queues")) == [b"a", b"b"]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_connections_are_counted_and_go(redis: ProcessService, protocol: int) -> None:
    before = clients(redis)
    async with opened(redis.url, protocol=protocol) as backend:
        assert len(clients(redis) - before) == (1 if protocol == 3 else 2)
        await backend.ping()
    await until(lambda: clients(redis) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_second_connection_comes_with_the_first_consumer(redis: ProcessService) -> None:
    before = clients(redis)
    async with opened(redis.url, namespace="second") as backend:
        consumers = [backend.consumer(["q"]) for _ in range(3)]
        assert len(clients(redis) - before) == 1
        await asyncio.gather(*(consumer.receive(1, 0) for consumer in consumers))
        assert len(clients(redis) - before) == 2
        await consumers[0].aclose()
    await until(lambda: clients(redis) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closed_while_the_second_connection_is_opened(redis: ProcessService) -> None:
    before = clients(redis)
    for rounds in range(20):
        backend = make(redis.url)
        await backend.open()
        receiving = asyncio.create_task(backend.consumer(["q"]).receive(1, 5))
        await asyncio.sleep(rounds * 0.0002)
        await backend.aclose()
        with pytest.raises(ClosedError):
            await receiving
    await until(lambda: clients(redis) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_second_connection_that_failed_is_tried_again(plain: ProcessService) -> None:
    async with opened(plain.url) as backend:
        consumer = backend.consumer(["q"])
        plain.kill()
        for _ in range(5):
            with pytest.raises(BrokerUnreachable):
                await consumer.receive(1, 0)
        await asyncio.to_thread(plain.start)
        assert not (await until_works(lambda: consumer.receive(1, 0))).deliveries


async def test_the_rights_that_the_readme_names_are_enough(redis: ProcessService) -> None:
    rules = ("~media*", "~unacked*", "~_kombu*", "~celery*", "~tranship:*", "&celery-task-meta-*", "&/*")
    users = {"all": ("~*", "&*"), "some": rules}
    # Redis 6.2 gives a new user all channels.
    first = ("reset", "resetchannels", "on", ">pw")
    for name, names in users.items():
        ask_redis(redis.place, "ACL", "SETUSER", name, *first, *names, "+@all", "-@dangerous", "+info")
        async with opened(f"redis://{name}:pw@127.0.0.1:{redis.place.port}/0") as backend:
            consumer = backend.consumer(["media"])
            await backend.ensure(["media"])
            await backend.control().listen(lambda _: None, worker="w")
            await backend.results().get_many(["x"])
            assert not (await consumer.receive(1, 0.05)).deliveries
            assert await backend.inspector().queues() == []
            assert await backend.inspector().dead() == []


async def test_closed_means_closed(redis: ProcessService) -> None:
    backend = make(redis.url)
    with pytest.raises(ClosedError, match="not open"):
        await backend.results().get_many(["x"])
    await backend.aclose()
    with pytest.raises(ClosedError):
        await backend.open()
    async with opened(redis.url) as backend:
        with pytest.raises(ClosedError, match="before"):
            await backend.open()
        ports = [backend.submitter(), backend.results(), backend.control(), backend.inspector()]
        assert ports == [backend.submitter(), backend.results(), backend.control(), backend.inspector()]
    await backend.aclose()
    for use in (backend.results, backend.control):
        with pytest.raises(ClosedError):
            use()
    with pytest.raises(ClosedError):
        await backend.ping()
    with pytest.raises(ClosedError):
        await ports[1].get_many(["x"])


async def test_closed_while_opening(redis: ProcessService) -> None:
    before = clients(redis)
    for rounds in range(20):
        backend = make(redis.url, protocol=2 + rounds % 2)
        opening = asyncio.create_task(backend.open())
        await asyncio.sleep(rounds * 0.0002)
        await backend.aclose()
        with contextlib.suppress(ClosedError):
            await opening
    await until(lambda: clients(redis) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_while_opening(redis: ProcessService) -> None:
    before = clients(redis)
    for rounds in range(20):
        backend = make(redis.url, protocol=2 + rounds % 2)
        opening = asyncio.create_task(backend.open())
        await asyncio.sleep(rounds * 0.0002)
        opening.cancel()
        await asyncio.wait({opening})
        await backend.aclose()
    await until(lambda: clients(redis) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_nobody_there() -> None:
    backend = make("redis://127.0.0.1:1/0")
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        await backend.open()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_events_of_the_connection(plain: ProcessService) -> None:
    backend = make(plain.url)
    events: list[tuple[ConnectionEvent, int]] = []
    backend.on_event(lambda event, generation: events.append((event, generation)))
    await backend.open()
    plain.kill()
    await until(lambda: events == [(ConnectionEvent.LOST, 1)])
    with pytest.raises(BrokerUnreachable):
        await backend.ping()
    await asyncio.to_thread(plain.start)
    await until(lambda: len(events) == 2)
    assert events[1] == (ConnectionEvent.RESTORED, 2)
    await backend.ping()
    await backend.aclose()
    assert len(events) == 2


def test_mistakes_in_the_url_are_told_before_anything_is_tried() -> None:
    with pytest.raises(InvalidURLError, match="database"):
        make("redis://h/zero")
    with pytest.raises(InvalidOptionError, match="keepalive"):
        make("redis://h/0", keepalive=0)
    with pytest.raises(InvalidOptionError, match="known are"):
        make("redis://h/0", keepalives=1)
