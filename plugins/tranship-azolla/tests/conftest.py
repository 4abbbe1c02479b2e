"""What every test of this plugin may use: an orchestrator, and shepherds that start the command for each task."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azolla_server import Orchestrator, Shepherd


@pytest.fixture
def orchestrator() -> Iterator[Orchestrator]:
    started = Orchestrator()
    yield started
    started.close()


@pytest.fixture
def shepherd(orchestrator: Orchestrator, tmp_path: Path) -> Iterator[Callable[..., Shepherd]]:
    """Start a shepherd whose processes have the tasks of a module with this text."""
    started: list[Shepherd] = []

    def start(tasks: str, **options) -> Shepherd:
        (tmp_path / "shepherd_tasks.py").write_text(tasks)
        run = "import sys, tranship_azolla; sys.argv += ['--task-modules', 'shepherd_tasks']; tranship_azolla.main()"
        started.append(Shepherd(orchestrator, [sys.executable, "-c", run], tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
