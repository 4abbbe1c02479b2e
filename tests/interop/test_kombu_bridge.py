"""Over the bridge to kombu a Celery worker and a Celery client are peers: on files, on tables and on Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from interop.celery_client import CeleryClient
from interop.runs import times
from interop.tranship_app import echo, fail, flaky
from interop.workers import CeleryWorker, TranshipWorker
from tranship import Client
from tranship.errors import TaskFailed

MISSING = [name for name in ("sqlalchemy", "tranship_kombu") if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


OTHERS = [pytest.param(name, marks=pytest.mark.campaign) for name in ("sqla", "redis")]


@dataclass(frozen=True)
class Bridge:
    """One broker as both are told of it; results are in Celery's tables."""

    url: str
    """Ours."""
    celerys: str
    results: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """Configuration keys of Celery."""
        return {"result_backend": self.results, "broker_transport_options": self.options}


@pytest.fixture(scope="module", params=["filesystem", *OTHERS])
def bridge(request: pytest.FixtureRequest, folder: Path) -> Bridge:
    results = f"db+sqlite:///{folder}/results.db"
    if request.param == "filesystem":
        spool = folder / "spool"
        for part in ("control", "processed"):
            (spool / part).mkdir(parents=True)
        options = {
            "data_folder_in": str(spool),
            "data_folder_out": str(spool),
            "control_folder": str(spool / "control"),
        }
        return Bridge(f"kombu+filesystem://{spool}", "filesystem://", results, options)
    if request.param == "sqla":
        return Bridge(f"kombu+sqla+sqlite:///{folder}/queues.db", f"sqla+sqlite:///{folder}/queues.db", results)
    url = request.getfixturevalue("url")
    return Bridge(f"kombu+{url}", url, results)


@pytest.fixture
def client(bridge: Bridge) -> Iterator[Client]:
    with Client(bridge.url, result_url=bridge.results) as client:
        yield client


def test_a_celery_worker_runs_what_we_submit(bridge: Bridge, client: Client, folder: Path) -> None:
    with CeleryWorker(bridge.celerys, folder, **bridge.config):
        values = [1, "é", None, [1, {"a": 2.5}]]
        handles = client.submit_many(echo.call(value) for value in values)
        assert [one.value for one in client.collect(handles, 30)] == values
        assert client.submit(echo.options(serializer="msgpack"), ["x", 1]).result(30) == ["x", 1]
        failed = client.submit(fail, "tray 2")
        with pytest.raises(TaskFailed) as caught:
            failed.result(timeout=30)
        assert (caught.value.type, str(caught.value)) == ("interop.problems.OutOfPaper", "tray 2")
        assert client.submit(flaky, 2).result(timeout=30) == 2


def test_we_run_what_a_celery_client_sends(bridge: Bridge, folder: Path, runs: Path) -> None:
    environ = {"TRANSHIP_RESULT_URL": bridge.results}
    with (
        TranshipWorker(bridge.url, folder, environ=environ),
        CeleryClient(bridge.celerys, **bridge.config) as celery,
    ):
        ids = [celery.send("add", number, 1) for number in range(10)]
        assert [celery.get(one).value for one in ids] == list(range(1, 11))
        answer = celery.get(celery.send("fail", "tray 3"))
        assert (answer.state, answer.ours, answer.text) == ("FAILURE", True, "tray 3")
        due = time.time() + 1.0
        later = celery.send("count", 7, eta=due)
        assert celery.get(later).value == 7
        assert time.time() >= due
        assert times(runs)[later] == 1
