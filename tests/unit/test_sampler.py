"""Depths, rates and latencies over hours, from what an operator sees."""

import pytest
from cli_kit import until

from tranship import Client, FixedBackoff, RetryPolicy, Worker, task
from tranship.envelope import Priority
from tranship.operations import Operator, QueueReport, Sampler
from tranship.operations._sampler import COARSE, FINE, MOST, SILENT
from tranship.ports import Heartbeat, QueueTotals
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

BEGIN = 1_700_000_000.0


def report(name: str = "q", ready: int = 0, **given) -> QueueReport:
    facts = {"delayed": 0, "in_flight": 0, "oldest_age": 0.0, "dead": 0, "workers": 1, **given}
    return QueueReport(name=name, ready={Priority.NORMAL: ready}, **facts)


def beat(at: float, *, started_at: float | None = BEGIN - 1000, instance: str = "i", **totals) -> Heartbeat:
    told = {"q": QueueTotals(**totals)} if totals else {}
    facts = {"host": "h", "pid": 1, "queues": ["q"], "running": [], "limit": 1}
    return Heartbeat(worker="w", at=at, started_at=started_at, instance=instance, totals=told, **facts)


class TestRates:
    def test_two_heartbeats_make_a_rate(self) -> None:
        sampler = Sampler()
        first = sampler.take([report()], [beat(BEGIN, ended=1000, seconds=10.0)], at=BEGIN)
        assert (first["q"].rate, first["q"].run_time) == (0.0, None), "what was before nobody knows when"
        second = beat(BEGIN + 5, ended=1100, failed=5, retried=10, seconds=43.0)
        found = sampler.take([report()], [second], at=BEGIN + 5)["q"]
        assert (found.rate, found.failing, found.retrying) == (20.0, 1.0, 2.0)
        assert found.run_time == pytest.approx(0.3)
        assert sampler.take([report()], [second], at=BEGIN + 8)["q"].rate == 20.0, "until it is heard of again"
        assert sampler.take([report()], [second], at=BEGIN + 6 + SILENT)["q"].rate == 0.0

    def test_workers_add_up_and_one_that_begins_anew_takes_nothing_away(self) -> None:
        sampler = Sampler()
        sampler.take([report()], [beat(BEGIN, ended=1000), beat(BEGIN, instance="j", ended=10)], at=BEGIN)
        beats = [beat(BEGIN + 5, ended=1010), beat(BEGIN + 5, instance="j", ended=20)]
        assert sampler.take([report()], beats, at=BEGIN + 5)["q"].rate == 4.0
        restarted = beat(BEGIN + 10, instance="k", started_at=BEGIN + 8, ended=4)
        assert sampler.take([report()], [restarted], at=BEGIN + 10)["q"].rate == 2.0
        backwards = beat(BEGIN + 15, instance="k", ended=1)
        assert sampler.take([report()], [backwards], at=BEGIN + 15)["q"].rate == 0.0

    def test_heartbeats_that_follow_each_other_closely_are_one(self) -> None:
        sampler = Sampler()
        sampler.take([report()], [beat(BEGIN, ended=0, failed=0)], at=BEGIN)
        sampler.take([report()], [beat(BEGIN + 5, ended=50)], at=BEGIN + 5)
        assert sampler.take([report()], [beat(BEGIN + 5.1, ended=50)], at=BEGIN + 5.1)["q"].rate == 10.0


class TestSeries:
    def test_hours_are_kept_by_the_minute_and_the_latest_as_they_are(self) -> None:
        sampler, day = Sampler(), 86_400
        for at in range(0, day, 5):
            sampler.take([report(ready=at // 60, oldest_age=float(at % 60))], at=BEGIN + at)
        found = sampler.series("q")
        assert len(found) <= FINE + COARSE
        assert found[-1].ready == (day - 5) // 60
        assert found[-1].at - found[0].at > 11.9 * 3600
        assert [one.at for one in found] == sorted(one.at for one in found)
        assert found[0].oldest_age == 55.0, "the longest wait of the minute"
        assert all(one.at >= found[-1].at - 600 for one in sampler.series("q", seconds=600))
        assert len(sampler.series("q", seconds=600)) == 121

    def test_all_queues_together(self) -> None:
        sampler = Sampler()
        reports = [report("a", 3, oldest_age=7.0, delayed=None), report("b", 4, oldest_age=2.0, delayed=5)]
        sampler.take(reports, at=BEGIN)
        together = sampler.latest()
        assert together is not None
        assert (together.ready, together.oldest_age, together.delayed, sampler.queues) == (7, 7.0, 5, ["a", "b"])

    def test_it_is_bounded_whatever_names_queues_have(self) -> None:
        sampler = Sampler()
        sampler.take([report(f"q{number}", 1) for number in range(1000)], at=BEGIN)
        assert len(sampler.queues) <= MOST
        assert sampler.latest().ready == 1000  # type: ignore[union-attr]
        sampler.take([report("new")], at=BEGIN + 13 * 3600)
        sampler.take([report("new")], at=BEGIN + 13 * 3600 + 5)
        assert sampler.queues == ["new"]

    def test_nothing_is_known_of_what_was_never_seen(self) -> None:
        assert Sampler().series("q") == []
        assert Sampler().latest() is None


@task(name="sampler.half", retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.01)))
def half(number: int) -> None:
    if number % 2:
        raise ValueError("odd")


def test_a_worker_tells_what_it_has_done() -> None:
    settings = Settings.load(broker_url="memory://test-sampler", heartbeat_interval=0.05)
    with Client(settings=settings) as client, Operator(settings=settings) as operator:
        client.submit_many(half.call(number) for number in range(10))
        with BackgroundWorker(Worker(settings=settings, tasks=[half])):

            def totals() -> QueueTotals:
                heard = [one.totals["default"] for one in operator.workers() if "default" in one.totals]
                return heard[0] if heard else QueueTotals()

            until(lambda: totals().ended == 10)
            assert (totals().failed, totals().retried) == (5, 5)
