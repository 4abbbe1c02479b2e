"""The table of planted faults and the cases that caught them, under the results."""

from __future__ import annotations

import pytest

CAUGHT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CAUGHT] = []


@pytest.fixture
def note_caught(request: pytest.FixtureRequest):
    """Add a row to the table."""
    return request.config.stash[CAUGHT].append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash[CAUGHT]:
        terminalreporter.section("planted faults")
        for row in rows:
            terminalreporter.write_line(row)
