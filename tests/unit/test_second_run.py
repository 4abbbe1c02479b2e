"""What fails once may run once more and is named; what a second run would hide is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

CONFTEST = Path(__file__).parents[2] / "conftest.py"

FLAKY = """
import os, pytest
from pathlib import Path

def test_good():
    pass

@pytest.mark.parametrize("name", ["a::b", "c [d]"])
def test_flaky(name):
    seen = Path("seen").exists()
    assert seen, f"{name} was not there"

@pytest.fixture
def server():
    assert Path("seen").exists(), "it did not start"

def test_server(server):
    pass
"""
CASES = ["test_it.py::test_flaky[a::b]", "test_it.py::test_flaky[c [d]]", "test_it.py::test_server"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\naddopts = -p xdist -p no:cacheprovider\n")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*arguments)


def verdict(project: pytest.Pytester) -> Any:
    return json.loads((project.path / "outcome").read_text("utf-8"))


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_failed_runs_once_more_and_is_named(project: pytest.Pytester, processes: str) -> None:
    project.makepyfile(test_it=FLAKY)
    assert run(project, "-n", processes, "--outcome", "outcome").ret == 1
    said = verdict(project)
    assert said["refused"] == ""
    assert sorted(said["again"]) == CASES
    assert "a::b was not there" in said["again"][CASES[0]]
    assert "it did not start" in said["again"][CASES[2]]
    (project.path / "seen").touch()
    again = run(project, "-n", "0", "-m", "", "--second-run", "outcome", *said["again"])
    again.assert_outcomes(passed=3)
    again.stdout.fnmatch_lines(["*= Needed a second run =*"])
    for case in CASES:
        assert f"{case}: passed the second time" in str(again.stdout)
    # pytest's own words come last.
    assert again.stdout.lines[-1].strip("= ").startswith("3 passed in")


def test_what_fails_again_fails_the_run(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=FLAKY)
    run(project, "--outcome", "outcome")
    again = run(project, "-n", "0", "--second-run", "outcome", *verdict(project)["again"])
    assert again.ret == 1
    assert f"{CASES[0]}: failed again" in str(again.stdout)
    assert f"{CASES[2]}: failed again" in str(again.stdout)


def test_a_run_without_failures_needs_none(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="def test_good(): pass")
    result = run(project, "--outcome", "outcome")
    assert result.ret == 0
    assert verdict(project) == {"again": {}, "refused": ""}
    assert "second run" not in str(result.stdout)


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ("import os\ndef test_it(): os._exit(1)", ["-n", "2"], "test process gw[01] ended"),
        ("import no_such_module", ["-n", "2"], "could not be collected"),
        ("import no_such_module", ["--continue-on-collection-errors"], "could not be collected"),
        (FLAKY, ["-x"], "the run was cut short: stopping after 1 failures"),
        ("import pytest\n@pytest.mark.parametrize('n', range(11))\ndef test_it(n): assert 0", [], "11 tests failed"),
    ],
    ids=["crash", "collection", "collection that goes on", "cut short", "mass"],
)
def test_a_second_run_hides_nothing(project: pytest.Pytester, text: str, arguments: list[str], reason: str) -> None:
    project.makepyfile(test_it=text)
    assert run(project, "--outcome", "outcome", *arguments).ret != 0
    said = verdict(project)
    assert said["again"] == {}
    assert re.search(f"^No second run: .*{reason}", said["refused"])
