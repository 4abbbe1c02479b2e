"""What a real Celery client sends runs on a tranship worker, and ``AsyncResult.get()`` answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import TASKS, slow
from interop.workers import CeleryWorker
from tranship import Client, Worker
from tranship.testing.background import BackgroundWorker

VALUES = ["héllo ☃ 😀", "", None, True, 2**53 + 1, 1.5, [], {"a": [1, {}, None]}]


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site, runs) -> Iterator[Worker]:
    with BackgroundWorker(site.worker(TASKS, max_concurrent_tasks=10)) as running:
        yield running.worker


@pytest.fixture(scope="module")
def single(site: Site, runs) -> Iterator[Worker]:
    """One task at a time, on a queue of its own."""
    with BackgroundWorker(site.worker(TASKS, queues=["single"], max_concurrent_tasks=1)) as running:
        yield running.worker


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="json"),
        pytest.param({"serializer": "msgpack"}, id="msgpack"),
        pytest.param({"compression": "zlib"}, id="zlib"),
        pytest.param({"compression": "bzip2"}, id="bz2"),
        pytest.param({"serializer": "msgpack", "compression": "zlib"}, id="msgpack-zlib"),
    ],
)
def test_values_arrive_unchanged(celery: CeleryClient, options):
    values = [*VALUES, b"\x00\xff raw"]
    ids = celery.send_many("echo", [(value, options) for value in values])
    assert [answer.value for answer in celery.get_many(ids)] == values


def test_delay_with_keywords(celery: CeleryClient):
    assert celery.get(celery.send("add", kwargs={"a": "4", "b": "2"})).value == "42"


def test_protocol_1(celery: CeleryClient):
    assert celery.get(celery.send_protocol1("add", 2, 3)).value == 5


def test_a_group(celery: CeleryClient):
    assert celery.group([(1, 1), (2, 2), (3, 3)]) == [2, 4, 6]


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_failures_keep_their_type(celery: CeleryClient, serializer):
    answer = celery.get(celery.send("fail", "tray 2", serializer=serializer))
    assert (answer.state, answer.error, answer.text) == ("FAILURE", "interop.problems.OutOfPaper", "tray 2")
    assert answer.ours, "the client finds our class"
    assert "tranship_app.py" in (answer.traceback or "")


def test_wrong_arguments_are_a_failure(celery: CeleryClient):
    answer = celery.get(celery.send("echo"))
    assert (answer.state, answer.error) == ("FAILURE", "builtins.TypeError")
    assert "'value'" in answer.text


def test_an_unknown_task_is_a_failure_that_names_it(celery: CeleryClient):
    answer = celery.get(celery.send("elsewhere"))
    assert (answer.state, answer.error) == ("FAILURE", "celery.exceptions.NotRegistered")
    assert "interop.elsewhere" in answer.text


def test_a_tranship_task_retries_until_success(celery: CeleryClient, runs):
    task_id = celery.send("flaky", 2)
    assert celery.get(task_id).value == 2
    assert [run.label for run in read(runs) if run.id == task_id] == ["0", "1", "2"]


def test_the_tasks_own_options_hold_for_what_celery_sends(celery: CeleryClient, runs):
    task_id = celery.send("stubborn")
    assert celery.get(task_id).value == [2, 30, 600]
    assert [run.label for run in read(runs) if run.id == task_id] == ["0", "1", "2"]
    limited = celery.send("stubborn", time_limit=20)
    assert celery.get(limited).value == [2, 20, 600]


def test_started_while_it_runs(celery: CeleryClient, worker, site: Site):
    if not site.on_redis:
        pytest.skip("only on Redis a claim says STARTED: there, who hears a revoke marks what does not run")
    task_id = celery.send("slow", 0.4)
    until(lambda: celery.state(task_id) == "STARTED", "the running task's state")
    assert worker.name in celery.info(task_id)["hostname"]
    assert celery.get(task_id).value == "slept"


@pytest.mark.parametrize("how", ["eta", "countdown"])
def test_not_before(celery: CeleryClient, runs, how):
    sent = time.time()
    task_id = celery.send("count", 1, **{how: sent + 0.6 if how == "eta" else 0.6})
    assert celery.get(task_id).value == 1
    (run,) = (run for run in read(runs) if run.id == task_id)
    # Celery's dates have microseconds; ours may be early by a broker's resolution.
    assert 0.55 <= run.at - sent < 3


def test_expires(celery: CeleryClient, runs):
    task_id = celery.send("count", 1, countdown=0.5, expires=0.2)
    answer = celery.get(task_id)
    assert (answer.state, answer.error, answer.text) == ("REVOKED", "celery.exceptions.TaskRevokedError", "expired")
    assert not [run for run in read(runs) if run.id == task_id]


def test_what_the_handler_sees(celery: CeleryClient, site: Site):
    task_id = celery.send("seen", priority=6, time_limit=30, soft_time_limit=20, expires=60, headers={"colour": "red"})
    said = celery.get(task_id).value
    assert 50 < said.pop("deadline_in") <= 60
    assert said == {
        # A plain queue of RabbitMQ knows no priorities.
        "priority": "low" if site.on_redis else "normal",
        "run_timeout": 30,
        "attempt": 0,
        "root_id": None,
        "group_id": None,
        "colour": "red",
        "content_type": "application/json",
    }


def test_priorities_in_order(site: Site, runs):
    ours, theirs = site.ranked
    worker = site.worker(TASKS, options=ours, queues=["ranked"], max_concurrent_tasks=1)
    with BackgroundWorker(worker), CeleryClient(site.url, **theirs, **site.config) as celery:
        # The worker has one slot, which is taken while these arrive.
        blocking = celery.send("slow", 0.5, queue="ranked")
        until(lambda: started(runs, blocking), "the slot is taken")
        numbers = (9, 6, 3, 0) if site.on_redis else (0, 3, 6, 9)
        calls = [(number, {"priority": number, "queue": "ranked"}) for number in numbers]
        ids = celery.send_many("count", calls)
        assert [answer.value for answer in celery.get_many(ids)] == list(numbers)
    order = [int(run.label) for run in read(runs) if run.id in ids]
    # Redis: 0 goes first; RabbitMQ: 9 does.
    assert order == list(reversed(numbers))


def test_a_result_that_is_not_wanted(celery: CeleryClient, site: Site, runs):
    task_id = celery.send("count", 1, ignore_result=True)
    until(lambda: [run for run in read(runs) if run.id == task_id], "it runs")
    assert celery.get(celery.send("add", 1, 1)).value == 2
    assert not site.kept(task_id)


def test_the_task_says_whether_its_result_is_wanted_where_celery_does_not(celery: CeleryClient, site: Site, runs):
    unsaid = celery.send("unheard", ignore_result=None)
    until(lambda: [run for run in read(runs) if run.id == unsaid], "it runs")
    # A task that the client declares says what its declaration says: as on Celery's own workers, that counts.
    assert celery.get(celery.send("unheard")).value == "heard"
    assert not site.ended(unsaid)


def test_revoked_before_it_starts(celery: CeleryClient, single, runs):
    blocking = celery.send("slow", 0.5, queue="single")
    until(lambda: started(runs, blocking), "the slot is taken")
    queued = celery.send("count", 1, queue="single")
    celery.revoke(queued)
    answer = celery.get(queued)
    assert (answer.state, answer.error) == ("REVOKED", "celery.exceptions.TaskRevokedError")
    assert celery.get(blocking).value == "slept"
    assert not [run for run in read(runs) if run.id == queued]


def test_revoked_before_its_eta(celery: CeleryClient, runs):
    task_id = celery.send("count", 1, countdown=0.8)
    celery.revoke(task_id)
    assert celery.get(task_id).state == "REVOKED"
    assert not [run for run in read(runs) if run.id == task_id]


def test_revoked_long_before_its_eta(celery: CeleryClient, site: Site, runs):
    due = time.time() + (3600 if site.on_redis else 3)
    task_id = celery.send("count", 1, eta=due)
    celery.revoke(task_id)
    assert celery.get(task_id).state == "REVOKED"
    # RabbitMQ keeps what is not due, and cannot be asked for it: a worker ends it when it comes.
    assert site.on_redis or time.time() > due - 0.5
    assert not [run for run in read(runs) if run.id == task_id]


def test_a_plain_revoke_leaves_a_running_task_alone(celery: CeleryClient, runs):
    task_id = celery.send("slow", 0.6)
    until(lambda: started(runs, task_id), "it runs")
    celery.revoke(task_id)
    assert celery.get(task_id).value == "slept"


def test_terminate_stops_a_running_task(celery: CeleryClient, runs):
    task_id = celery.send("slow", 30)
    until(lambda: started(runs, task_id), "it runs")
    celery.revoke(task_id, terminate=True)
    assert celery.get(task_id).error == "celery.exceptions.TaskRevokedError"


def test_ping_finds_the_worker(celery: CeleryClient, worker):
    answers = celery.ping()
    assert [answer for node, answer in answers.items() if worker.name in node] == [{"ok": "pong"}]


def test_results_in_msgpack(site: Site, runs):
    # Said to whoever keeps the results.
    packed = f"{site.result_url or site.url}?result_serializer=msgpack"
    urls = (packed, None) if site.result_url is None else (site.url, packed)
    worker = Worker(urls[0], result_url=urls[1], tasks=TASKS, queues=["packed"], shutdown_timeout=5)
    with (
        BackgroundWorker(worker),
        CeleryClient(site.url, result_serializer="msgpack", **site.config) as celery,
        Client(urls[0], result_url=urls[1]) as client,
    ):
        assert celery.get(celery.send("echo", VALUES, queue="packed", serializer="msgpack")).value == VALUES
        answer = celery.get(celery.send("fail", "tray 2", queue="packed"))
        assert (answer.state, answer.ours, answer.text) == ("FAILURE", True, "tray 2")
        task_id = celery.send("slow", 0.3, queue="packed")
        until(lambda: started(runs, task_id), "it runs")
        assert client.submit(slow.options(queue="packed"), 0).result(timeout=5) == "slept"
        assert celery.get(task_id).value == "slept"


def test_nothing_is_left_and_celery_is_well(site: Site, folder, celery: CeleryClient):
    site.settled("everything is settled")
    with CeleryWorker(site.url, folder, queue="after", **site.config) as worker:
        assert celery.get(celery.send("add", 20, 3, queue="after")).value == 23
        assert "Unrecoverable error" not in worker.output()


def started(runs, task_id: str) -> bool:
    """Whether a handler has this task."""
    return any(run.id == task_id for run in read(runs))
