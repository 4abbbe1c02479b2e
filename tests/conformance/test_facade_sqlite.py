"""Both facades and the worker keep their promises on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tranship.testing.harness import Harness
from tranship.testing.suites import FacadeSuite, WorkerSuite


class TestFacadeOnSQLite(FacadeSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(f"sqlite:///{tmp_path / 'conformance.db'}")


class TestWorkerOnSQLite(WorkerSuite):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Harness:
        return Harness(f"sqlite:///{tmp_path / 'conformance.db'}")
