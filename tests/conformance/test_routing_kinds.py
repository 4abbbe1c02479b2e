"""Brokers of different kinds as one keep the promises of the ports: a Redis and a file, in turn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tranship.routing import round_robin
from tranship.testing.harness import Harness
from tranship.testing.services import ServiceFinder
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    ResultStoreSuite,
    SubmitterSuite,
)


class TestRedisAndFileInTurn(
    SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite
):
    @pytest.fixture
    def harness(self, tmp_path: Path, request: pytest.FixtureRequest) -> Harness:
        if find_spec("tranship_redis") is None:
            (pytest.fail if "redis" in ServiceFinder().required else pytest.skip)("tranship[redis] is not installed")
        redis = request.getfixturevalue("tranship_service")("redis")
        return Harness(round_robin(redis.url, f"sqlite:///{tmp_path / 'b.db'}"))
