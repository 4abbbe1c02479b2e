"""Both facades and the worker keep their promises on two brokers in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.routing import round_robin
from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, WorkerSuite


class TestFacadeOnFilesInTurn(FacadeSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(_files(tmp_path))


# A worker meets routing in test_routing_members every day; the whole suite takes half a minute of two processors.
@pytest.mark.campaign
class TestWorkerOnFilesInTurn(WorkerSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(_files(tmp_path))


def _files(directory: Path) -> str:
    return round_robin(*(f"sqlite:///{directory / name}.db" for name in ("a", "b")))
