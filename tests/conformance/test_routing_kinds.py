"""Brokers of different kinds as one keep the promises of the ports: a server and a file, in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tranship.routing import RoutingOptions, brokers_of, round_robin
from tranship.settings import BrokerURL
from tranship.testing.harness import Harness
from tranship.testing.services import Place, Service, ServiceFinder, ask_redis
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    ResultStoreSuite,
    SubmitterSuite,
)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Callable[[str], Service]:
    """Say where the server of this kind is."""

    def server(kind: str) -> Service:
        if find_spec(f"tranship_{kind}") is None:
            (pytest.fail if kind in ServiceFinder().required else pytest.skip)(f"tranship-{kind} is not installed")
        found: Service = request.getfixturevalue("tranship_service")(kind)
        return found

    return server


class _RedisAndFile(Harness):
    """Other programs leave their marks at the Redis."""

    def __init__(self, redis: Service, file: str) -> None:
        super().__init__(round_robin(redis.url, file))
        url = BrokerURL.parse(redis.url)
        self._place = Place(port=url.port or 6379, directory=Path(), host=url.host)

    async def leave_mark(self, key: str) -> None:
        await asyncio.to_thread(ask_redis, self._place, "SET", key, "1")

    async def take_mark(self, key: str) -> None:
        await asyncio.to_thread(ask_redis, self._place, "DEL", key)


class TestRedisAndFileInTurn(
    SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    @pytest.fixture
    def harness(self, tmp_path: Path, server: Callable[[str], Service]) -> Harness:
        return _RedisAndFile(server("redis"), f"sqlite:///{tmp_path / 'b.db'}")


@pytest.mark.campaign
class TestNatsAndFileInTurn(
    SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    @pytest.fixture
    def harness(self, tmp_path: Path, server: Callable[[str], Service]) -> Harness:
        return Harness(round_robin(server("nats").url, f"sqlite:///{tmp_path / 'b.db'}"))


@pytest.mark.campaign
class TestRabbitsInTurn(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    """Results are pushed to who submitted, and kept nowhere."""

    @pytest.fixture
    def harness(self, server: Callable[[str], Service]) -> Harness:
        url = server("rabbitmq").url
        return _Rabbits(round_robin(url, f"{url}?client_name=second"))


class _Rabbits(Harness):
    """Two connections to one server, with queues of their own."""

    def url(self, namespace: str, options: Mapping[str, Any]) -> str:
        first, second = (member.with_options(namespace=f"{namespace}-{number}") for number, member in self._members())
        return round_robin(first.reveal(), second.reveal(), **options)

    def _members(self) -> Iterator[tuple[int, BrokerURL]]:
        url = BrokerURL.parse(self.base_url)
        return enumerate(brokers_of(url, RoutingOptions.read(url)))
