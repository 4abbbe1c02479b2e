"""Both facades and the worker keep their promises on memory."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, WorkerSuite


class TestFacadeOnMemory(FacadeSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("memory://conformance")


class TestWorkerOnMemory(WorkerSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("memory://conformance")
