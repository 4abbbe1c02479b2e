"""`tranship conformance`: what it prints, and what it says when there is nothing to judge."""

import json
from pathlib import Path

import pytest
from cli_kit import cli, fails

from tranship.testing.report import ConformanceReport

PLUGIN = """
from tranship.driver import DriverBackend, LocalConnection
from tranship.hookspecs import BackendSpec, hookimpl
from tranship.settings import CommonOptions


class Loses:
    async def send(self, batch):
        return [None] * len(batch)

    async def take(self, slots, limit, wait):
        raise OSError("disk on fire")

    async def end(self, endings):
        return []


def make_backend(config):
    async def connect():
        return LocalConnection(Loses())

    return DriverBackend("loses", config, options=config.options_as(CommonOptions), connect=connect)


@hookimpl
def tranship_register_backends(register):
    register(BackendSpec(name="loses", schemes=("loses",), factory="loses_plugin:make_backend"))
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", __import__("sys").path[:])


def test_cases_of_an_embedded_broker(tmp_path: Path) -> None:
    done = cli("conformance", "memory://x", "--case", "ack_removes", "--case", "crash_before_ack_redelivers")
    assert done.exit_code == 0, done.stderr
    assert sorted(line.split()[:3] for line in done.stdout.splitlines() if "_" in line) == [
        ["ack_removes", "ConsumerSuite", "passed"],
        ["crash_before_ack_redelivers", "ConsumerSuite", "passed"],
    ]


def test_quiet_changes_no_verdict() -> None:
    done = cli("conformance", "memory://x", "--case", "namesakes_are_told", "--quiet")
    assert (done.exit_code, done.stderr) == (0, ""), done.stdout


def test_the_report_is_kept_and_json_says_all(tmp_path: Path) -> None:
    done = cli("conformance", "memory://x", "--case", "ack_removes", "--json", "--output", "report.json")
    told = json.loads(done.stdout)
    assert told["backend"] == "memory"
    assert told["cases"] == [{"id": "ack_removes", "suite": "ConsumerSuite", "outcome": "passed", "reason": ""}]
    assert told["capabilities"]["lease"] == {"support": "native"}
    assert ConformanceReport.read(tmp_path / "report.json").cases == {"ack_removes": "passed"}


def test_a_plugin_that_is_not_installed_and_breaks_its_promises(tmp_path: Path) -> None:
    (tmp_path / "loses_plugin.py").write_text(PLUGIN)
    cases = ("queue_send_answers_each", "ack_removes", "submit_durable_before_return")
    done = cli("conformance", "loses://x", "-m", "loses_plugin", *(part for one in cases for part in ("--case", one)))
    assert done.exit_code == 1
    assert "Traceback" not in done.stdout + done.stderr
    found = {line.split()[0]: line for line in done.stdout.splitlines() if "Suite" in line}
    assert "failed" in found["ack_removes"]
    assert "disk on fire" in found["ack_removes"]
    assert "failed" in found["queue_send_answers_each"]
    assert "capability none: cross-process, durable" in found["submit_durable_before_return"]


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["nosuch://x"], "no plugin serves the scheme 'nosuch'", 2),
        (["memory://x", "-m", "no_such_module"], "module 'no_such_module' cannot be imported", 2),
        (["redis://127.0.0.1:1/0"], "cannot connect to 127.0.0.1:1", 3),
        (["memory://x", "--case", "nope"], "there is no case nope", 2),
        (["memory://x", "--output", "no/such/report.json"], "there is no directory no/such", 2),
        (["memory://x", "--tier", "5"], "--tier", 2),
        (["memory://x", "--results", "nosuch://y"], "no plugin serves the scheme 'nosuch'", 2),
    ],
    ids=["scheme", "module", "unreachable", "case", "output", "tier", "results"],
)
def test_what_cannot_be_judged_is_one_line(arguments: list[str], says: str, code: int) -> None:
    fails(cli("conformance", *arguments), code, says)
