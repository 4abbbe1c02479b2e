"""``celery inspect`` and ``celery control`` on a tranship worker, each beside what a Celery worker answers."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from interop.celery_client import CeleryClient
from interop.celery_config import CONFIG, celery_config
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import TASKS
from interop.workers import CeleryWorker, TranshipWorker, WorkerProcess
from tranship import Worker
from tranship.mailbox import node_name
from tranship.testing.background import BackgroundWorker

OURS, THEIRS = "ours@interop", "theirs@interop"


# The other broker is a campaign: what differs between them is tested with it by the neighbours of this module.
@pytest.fixture(scope="module", params=["redis", pytest.param("rabbitmq-rpc", marks=pytest.mark.campaign)])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture(scope="module", autouse=True)
def _theirs(site: Site, folder) -> Iterator[CeleryWorker]:
    """A Celery worker, to be asked the same."""
    config = {"worker_send_task_events": True, **site.config}
    with CeleryWorker(site.url, folder, name="theirs", queue="theirs", concurrency=1, **config) as worker:
        yield worker


@pytest.fixture(scope="module", autouse=True)
def ours(site: Site, runs) -> Iterator[Worker]:
    worker = site.worker(TASKS, queues=["ours"], name=OURS, max_concurrent_tasks=2)
    with BackgroundWorker(worker) as running:
        yield running.worker


def shape(value: Any) -> Any:
    """What a value is made of: the names in a map, what lists are of, and types."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def both(celery: CeleryClient, method: str, **arguments: Any) -> tuple[Any, Any]:
    """What our worker answers, and what Celery's does."""
    return celery.ask(OURS, method, **arguments), celery.ask(THEIRS, method, **arguments)


def slow_on_both(celery: CeleryClient, runs, seconds: float = 1.0) -> tuple[str, str]:
    """Have a task run at each of them."""
    sent = celery.send("slow", seconds, queue="ours"), celery.send("slow", seconds, queue="theirs")
    until(lambda: {run.id for run in read(runs)} >= set(sent), "both run")
    return sent


# Asked.


def test_what_runs(celery: CeleryClient, runs):
    mine, other = slow_on_both(celery, runs)
    (ours,), (theirs,) = both(celery, "active")
    assert (ours["id"], theirs["id"]) == (mine, other)
    # On RabbitMQ a message may have no priority at all; ours says 0 then.
    theirs["delivery_info"]["priority"] = theirs["delivery_info"]["priority"] or 0
    assert shape(ours) == shape(theirs)
    assert ours["args"] == [1.0]
    assert abs(ours["time_start"] - time.time()) < 30
    assert ours["delivery_info"]["routing_key"] == "ours"
    ours, theirs = both(celery, "active", safe=True)
    assert (ours[0]["args"], ours[0]["kwargs"]) == (theirs[0]["args"], theirs[0]["kwargs"]) == ("(1.0,)", "{}")
    ours, theirs = celery.ask(OURS, "query_task", ids=[mine, "nobody"]), celery.ask(THEIRS, "query_task", ids=[other])
    assert list(ours) == [mine]
    assert ours[mine][1].keys() == theirs[other][1].keys()
    assert ours[mine][0] == theirs[other][0] == "active"
    assert both(celery, "reserved") == ([], [])
    assert both(celery, "scheduled") == ([], [])
    for task_id in (mine, other):
        celery.get(task_id)


def test_what_the_worker_is(celery: CeleryClient):
    celery.get(celery.send("add", 1, 2, queue="ours"))
    celery.get(celery.send("add", 1, 2, queue="theirs"))
    ours, theirs = both(celery, "stats")
    assert ours["total"]["interop.add"] >= 1
    assert theirs.keys() == ours.keys()
    assert ours["broker"].keys() == theirs["broker"].keys()
    assert theirs["pool"].keys() <= ours["pool"].keys()
    assert {name: shape(value) for name, value in ours.items() if name not in ("total", "pool", "broker")} == {
        name: shape(value) for name, value in theirs.items() if name not in ("total", "pool", "broker")
    }
    assert ours["pid"] == os.getpid()
    assert ours["pool"]["max-concurrency"] == 2
    ours, theirs = both(celery, "active_queues")
    assert shape(ours) == shape(theirs)
    assert [one["name"] for one in ours] == ["ours"]
    ours, theirs = both(celery, "registered")
    assert {"interop.add", "interop.slow"} <= set(ours) & set(theirs)
    ours, theirs = both(celery, "conf")
    assert ours["worker_concurrency"] == 2
    assert {"broker_url", "result_backend"} <= ours.keys() & theirs.keys()
    assert "guest:guest" not in json.dumps(ours)
    ours, theirs = both(celery, "report")
    assert "software -> tranship:" in ours["ok"]
    assert "software -> celery:" in theirs["ok"]
    assert "guest:guest" not in ours["ok"]
    assert shape(both(celery, "clock")[0]) == shape(both(celery, "clock")[1])
    assert both(celery, "ping") == ({"ok": "pong"}, {"ok": "pong"})


def test_what_is_revoked(celery: CeleryClient):
    celery.revoke("never-sent")
    until(lambda: all("never-sent" in told for told in both(celery, "revoked")), "both know it")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("nonsense", {}),
        ("rate_limit", {"task_name": "interop.nobody", "rate_limit": "1/s"}),
        ("rate_limit", {"task_name": "interop.add", "rate_limit": "x/s"}),
        ("time_limit", {"task_name": "interop.nobody", "hard": 1}),
        ("rate_limit", {}),
        ("add_consumer", {}),
        ("autoscale", {"max": 3, "min": 1}),
    ],
)
def test_what_cannot_be_done_is_answered_alike(celery: CeleryClient, method, arguments):
    ours, theirs = both(celery, method, **arguments)
    assert list(ours) == list(theirs) == ["error"]
    kind = theirs["error"].partition("(")[0]
    assert ours["error"].partition("(")[0] == kind
    if "missing" not in theirs["error"]:
        assert ours["error"].partition(":")[0] == theirs["error"].partition(":")[0]


def test_the_command_line(celery: CeleryClient, site: Site):
    """``celery inspect`` as an operator types it, of both workers at once."""
    environ = {**os.environ, CONFIG: json.dumps(celery_config(site.url, **site.config))}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "interop.celery_app",
        "inspect",
        "registered",
        "--json",
        "-t",
        "10",
    ]
    command += ["-d", f"{OURS},{THEIRS}"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout
    assert {node: "interop.add" in names for node, names in json.loads(said).items()} == {OURS: True, THEIRS: True}


# Commanded.


def test_more_and_fewer_at_once(celery: CeleryClient, ours: Worker, runs):
    assert celery.ask(OURS, "pool_grow", n=2) == {"ok": "pool will grow"}
    ids = [celery.send("slow", 0.8, queue="ours") for _ in range(4)]
    until(lambda: len(ours.status().running) == 4, "four run at once")
    assert celery.ask(OURS, "pool_shrink", n=3) == {"ok": "pool will shrink"}
    assert {answer.value for answer in celery.get_many(ids)} == {"slept"}
    before = len(read(runs))
    ids = [celery.send("slow", 0.1, queue="ours") for _ in range(3)]
    celery.get_many(ids)
    starts = sorted(run.at for run in read(runs)[before:] if run.id in ids)
    assert all(later - sooner >= 0.09 for sooner, later in itertools.pairwise(starts)), "one after the other"
    assert "error" in celery.ask(OURS, "pool_shrink", n=1)
    assert "error" in celery.ask(OURS, "pool_grow", n=10**9)
    assert "error" in celery.ask(OURS, "pool_grow", n="many")
    assert celery.ask(OURS, "pool_grow", n=1) == {"ok": "pool will grow"}
    assert celery.ask(OURS, "stats")["pool"]["max-concurrency"] == 2


def test_queues_are_added_and_left(celery: CeleryClient, runs):
    assert both(celery, "add_consumer", queue="more") == ({"ok": "add consumer more"}, {"ok": "add consumer more"})
    # Theirs leaves it first, so that ours is the one.
    assert celery.ask(THEIRS, "cancel_consumer", queue="more") == {"ok": "no longer consuming from more"}
    until(lambda: [one["name"] for one in celery.ask(THEIRS, "active_queues")] == ["theirs"], "theirs has left it")
    sent = celery.send("count", 1, queue="more")
    assert celery.get(sent).value == 1
    assert [one["name"] for one in celery.ask(OURS, "active_queues")] == ["ours", "more"]
    assert celery.ask(OURS, "cancel_consumer", queue="more") == {"ok": "no longer consuming from more"}
    assert [one["name"] for one in celery.ask(OURS, "active_queues")] == ["ours"]
    waits = celery.send("count", 2, queue="more")
    assert celery.get(celery.send("count", 3, queue="ours")).value == 3
    assert waits not in {run.id for run in read(runs)}
    celery.ask(OURS, "add_consumer", queue="more")
    assert celery.get(waits).value == 2
    celery.ask(OURS, "cancel_consumer", queue="more")
    celery.ask(OURS, "cancel_consumer", queue="never-heard-of")
    assert "error" in celery.ask(OURS, "add_consumer", queue="more", exchange="elsewhere")


def test_a_rate_limit(celery: CeleryClient, runs):
    assert celery.ask(OURS, "rate_limit", task_name="interop.count", rate_limit="5/s") == {
        "ok": "new rate limit set successfully"
    }
    assert "interop.count [rate_limit=5/s]" in celery.ask(OURS, "registered")
    before = len(read(runs))
    ids = celery.send_many("count", [(number, {"queue": "ours"}) for number in range(6)])
    # Others are not held up for long by those that wait.
    celery.get_many(ids)
    starts = sorted(run.at for run in read(runs)[before:] if run.id in ids)
    assert starts[-1] - starts[0] > 0.9
    assert all(later - sooner > 0.15 for sooner, later in itertools.pairwise(starts))
    off = both(celery, "rate_limit", task_name="interop.count", rate_limit=0)
    assert off == ({"ok": "rate limit disabled successfully"},) * 2
    assert "interop.count" in celery.ask(OURS, "registered")


@pytest.mark.campaign
def test_what_is_rare_keeps_nobody_from_working(celery: CeleryClient, runs):
    """It goes back on the schedule until its turn, and the slots are free for others."""
    # The first delay makes what delays need on a RabbitMQ, which may take seconds.
    assert celery.get(celery.send("flaky", 1, queue="ours")).value == 1
    celery.ask(OURS, "rate_limit", task_name="interop.count", rate_limit="40/m")
    ids = celery.send_many("count", [(number, {"queue": "ours"}) for number in range(4)])
    until(lambda: {run.id for run in read(runs)} & set(ids), "the first runs")
    assert celery.get(celery.send("add", 1, 2, queue="ours"), within=1.5).value == 3
    celery.get_many(ids)
    starts = sorted(run.at for run in read(runs) if run.id in ids)
    assert all(later - sooner > 1.4 for sooner, later in itertools.pairwise(starts))
    celery.ask(OURS, "rate_limit", task_name="interop.count", rate_limit=0)


def test_a_time_limit(celery: CeleryClient):
    assert celery.ask(OURS, "time_limit", task_name="interop.slow", soft=0.2, hard=0.3) == {
        "ok": "time limits set successfully"
    }
    answer = celery.get(celery.send("slow", 20.0, queue="ours"))
    assert answer.state == "FAILURE"
    assert answer.error.endswith("TimeLimitExceeded"), answer
    celery.ask(OURS, "time_limit", task_name="interop.slow")
    assert celery.get(celery.send("slow", 0.5, queue="ours")).value == "slept"


def test_what_handlers_run_in_begins_anew(celery: CeleryClient, runs):
    sent = celery.send("count", 1, kwargs={"seconds": 0.3}, queue="ours")
    until(lambda: sent in {run.id for run in read(runs)}, "it runs")
    assert celery.ask(OURS, "pool_restart") == {"ok": "reload started"}
    assert celery.get(sent).value == 1
    assert celery.get(celery.send("count", 2, queue="ours")).value == 2


def test_events_that_nobody_sends_cannot_be_enabled(celery: CeleryClient):
    assert celery.ask(OURS, "enable_events") == {"error": "event dispatcher unavailable"}


def test_tasks_are_revoked_by_their_stamps(celery: CeleryClient, runs):
    runs_on = celery.send_stamped("slow", 60.0, queue="ours", batch="b1")
    other = celery.send_stamped("slow", 0.5, queue="ours", batch="b2")
    until(lambda: {runs_on, other} <= {run.id for run in read(runs)}, "they run")
    celery.revoke_stamped(batch=["b1"], terminate=True)
    assert celery.get(runs_on).state == "REVOKED"
    assert celery.get(other).value == "slept"
    assert celery.get(celery.send_stamped("add", 1, 2, queue="ours", batch="b1")).state == "REVOKED"
    assert celery.get(celery.send_stamped("add", 1, 2, queue="ours", batch="b3")).value == 3
    assert celery.get(celery.send("add", 1, 2, queue="ours")).value == 3


COMMANDS = ("active", "registered", "conf", "query_task", "rate_limit", "time_limit", "add_consumer", "cancel_consumer")
NAMES = ("task_name", "rate_limit", "queue", "n", "hard", "soft", "ids", "taskinfoitems", "headers", "task_id", "safe")
NONSENSE = (None, -1, 1e308, "", "x" * 5000, "\ud800", [], ["a", 1, None], {"a": {"b": []}}, [["=", "=="]] * 100)


def test_nonsense_does_no_harm(celery: CeleryClient):
    """Every argument of every command, with whatever a stranger may write there."""
    for value in NONSENSE:
        arguments = dict.fromkeys(NAMES, value)
        for method in (*COMMANDS, "pool_grow", "pool_shrink", "autoscale", "revoke_by_stamped_headers", "election"):
            answer = celery.ask(OURS, method, **arguments)
            assert answer is None or answer or answer in ({}, [])
    assert celery.get(celery.send("add", 1, 2, queue="ours")).value == 3
    assert [one["name"] for one in celery.ask(OURS, "active_queues")] == ["ours"]
    assert celery.ask(OURS, "stats")["pool"]["max-concurrency"] == 2


@pytest.mark.campaign
def test_processes_are_restarted_and_end_one_by_one(celery: CeleryClient, site: Site, folder):
    command = [sys.executable, "-m", "tranship", "--url", site.url, "worker", "interop.tranship_app", "-q", "many"]
    worker = WorkerProcess([*command, "--name", "many", "--processes", "2"], folder, "many", site.environ)
    one, two = (node_name(f"many-{number}") for number in (1, 2))
    try:
        worker.start("worker many-2 consumes many")
        before = celery.ask(one, "stats")["pid"]
        assert celery.ask(one, "pool_restart") == {"ok": "reload started"}
        said = until(lambda: (now := celery.ask(one, "stats", within=1)) and now["pid"] != before and now, "a new one")
        assert said["pid"] != before
        celery.ask(one, "shutdown")
        until(lambda: "nobody takes its place" in worker.output(), "it is not replaced")
        assert celery.ask(two, "ping") == {"ok": "pong"}
        celery.ask(two, "shutdown")
        until(lambda: not worker.alive, "all have ended")
        assert worker.status == 0
    finally:
        worker.kill()


def test_shutdown(celery: CeleryClient, site: Site, folder):
    environ = {**site.environ, "INTEROP_NAME": "ending@interop"}
    worker = TranshipWorker(site.url, folder, name="ending", queue="ending", environ=environ)
    try:
        worker.start("ready\n")
        celery.ask("ending@interop", "shutdown")
        until(lambda: not worker.alive, "it has ended")
        assert worker.status == 0
    finally:
        worker.kill()
