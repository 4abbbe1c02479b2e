"""What failed in a run of the tests is written down, so that it may run once more, alone, and be named.

``pytest --outcome FILE`` writes which tests failed, or why a second run would hide something.
``pytest --second-run FILE``, with those tests as arguments, names them under a heading of their own. The nox session
`tests` does both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

MASS: Final = 10
"""More failures than these have a cause in common, and no second run removes it."""
_SHOWN: Final = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("second run")
    group.addoption("--outcome", type=Path, help="write down what failed in this run")
    group.addoption("--second-run", type=Path, help="name what failed in the run whose outcome this is")


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run where somebody asks for it, in the process that hears of all tests."""
    if path := None if hasattr(config, "workerinput") else config.getoption("outcome"):
        config.pluginmanager.register(Outcome(path), "outcome")


class Outcome:
    """Hears how each test ended, and writes the verdict: ``again`` are tests to repeat, ``refused`` says why not to."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._failed: dict[str, str] = {}
        self._spoiled: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what failed, and its first words."""
        if report.failed:
            self._failed.setdefault(report.nodeid, _first_words(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tests that could not even be collected did not run."""
        if report.failed:
            self._spoiled.append(f"{report.nodeid} could not be collected")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """A process that crashed may have been in any test."""
        if error:
            self._spoiled.append(f"test process {node.gateway.id} ended: {str(error).strip() or 'crashed'}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the verdict."""
        if cut := session.shouldfail or session.shouldstop:
            self._spoiled.append(f"the run was cut short: {cut}")
        refused = self._refused() if exitstatus else ""
        verdict = {"again": {} if refused or not exitstatus else self._failed, "refused": refused}
        self._path.write_text(json.dumps(verdict), encoding="utf-8")

    def _refused(self) -> str:
        if self._spoiled:
            return "No second run: " + "; ".join(self._spoiled)
        if len(self._failed) > MASS:
            return f"No second run: {len(self._failed)} tests failed, more than {MASS} have a cause in common"
        return "" if self._failed else "No second run: the tests passed, and the run failed"


def _first_words(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = str(crash.message if crash else report.longreprtext).strip().splitlines()
    return lines[0][:_SHOWN] if lines else ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name every test that needed a second run."""
    if not (path := config.getoption("second_run")):
        return
    failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.getreports(kind)}
    terminalreporter.section("Needed a second run")
    for test, why in json.loads(path.read_text(encoding="utf-8"))["again"].items():
        terminalreporter.line(f"{test}: {'failed again' if test in failed else 'passed the second time'}")
        terminalreporter.line(f"    the first time: {why}")
