"""Flower, the real one, shows tranship workers and their tasks beside Celery's, and commands them."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from interop.celery_client import CeleryClient
from interop.celery_config import CONFIG, celery_config
from interop.runs import read, until
from interop.sites import Site
from interop.workers import START, CeleryWorker, TranshipWorker, WorkerProcess

pytest.importorskip("flower")
pytestmark = pytest.mark.timeout(120)

OURS, THEIRS = "ours@interop", "theirs@interop"


class Flower(WorkerProcess):
    """``celery flower``, asked over a socket in the file system."""

    def __init__(self, site: Site, folder: Path) -> None:
        # A path of a socket may not be long.
        self._socket = f"/tmp/flower-{uuid.uuid4().hex[:8]}.sock"
        command = [sys.executable, "-m", "celery", "-A", "interop.celery_app", "flower"]
        command += [f"--unix-socket={self._socket}", "--inspect-timeout=5000"]
        config = json.dumps(celery_config(site.url, **site.config))
        super().__init__(command, folder, "flower", {CONFIG: config, "FLOWER_UNAUTHENTICATED_API": "1"})

    def __enter__(self) -> Self:
        self.start("Connected to ")
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=self._socket), base_url="http://flower", timeout=START
        )
        return self

    def leave(self) -> None:
        self._http.close()
        self.kill()
        Path(self._socket).unlink(missing_ok=True)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self._http.get(path, params=query)

    def post(self, path: str, **form: Any) -> str:
        """What the API says; or fail."""
        answer = self._http.post(f"/api/{path}", data=form)
        assert answer.status_code == 200, answer.text
        return answer.json()["message"]

    def worker(self, node: str) -> dict[str, Any]:
        """What it knows of a worker when it has asked it anew; empty: nothing."""
        answer = self.get("/api/workers", refresh="1", workername=node)
        return answer.json()[node] if answer.status_code == 200 else {}

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/task/info/{task_id}")
        return answer.json() if answer.status_code == 200 else {"state": None}


# The other broker is a campaign: what differs between them is tested with it by the neighbours of this module.
@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq-rpc", marks=pytest.mark.campaign)])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture(scope="module")
def flower(site: Site, folder) -> Iterator[Flower]:
    with Flower(site, folder) as running:
        yield running


@pytest.fixture(scope="module")
def ours(site: Site, folder, flower: Flower, runs) -> Iterator[TranshipWorker]:
    environ = {**site.environ, "INTEROP_NAME": OURS, "TRANSHIP_EVENTS": "1"}
    worker = TranshipWorker(site.url, folder, name="ours", queue="ours", environ=environ)
    worker.start("ready\n")
    yield worker
    worker.kill()


@pytest.fixture(scope="module", autouse=True)
def _theirs(site: Site, folder, flower: Flower, ours: TranshipWorker) -> Iterator[None]:
    config = {"worker_send_task_events": True, **site.config}
    with CeleryWorker(site.url, folder, name="theirs", queue="theirs", **config):
        until(lambda: all("stats" in flower.worker(node) for node in (OURS, THEIRS)), "Flower knows both")
        yield


def test_both_are_shown_alike(flower: Flower):
    ours, theirs = (flower.worker(node) for node in (OURS, THEIRS))
    assert ours.keys() == theirs.keys()
    assert "interop.add" in ours["registered"]
    assert [one["name"] for one in ours["active_queues"]] == ["ours"]
    until(lambda: flower.get("/api/workers", status="1").json() == {OURS: True, THEIRS: True}, "both are there")
    for page in ("/workers", f"/worker/{OURS}"):
        shown = flower.get(page)
        assert shown.status_code == 200
        assert OURS in shown.text


def test_tasks_are_shown_alike(flower: Flower, celery: CeleryClient):
    mine, other = (celery.send("add", 1, 2, queue=queue) for queue in ("ours", "theirs"))
    for task_id in (mine, other):
        until(lambda task_id=task_id: flower.task(task_id)["state"] == "SUCCESS", "Flower knows how it ended")
    ours, theirs = flower.task(mine), flower.task(other)
    assert ours.keys() == theirs.keys()
    assert (ours["name"], ours["args"], ours["result"]) == (theirs["name"], theirs["args"], theirs["result"])
    assert ours["worker"] == OURS
    assert flower.get(f"/task/{mine}").status_code == 200
    failed = celery.send("fail", "no more", queue="ours")
    until(lambda: flower.task(failed)["state"] == "FAILURE", "Flower knows that it failed")
    assert flower.task(failed)["exception"] == "OutOfPaper('no more')"


def test_a_task_is_stopped(flower: Flower, celery: CeleryClient, runs):
    sent = celery.send("slow", 60.0, queue="ours")
    until(lambda: sent in {run.id for run in read(runs)}, "it runs")
    assert flower.post(f"task/revoke/{sent}", terminate="true") == f"Revoked '{sent}'"
    until(lambda: flower.task(sent)["state"] == "REVOKED", "Flower shows it")
    assert celery.get(sent).state == "REVOKED"


def test_limits_are_set(flower: Flower):
    said = flower.post("task/rate-limit/interop.count", workername=OURS, ratelimit="100/m")
    assert said == "new rate limit set successfully"
    assert "interop.count [rate_limit=100/m]" in flower.worker(OURS)["registered"]
    said = flower.post("task/timeout/interop.slow", workername=OURS, hard="30")
    assert said == "time limits set successfully"


def test_the_worker_is_changed(flower: Flower, celery: CeleryClient):
    assert "Growing" in flower.post(f"worker/pool/grow/{OURS}", n="2")
    assert flower.worker(OURS)["stats"]["pool"]["max-concurrency"] == 6
    assert "Shrinking" in flower.post(f"worker/pool/shrink/{OURS}", n="1")
    assert flower.post(f"worker/queue/add-consumer/{OURS}", queue="more") == "add consumer more"
    assert celery.get(celery.send("add", 2, 2, queue="more")).value == 4
    assert [one["name"] for one in flower.worker(OURS)["active_queues"]] == ["ours", "more"]
    assert flower.post(f"worker/queue/cancel-consumer/{OURS}", queue="more") == "no longer consuming from more"
    assert "Restarting" in flower.post(f"worker/pool/restart/{OURS}")
    assert celery.get(celery.send("add", 3, 3, queue="ours")).value == 6


def test_the_worker_is_shut_down(flower: Flower, ours: TranshipWorker):
    assert flower.post(f"worker/shutdown/{OURS}") == "Shutting down!"
    until(lambda: not ours.alive, "it has ended")
    assert ours.status == 0
    until(lambda: flower.get("/api/workers", status="1").json()[OURS] is False, "Flower shows it")
