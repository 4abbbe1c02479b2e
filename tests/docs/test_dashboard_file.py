"""The Grafana dashboard asks for what workers tell, and for all of it."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tranship import Client, Worker, task
from tranship.cli._family_health import FamilyHealth
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "docs/operate/grafana-dashboard.json").read_text("utf-8"))
PAGE = (ROOT / "docs/reference/events.md").read_text("utf-8")
SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""


@task
def ping() -> str:
    return "pong"


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The labels of each series that the processes of `--processes` tell, by name."""
    url = "memory://dashboard-file"
    settings = Settings.load(broker_url=url, result_url=url, health_port=0)
    with BackgroundWorker(Worker(settings=settings, tasks=[ping])) as background, Client(url) as client:
        assert client.submit(ping).result(timeout=5) == "pong"
        health = FamilyHealth(2)
        try:
            health.open("127.0.0.1", 0)
            assert background.worker.health_port is not None
            health.listens(1, background.worker.health_port)
            with urllib.request.urlopen(f"http://127.0.0.1:{health.port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        finally:
            health.close()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"], target
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"], {}


NAME = re.compile(r"\b((?:tranship|process)_\w+)(?:\{([^}]*)\})?")


def test_every_query_asks_for_series_and_labels_that_there_are(told):
    for query, target in queries():
        names = NAME.findall(query)
        assert names, query
        labels: set[str] = set()
        for name, selected in names:
            assert name in told, f"{name} of {query!r} is told by nobody"
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selected)) <= told[name] | SCRAPED, query
            labels |= told[name] | SCRAPED
        grouped = {one.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for one in group.split(",")}
        assert grouped <= labels, query
        assert set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))) <= labels, query


def test_everything_that_is_told_is_shown_and_described(told):
    shown = {name for query, _ in queries() for name, _ in NAME.findall(query)}
    assert set(told) - shown == set()
    for name in told:
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}`" in PAGE, name


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
