"""A Celery worker and a tranship worker on one queue of Redis: every task is answered once, whoever sent it and whoever dies."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from interop.celery_client import CeleryClient
from interop.runs import Run, read, until
from interop.tranship_app import add, count, slow
from interop.workers import CeleryWorker, TranshipWorker
from tranship import Client, TaskHandle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TASKS = 1000
LEASE = 2.0
VISIBILITY = 4.0
HELD = ("unacked", "unacked_index", "tranship:leases")
LEVELS = ("high", "normal", "low", "very_low")


@pytest.fixture
def tell(request, capsys) -> Callable[[str], None]:
    """Print a line whatever pytest captures: the counts are what this is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return line


class Results:
    """Counts what is published for each task: SUCCESS once, and nothing else that ends it."""

    def __init__(self, redis: Redis) -> None:
        self._feed = redis.pubsub(ignore_subscribe_messages=True)
        self._feed.psubscribe("celery-task-meta-*")
        # The first message confirms the subscription.
        until(lambda: self._feed.subscribed and self._feed.get_message(timeout=0.1) is None, "subscribed")

    def ends(self) -> Counter[str]:
        """How many terminal documents were published, by id."""
        found: Counter[str] = Counter()
        while message := self._feed.get_message(timeout=0.3):
            document = json.loads(message["data"])
            if document["status"] in ("SUCCESS", "FAILURE", "REVOKED"):
                found[document["task_id"]] += 1
        return found

    def close(self) -> None:
        self._feed.close()


@pytest.fixture
def results(redis) -> Iterator[Results]:
    feed = Results(redis)
    yield feed
    feed.close()


@pytest.fixture(scope="module")
def celery(url) -> Iterator[CeleryClient]:
    with CeleryClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def celery_worker(url, folder) -> Iterator[CeleryWorker]:
    with CeleryWorker(url, folder, concurrency=4) as worker:
        yield worker


@pytest.fixture(scope="module")
def tranship_worker(url, folder) -> Iterator[TranshipWorker]:
    with TranshipWorker(f"{url}?lease={LEASE:g}", folder, concurrency=4) as worker:
        yield worker


@pytest.mark.usefixtures("celery_worker", "tranship_worker")
@pytest.mark.parametrize("sender", ["celery", "tranship"])
def test_a_thousand_tasks_over_all_priorities(request, url, redis, results, runs, tell, sender):
    before = len(read(runs))
    began = time.monotonic()
    answers = (from_celery if sender == "celery" else from_tranship)(request, url)
    took = time.monotonic() - began
    assert list(answers.values()) == list(range(TASKS))
    ran = [run for run in read(runs)[before:] if run.id in answers]
    shares = Counter(run.who for run in ran)
    ends = results.ends()
    tell(f"{TASKS} tasks in {took:.1f} s, runs {dict(shares)}, answers published {sum(ends.values())}")
    assert Counter(run.id for run in ran) == dict.fromkeys(answers, 1), "a task ran twice, or never"
    assert {task_id: ends[task_id] for task_id in answers} == dict.fromkeys(answers, 1)
    assert min(shares["celery"], shares["tranship"]) >= TASKS * 0.02, "one of them did nearly nothing"
    until(lambda: not redis.exists(*HELD), "nothing is left behind")


def from_celery(request, url) -> dict[str, int]:
    celery: CeleryClient = request.getfixturevalue("celery")
    calls = [(number, {"priority": number % 10, "kwargs": {"seconds": 0.004}}) for number in range(TASKS)]
    ids = celery.send_many("count", calls)
    return {task_id: answer.value for task_id, answer in zip(ids, celery.get_many(ids), strict=True)}


def from_tranship(request, url) -> dict[str, int]:
    calls = [count.options(priority=LEVELS[number % 4]).call(number, 0.004) for number in range(TASKS)]
    with Client(url) as client:
        return {result.id: result.value for result in client.collect(client.submit_many(calls), 60)}


@pytest.mark.usefixtures("celery_worker", "tranship_worker")
def test_a_killed_tranship_worker(url, folder, redis, runs, tell):
    with Client(url) as client, TranshipWorker(f"{url}?lease={LEASE:g}", folder, name="doomed") as doomed:
        handles = client.submit_many(count.call(number, 0.02) for number in range(400))
        until(lambda: len(read_of(runs, handles)) > 100, "they are at work")
        doomed.kill()
        killed = time.time()
        held = {token for token, _ in redis.zscan_iter("tranship:leases")}
        answers = [result.value for result in client.collect(handles, 30)]
    starts = Counter(run.id for run in read_of(runs, handles))
    again = [run.at - killed for run in read_of(runs, handles) if starts[run.id] > 1 and run.at > killed]
    tell(f"{len(held)} leases when it died, {len(again)} runs repeated, the last {max(again, default=0.0):.2f} s later")
    assert answers == list(range(400))
    assert starts.keys() == {handle.id for handle in handles}
    assert again, "it held nothing when it died"
    assert max(again) < LEASE + 1.0
    until(lambda: not redis.exists(*HELD), "nothing is left behind", LEASE + 5)


def test_a_long_task_is_not_taken_from_us(url, folder, redis, runs):
    """A Celery worker that restores every second whatever is older than a second leaves alone what we renew."""
    eager = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    with (
        Client(url) as client,
        TranshipWorker(f"{url}?lease=1.5", folder, name="long", queue="long") as ours,
        # Of another queue: it restores for everybody, and takes nothing.
        CeleryWorker(url, folder, name="eager", queue="idle", broker_transport_options=eager),
    ):
        # What nobody renews does come back: it is looking.
        redis.hset("unacked", "stale", json.dumps([{}, "", "restored"]))
        redis.zadd("unacked_index", {"stale": time.time() - 60})
        handle = client.submit(slow.options(queue="long"), 2.5)
        until(lambda: redis.zscore("unacked_index", "stale") is None, "Celery restores")
        assert handle.result(timeout=10) == "slept"
        assert len(read_of(runs, [handle])) == 1
        assert ours.alive
    redis.delete("restored")


@pytest.mark.usefixtures("celery_worker")
def test_celery_workers_do_not_end_what_runs_here(url, folder, celery: CeleryClient, results, runs):
    """Celery's workers mark what they hear is revoked, unless somebody has written that it runs."""
    with TranshipWorker(url, folder, name="other", queue="other"):
        task_id = celery.send("slow", 0.7, queue="other")
        until(lambda: [run for run in read(runs) if run.id == task_id], "it runs")
        celery.revoke(task_id)
        assert celery.get(task_id).value == "slept"
    assert results.ends()[task_id] == 1, "somebody else ended it, too"


def test_nothing_is_left_and_celery_is_well(celery: CeleryClient, celery_worker, tranship_worker, url, redis):
    with Client(url) as client:
        assert [client.submit(add, number, 1).result(timeout=10) for number in range(20)] == list(range(1, 21))
    assert celery.group([(number, 1) for number in range(20)]) == list(range(1, 21))
    assert celery_worker.alive
    assert "Unrecoverable error" not in celery_worker.output()
    assert tranship_worker.alive
    until(lambda: not redis.exists(*HELD), "everything is settled")


def test_a_killed_celery_worker_is_swept_when_its_time_has_come(url, folder, runs, redis, tell):
    """Celery's own entries come back after its visibility timeout; our lease, which is shorter, is not theirs."""
    patient = f"{url}?lease={LEASE:g}&visibility_timeout={VISIBILITY:g}"
    late = {"task_acks_late": True, "broker_transport_options": {"visibility_timeout": VISIBILITY}}
    with Client(url) as client:
        with CeleryWorker(url, folder, name="late", queue="late", **late) as worker:
            handles = client.submit_many([slow.options(queue="late").call(20.0) for _ in range(2)])
            until(lambda: len(read_of(runs, handles)) == 2, "Celery runs them")
            held = dict(redis.zscan_iter("unacked_index"))
            taken = min(held.values())
            worker.kill()
        waiting = slow.options(queue="late").call(0.0)
        until(lambda: time.time() > taken + LEASE + 0.5, "a lease of ours would have ended")
        with TranshipWorker(patient, folder, name="early", queue="late"):
            assert client.submit(waiting).result(timeout=5) == "slept"
            while time.time() < taken + VISIBILITY - 0.5:
                assert redis.zmscore("unacked_index", list(held)) == list(held.values()), "swept too soon"
                time.sleep(0.1)
        # Like Celery's, a worker of ours looks when it starts.
        until(lambda: time.time() > taken + VISIBILITY, "its time has come")
        with TranshipWorker(patient, folder, name="heir", queue="late", concurrency=4) as heir:
            until(lambda: len(read_of(runs, handles)) == 4, "both run again", 15)
            last = max(run.at for run in read_of(runs, handles))
            tell(f"two tasks of a killed Celery worker ran again {last - taken:.1f} s after it had taken them")
            assert last - taken >= VISIBILITY
            # They sleep for long.
            heir.kill()


def read_of(runs: Path, handles: Iterable[TaskHandle[Any]]) -> list[Run]:
    """What was started of these tasks."""
    ids = {handle.id for handle in handles}
    return [run for run in read(runs) if run.id in ids]
