"""The page of events has what is told, and nothing else: what is not generated from the code is compared with it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import json
import logging
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tranship import Client, FixedBackoff, Middleware, Reject, RetryPolicy, Snooze, Worker, announcing, current, task
from tranship.cli._json_lines import JsonLines
from tranship.envelope import Ending
from tranship.errors import TranshipError
from tranship.middleware import Next, SettleCall
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker
from tranship.worker import _events
from tranship_otel import _names

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference/events.md").read_text("utf-8")
SPAN = re.compile(r"`` (.*?) ``|``(?!`)(.*?)``|`([^`]+)`")


@pytest.fixture(scope="module")
def log_records() -> ModuleType:
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location("log_records", DOCS / "reference/log_records.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]
    return [row for row in cells if not set(row[0]) <= {"-", " "}]


def spans(cell: str) -> list[str]:
    return ["".join(found) for found in SPAN.findall(cell)]


# Endings.


class Seen(Middleware):
    def __init__(self) -> None:
        self.endings: list[tuple[Ending, bool]] = []

    async def settle(self, call: SettleCall, call_next: Next[SettleCall, None]) -> None:
        self.endings.append((call.ending, call.snoozed))
        await call_next(call)


STARTED = threading.Event()


@task(name="events.good")
async def good() -> None: ...


@task(name="events.bad", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0)))
async def bad() -> None:
    raise LookupError("no")


@task(name="events.fails")
async def fails() -> None:
    raise LookupError("no")


@task(name="events.later")
async def later() -> None:
    if current().delivery_count == 1 and not STARTED.is_set():
        STARTED.set()
        raise Snooze(0.01)


@task(name="events.long")
async def long() -> None:
    STARTED.set()
    await asyncio.Event().wait()


@task(name="events.rejects")
async def rejects() -> None:
    raise Reject("fraud")


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Seen, list[logging.LogRecord], str]]:
    """What middleware, the log and `/metrics` say of the same deliveries."""
    url, seen, records = "memory://events-page", Seen(), list[logging.LogRecord]()
    handler, log = logging.Handler(), logging.getLogger("tranship.worker")
    handler.emit = records.append  # type: ignore[method-assign]
    log.addHandler(handler)
    before, _ = log.level, log.setLevel(logging.INFO)
    settings = Settings.load(broker_url=url, result_url=url, health_port=0)
    worker = Worker(settings=settings, tasks=[good, bad, fails, later, long, rejects], middleware=[seen])
    try:
        with BackgroundWorker(worker), Client(url) as client:
            handles = [client.submit(one) for one in (good, bad, fails, rejects, later)]
            handles.append(client.submit(long.options(deadline_in=0.2)))
            for one in handles:
                ended(one)
            STARTED.clear()
            handles.append(client.submit(long))
            assert STARTED.wait(20)
            handles[-1].cancel()
            ended(handles[-1])
            with urllib.request.urlopen(f"http://127.0.0.1:{worker.health_port}/metrics", timeout=20) as answer:
                metrics = answer.read().decode()
        yield seen, records, metrics
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def ended(handle: Any) -> None:
    with contextlib.suppress(TranshipError):
        handle.result(timeout=20)


def test_every_ending_has_a_row() -> None:
    (_, *endings) = rows("How a delivery ends")
    assert {spans(row[0])[0] for row in endings} == {one.value for one in Ending} | {"broken"}


def test_what_the_channels_say_of_an_ending_is_what_its_row_says(told) -> None:
    seen, records, metrics = told
    logged = {
        (one.outcome, "snoozes" in str(one.msg)): (one.levelname, one.msg) for one in records if hasattr(one, "outcome")
    }
    counted = set(re.findall(r'tranship_tasks_total{.*outcome="(\w+)"} [1-9]', metrics))
    middleware = {(ending.value, snoozed) for ending, snoozed in seen.endings}
    assert middleware == {("retry", True), *((one, False) for one in counted)}
    assert counted == {"succeeded", "failed", "retry", "cancelled", "expired", "dead"}
    for outcome, _, record, in_prometheus, in_otel, _ in rows("How a delivery ends")[1:]:
        (name,) = spans(outcome)
        if name not in counted:
            assert in_otel == "no"
            continue
        assert in_prometheus == "yes"
        assert in_otel.startswith("yes")
        key = (name, "snoozes" in record)
        assert logged[key] == (record.split()[0], *spans(record)), name


def test_records_of_deliveries_have_the_fields_that_are_told(told) -> None:
    _, records, _ = told
    said = {name for row in rows("Log records") for name in spans(row[0]) if not row[0].startswith("level")}
    own = {row[0] for row in ([*spans(one[0]), ""] for one in rows("Log records")) if row[0]}
    assert {"time", "exception"} <= own
    for record in (one for one in records if hasattr(one, "outcome")):
        assert set(json.loads(JsonLines().format(record))) | {"exception"} <= said


# Log records.


def test_records_that_are_told_of_by_hand_are_written(log_records) -> None:
    records = log_records.records()
    known = {(one.text, level) for one in records for level in one.levels}
    loggers = {(one.text, one.logger) for one in records}
    told = [row[2] for row in rows("How a delivery ends")[1:]] + [
        row[1] for row in rows("What happens to workers and connections")[1:]
    ]
    found = 0
    for cell in told:
        logger, *texts = spans(cell) if "`tranship." in cell else ("tranship.worker", *spans(cell))
        for text in texts:
            found += 1
            assert (text, logger) in loggers, cell
            assert any((text, level) in known for level in re.findall(r"[A-Z]{4,}", cell.partition("`")[0])), cell
    assert found > 25


@pytest.mark.parametrize(
    "call",
    [
        'log.warning(f"{1} is lost")',
        'log.warning("%s", text())',
        "log.error(text())",
        'log.log(level(), "is lost")',
        'other.error("is lost")',
        'def f(level):\n    log.log(level, "is lost")',
    ],
)
def test_a_record_that_cannot_be_looked_up_is_refused(log_records, tmp_path: Path, monkeypatch, call: str) -> None:
    monkeypatch.setattr(log_records, "ROOT", tmp_path)
    source = tmp_path / "module.py"
    source.write_text(f'log = logging.getLogger("tranship.new")\n{call.replace("other", "otherlog")}\n')
    with pytest.raises(log_records.Unreadable, match="write it down literally"):
        list(log_records._of(source))


def test_a_new_record_is_found_with_its_logger_levels_and_fields(log_records, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(log_records, "ROOT", tmp_path)
    source = tmp_path / "module.py"
    source.write_text(
        'log = logging.getLogger("tranship.new")\nTEXT = "%s is lost"\n'
        "def f(bad):\n    level = logging.ERROR if bad else logging.DEBUG\n    log.log(level, TEXT, 1, extra={})\n"
        'log.exception("it broke")\nlog.debug("nobody reads this")\n'
    )
    lost, broke = sorted(log_records._of(source), key=lambda one: one.traceback)
    assert (lost.logger, lost.text, lost.levels, lost.of_task) == ("tranship.new", "%s is lost", ("ERROR",), True)
    assert (broke.text, broke.levels, broke.traceback) == ("it broke", ("ERROR",), True)


# Other channels.


def test_celerys_events_and_their_fields_are_those_that_are_sent() -> None:
    texts = [
        node.value
        for module in (_events, announcing)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    sent = {one for one in texts if re.fullmatch(r"(task|worker)-[a-z]+", one)}
    keys = {
        key.value
        for module in (_events, announcing)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    events = rows("Celery's events")[1:]
    assert {name for row in events for name in spans(row[0])} == sent
    assert {name for row in events for name in spans(row[1])} == keys
    of_endings = {name for row in rows("How a delivery ends") for name in spans(row[5])}
    assert of_endings == sent - {one for one in sent if one.startswith("worker-")} - {
        *("task-sent", "task-received", "task-started")
    }


def test_every_metric_of_opentelemetry_is_named() -> None:
    metrics = {_names.SENT, _names.OPERATION_DURATION, _names.CONSUMED, _names.PROCESS_DURATION}
    assert metrics <= set(spans(section("OpenTelemetry")))


def test_verbs_of_middleware_that_are_listed_are_all() -> None:
    verbs = {name for name, one in vars(Middleware).items() if inspect.isfunction(one)}
    assert set(re.findall(r"^\| `(\w+)\(", section("Middleware"), re.MULTILINE)) == verbs
