"""Percentiles of how long tasks waited and ran, of what workers remember."""

import time
from dataclasses import replace
from uuid import uuid4

import pytest
from cli_kit import until

from tranship import Client, FixedBackoff, RetryPolicy, Worker, current, gather, task
from tranship.envelope import made_at, new_id
from tranship.finished import Finished, decode_finished, encode_finished
from tranship.operations import History, Operator, Percentiles, latencies, percentiles, run_times, waited
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

NOW = time.time()


def ended(task_id: str, at: float = NOW, **facts) -> Finished:
    return Finished(**{"id": task_id, "task": "t", "queue": "q", "outcome": "succeeded", "at": at, **facts})


def told(*attempts: Finished) -> History:
    history = History()
    history.add(decode_finished(encode_finished(attempts)))
    return history


def test_percentiles_are_what_was_measured() -> None:
    assert percentiles([]) is None
    assert percentiles([None]) is None
    assert percentiles([3.0]) == Percentiles(3.0, 3.0, 3.0)
    assert percentiles([2.0, None, 1.0]) == Percentiles(1.0, 2.0, 2.0)
    assert percentiles(float(one) for one in range(100, 0, -1)) == Percentiles(50.0, 95.0, 99.0)


def test_by_task_within_a_time() -> None:
    history = told(
        ended("1", NOW - 100, seconds=9.0),
        ended("2", NOW - 50, seconds=1.0, due=NOW - 53, outcome="failed"),
        ended("3", NOW - 40, seconds=2.0, due=NOW - 50),
        ended("4", NOW - 30, task="other", outcome="expired"),
    )
    every, other = latencies(history)
    assert (every.task, every.attempts, every.failed, every.since) == ("t", 3, 1, NOW - 100)
    assert every.run == Percentiles(2.0, 9.0, 9.0)
    assert every.wait == Percentiles(pytest.approx(2.0), pytest.approx(8.0), pytest.approx(8.0))
    assert (other.task, other.run, other.wait) == ("other", None, None)
    assert [one.attempts for one in latencies(history, seconds=70 + time.time() - NOW)] == [2, 1]
    assert latencies(History()) == []


def test_run_times_by_queue() -> None:
    history = told(
        ended("1", seconds=1.0),
        ended("2", seconds=3.0, task="other"),
        ended("3", seconds=0.5, queue="fast"),
        ended("4", queue="never ran"),
    )
    assert run_times(history) == {"q": Percentiles(1.0, 3.0, 3.0), "fast": Percentiles(0.5, 0.5, 0.5)}


class TestWaited:
    def test_from_when_it_could_begin(self) -> None:
        one = ended("1", seconds=2.0, due=NOW - 5)
        assert waited(told(one), one) == pytest.approx(3.0)
        ahead = replace(one, due=NOW + 5)
        assert waited(told(ahead), ahead) == 0.0, "clocks differ"
        for unknown in (replace(one, due=None), replace(one, seconds=None)):
            assert waited(told(unknown), unknown) is None

    def test_a_step_waits_from_when_the_one_before_has_ended(self) -> None:
        first = ended("1", NOW - 10, seconds=20.0, due=NOW - 31)
        step = ended("2", NOW - 1, seconds=2.0, due=NOW - 31, parent_id="1")
        assert waited(told(first, step), step) == pytest.approx(7.0)
        assert waited(told(step), step) is None, "nobody remembers when that was"

    def test_what_a_task_has_submitted_waits_from_then(self) -> None:
        parent = ended("1", NOW - 5, seconds=20.0)
        child = ended("2", NOW - 1, seconds=2.0, due=NOW - 8, parent_id="1")
        assert waited(told(parent, child), child) == pytest.approx(5.0)

    def test_a_replayed_one_is_not_known(self) -> None:
        dead = ended("1", NOW - 5000, seconds=1.0, due=NOW - 5002, outcome="dead")
        again = ended("1", NOW, seconds=1.0, due=NOW - 5002)
        history = told(dead, again)
        assert waited(history, dead) == pytest.approx(1.0)
        assert waited(history, again) is None


def test_ids_tell_when_they_were_made() -> None:
    assert made_at(new_id()) == pytest.approx(time.time(), abs=60)
    for other in (str(uuid4()), "", "x" * 36, "zzzzzzzz-zzzz-7zzz-8zzz-zzzzzzzzzzzz"):
        assert made_at(other) is None


@task(name="latency.flaky", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.05)))
def flaky() -> None:
    if current().attempt == 0:
        raise ValueError("once")


@task(name="latency.add")
def add(numbers: list[int]) -> int:
    return sum(numbers)


def test_workers_say_from_when_on_a_task_could_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tranship.worker._history.EVERY", 0.05)
    settings = Settings.load(broker_url=f"memory://{uuid4().hex}", history=100, heartbeat_interval=0.1)
    with Client(settings=settings) as client, Operator(settings=settings) as operator:
        begun = time.time()
        client.submit(flaky)
        client.submit(gather([add.call([1]), add.call([2])]).then(add))
        delayed = client.submit(add.options(delay=0.2), [1])
        own = client.submit(add.options(task_id="of-my-own"), [1])
        with BackgroundWorker(Worker(settings=settings, tasks=[flaky, add], name="w")):
            until(lambda: len(operator.finished()) == 7)
        history = History()
        history.add(operator.finished())
    first, second = history.attempts(next(one.id for one in history.latest() if one.task == "latency.flaky"))
    assert first.due is not None
    assert second.due is not None
    assert begun - 1 < first.due <= first.at
    assert second.due >= first.at + 0.04
    assert history.attempts(delayed.id)[0].due >= begun + 0.19
    assert history.attempts(own.id)[0].due is None
    known = [waited(history, one) for one in history.latest() if one.id != own.id]
    assert all(one is not None and 0 <= one < 60 for one in known)
