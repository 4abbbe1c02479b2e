"""Both facades and the worker keep their promises on NATS."""

from __future__ import annotations

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, WorkerSuite

pytestmark = pytest.mark.timeout(180)


class TestFacadeOnNats(FacadeSuite):
    @pytest.fixture
    def harness(self, nats_harness) -> Harness:
        return nats_harness()


class TestWorkerOnNats(WorkerSuite):
    @pytest.fixture
    def harness(self, nats_harness) -> Harness:
        return nats_harness()
