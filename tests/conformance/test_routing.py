"""Two brokers as one keep the promises of the ports, in turn and one for the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.routing import failover, round_robin
from tranship.testing.harness import Harness
from tranship.testing.suites import (
    ConsumerSuite,
    ControlSuite,
    InspectorSuite,
    LifecycleSuite,
    ResultStoreSuite,
    SubmitterSuite,
)


class Promises(SubmitterSuite, ConsumerSuite, ResultStoreSuite, ControlSuite, InspectorSuite, LifecycleSuite):
    """All of them."""


@pytest.mark.campaign
class TestMemoriesInTurn(Promises):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness(round_robin("memory://a", "memory://b"))


class TestMemoriesForEachOther(Promises):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness(failover("memory://a", "memory://b"))


# A file and a server in turn keep these promises every day (test_routing_kinds), and two files those of a client.
@pytest.mark.campaign
class TestFilesInTurn(Promises):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(round_robin(*_files(tmp_path)))


@pytest.mark.campaign
class TestFilesForEachOther(Promises):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(failover(*_files(tmp_path)))


def _files(directory: Path) -> list[str]:
    return [f"sqlite:///{directory / name}.db" for name in ("a", "b")]
