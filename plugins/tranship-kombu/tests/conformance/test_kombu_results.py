"""The store in Celery's tables keeps the promises of a result store, with a broker beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, ResultStoreSuite


class StoreHarness(Harness):
    """It takes no tasks."""

    takes_tasks = False


class TestStore(ResultStoreSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return StoreHarness(f"db+sqlite:///{tmp_path}/results.db")


@pytest.mark.campaign
class TestFacadeWithStore(FacadeSuite):
    """Memory, which has its own results, keeps them there."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        harness = Harness("memory://conformance")
        harness.results = Harness(f"db+sqlite:///{tmp_path}/results.db")
        return harness
