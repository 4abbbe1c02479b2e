"""A worker with events tells what a Celery worker tells: heard by Celery's own receiver, beside a Celery worker's."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import TASKS, add
from interop.workers import CeleryWorker
from tranship import Client
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

OURS, THEIRS = "ours@interop", "theirs@interop"


# The other broker is a campaign: what differs between them is tested with it by the neighbours of this module.
@pytest.fixture(scope="module", params=[pytest.param("redis", marks=pytest.mark.campaign), "rabbitmq-rpc"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture(scope="module", autouse=True)
def _workers(site: Site, celery: CeleryClient, folder, runs) -> Iterator[None]:
    """One of each kind. They are heard from the first moment on."""
    celery.watch()
    ours = site.worker(TASKS, queues=["ours"], name=OURS, max_concurrent_tasks=2)
    ours.settings = ours.settings.replace(events=True)
    config = {"worker_send_task_events": True, **site.config}
    with CeleryWorker(site.url, folder, name="theirs", queue="theirs", **config):
        with BackgroundWorker(ours):
            yield
        # What a Celery worker says as it goes, it says when it comes, too.
        assert heard(celery, OURS, "worker-offline").keys() == heard(celery, THEIRS, "worker-online").keys()


def heard(celery: CeleryClient, node: str, kind: str, task_id: str | None = None) -> dict[str, Any]:
    """The last event of a kind, and of a task, once there is one."""

    def found() -> dict[str, Any] | None:
        events = [one for one in celery.seen() if (one["hostname"], one["type"]) == (node, kind)]
        return next((one for one in reversed(events) if task_id is None or one["uuid"] == task_id), None)

    return until(found, f"{node} says {kind}", 15)  # type: ignore[return-value] - it waits for one


def both(celery: CeleryClient, kind: str, mine: str | None = None, other: str | None = None) -> dict[str, Any]:
    """What ours says, which has the fields and the types that Celery's has."""
    ours, theirs = heard(celery, OURS, kind, mine), heard(celery, THEIRS, kind, other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert isinstance(value, type(theirs[name])) or None in (value, theirs[name]), name
    return ours


def on_both(celery: CeleryClient, name: str, *args: Any, **options: Any) -> tuple[str, str]:
    """Send a task to each of them."""
    mine, other = (celery.send(name, *args, queue=queue, **options) for queue in ("ours", "theirs"))
    return mine, other


def test_it_is_there(celery: CeleryClient):
    assert both(celery, "worker-online")["sw_ident"] == "tranship"
    assert both(celery, "worker-heartbeat")["freq"] == 2.0


def test_a_task_that_goes_well(celery: CeleryClient):
    mine, other = on_both(celery, "add", 1, 2)
    celery.get(mine)
    celery.get(other)
    received = both(celery, "task-received", mine, other)
    assert (received["name"], received["args"], received["kwargs"]) == ("interop.add", "(1, 2)", "{}")
    both(celery, "task-started", mine, other)
    assert both(celery, "task-succeeded", mine, other)["result"] == "3"
    clocks = [heard(celery, OURS, f"task-{kind}", mine)["clock"] for kind in ("received", "started", "succeeded")]
    assert clocks == sorted(clocks)


def test_a_task_that_fails(celery: CeleryClient):
    mine, other = on_both(celery, "fail", "no more")
    failed = both(celery, "task-failed", mine, other)
    assert failed["exception"] == heard(celery, THEIRS, "task-failed", other)["exception"] == "OutOfPaper('no more')"
    assert "Traceback" in failed["traceback"]


def test_a_task_that_is_tried_again(celery: CeleryClient):
    mine, other = on_both(celery, "flaky", 1)
    both(celery, "task-retried", mine, other)
    both(celery, "task-succeeded", mine, other)
    retries = [one["retries"] for one in celery.seen() if one["type"] == "task-received" and one["uuid"] == mine]
    assert retries[0] == 0
    assert retries[-1] == 1


def test_a_task_that_is_revoked(celery: CeleryClient):
    waits = str(uuid.uuid4())
    for queue in ("ours", "theirs"):
        celery.revoke(waits)
        until(lambda: waits in celery.ask(OURS, "revoked"), "it is known")
        celery.send("add", 1, 2, queue=queue, task_id=waits)
    revoked = both(celery, "task-revoked", waits, waits)
    assert (revoked["terminated"], revoked["expired"], revoked["signum"]) == (False, False, None)


def test_a_task_that_is_stopped_while_it_runs(celery: CeleryClient, runs):
    mine = celery.send("slow", 30.0, queue="ours")
    until(lambda: mine in {run.id for run in read(runs)}, "it runs")
    celery.revoke(mine, terminate=True)
    revoked = heard(celery, OURS, "task-revoked", mine)
    assert (revoked["terminated"], revoked["signum"]) == (True, 15)


def test_a_task_that_nobody_knows(celery: CeleryClient):
    mine, other = (celery.send("elsewhere", queue="ours"), celery.send_unknown("interop.nobody", queue="theirs"))
    failed = both(celery, "task-failed", mine, other)
    assert failed["exception"].startswith("NotRegistered(")


def test_events_of_tasks_are_switched_off_and_on(celery: CeleryClient):
    assert celery.ask(OURS, "disable_events") == {"ok": "task events disabled"}
    assert celery.ask(OURS, "disable_events") == {"ok": "task events already disabled"}
    quiet = celery.send("add", 1, 1, queue="ours")
    celery.get(quiet)
    assert celery.ask(OURS, "enable_events") == {"ok": "task events enabled"}
    loud = celery.send("add", 1, 1, queue="ours")
    heard(celery, OURS, "task-succeeded", loud)
    assert quiet not in {one.get("uuid") for one in celery.seen() if one["hostname"] == OURS}


def test_what_a_client_sends(site: Site, celery: CeleryClient):
    ours = f"gen{os.getpid()}@{socket.gethostname()}"
    with Client(settings=Settings.load(broker_url=site.url, sent_events=True)) as client:
        handle = client.submit(add.options(queue="ours"), 20, 22)
        sent = heard(celery, ours, "task-sent", handle.id)
        assert handle.result(timeout=30) == 42
    other = celery.send_told("add", 1, 1, queue="theirs")
    theirs = until(
        lambda: [one for one in celery.seen() if (one["type"], one.get("uuid")) == ("task-sent", other)], "Celery tells"
    )
    assert sent.keys() == theirs[0].keys()
    assert (sent["queue"], sent["routing_key"], sent["args"]) == ("ours", "ours", "..."), "arguments are hidden"


def test_a_heartbeat_is_asked_for(celery: CeleryClient):
    before = heard(celery, OURS, "worker-heartbeat")["clock"]
    celery.ask(OURS, "heartbeat")
    until(lambda: heard(celery, OURS, "worker-heartbeat")["clock"] > before, "it comes")
