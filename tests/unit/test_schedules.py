"""Schedules on an embedded broker: declared, added, paused, changed, taken over; and mistakes."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path

import pytest

from driver import three_methods
from tranship import Client, FixedBackoff, RetryPolicy, Schedule, Scheduler, Worker, current, task
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError, UnsupportedError
from tranship.operations import Operator
from tranship.registry import Registry
from tranship.schedules import Pace
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker

QUICK = Pace(lease=1.5, look=0.1, known=5.0)


@task(name="app.report", queue="reports")
def report(kind: str = "daily") -> str:
    return kind


@task(name="app.tick", every=0.25, missed="all", store_result=True)
def tick() -> str:
    return str(current().headers["schedule-tick"])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tasks.db'}"


def until(true, what: str, patience: float = 16.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def named(url: str) -> dict:
    with Operator(url) as operator:
        return {one.name: one for one in operator.schedules()}


def test_a_task_says_when_it_runs(url):
    assert tick.timetable is not None
    assert report.timetable is None
    assert tick.options(queue="other").timetable == tick.timetable
    with BackgroundWorker(Worker(url, tasks=[tick])), Scheduler(url, tasks=[tick, report], pace=QUICK) as scheduler:
        until(lambda: scheduler.leads, "it leads")
        until(lambda: (named(url)["app.tick"].last or 0) > 0, "a tick was sent")
        shown = named(url)["app.tick"]
        with Client(url) as client:
            assert client.handle(f"app.tick@{_stamp(shown.last)}").result(10) == _stamp(shown.last)
        assert (shown.state, shown.origin, shown.when) == ("active", "code", "every 0.25 s")
    assert list(named(url)) == ["app.tick"]
    until(lambda: named(url)["app.tick"].state == "idle", "nobody declares it")


def test_added_while_it_runs_paused_resumed_changed_removed(url):
    with Scheduler(url, pace=QUICK), Operator(url) as operator:
        operator.add_schedule(Schedule("mine", report, kwargs={"kind": "weekly"}, every=0.25, missed="all"))
        until(lambda: (named(url)["mine"].last or 0) > 0, "it runs")
        operator.pause_schedule("mine")
        operator.pause_schedule("mine")
        paused = named(url)["mine"]
        assert (paused.state, paused.next) == ("paused", None)
        last, until_then = named(url)["mine"].last, time.monotonic() + 1.0
        while time.monotonic() < until_then:
            assert named(url)["mine"].last == last, "it was sent although it is paused"
        resumed = time.time()
        operator.resume_schedule("mine")
        until(lambda: named(url)["mine"].last > last, "it runs again")
        waiting = operator.waiting("reports", limit=1000)
        ticks = sorted(_moment(one.id) for one in waiting)
        assert not [one for one in ticks if last < one < resumed - 0.25], "what came while it was paused was sent"
        operator.add_schedule(Schedule("mine", report, every=timedelta(hours=1)))
        assert named(url)["mine"].when == "every 3600 s"
        task_id = operator.trigger_schedule("mine")
        assert task_id in {one.id for one in operator.waiting("reports", limit=1000)}
        operator.remove_schedule("mine")
        assert not named(url)
        with pytest.raises(InvalidOptionError, match="schedule 'mine' is unknown"):
            operator.pause_schedule("mine")


def test_what_is_declared_is_changed_where_it_is_declared(url):
    declared = Schedule("nightly", report, cron="0 3 * * *", timezone="Europe/Berlin")
    with Scheduler(url, schedules=[declared], pace=QUICK), Operator(url) as operator:
        until(lambda: "nightly" in named(url), "it is known")
        for change in (
            lambda: operator.add_schedule(Schedule("nightly", report, every=60)),
            lambda: operator.remove_schedule("nightly"),
        ):
            with pytest.raises(ConfigurationError, match="declared in code"):
                change()
        with pytest.raises(InvalidOptionError, match="did you mean 'nightly'"):
            operator.pause_schedule("nighly")
        operator.pause_schedule("nightly")
    # Another version of the program: what was paused stays so.
    changed = Schedule("nightly", report, cron="0 4 * * *", timezone="Europe/Berlin")
    with Scheduler(url, schedules=[changed], pace=QUICK):
        until(lambda: named(url)["nightly"].when == "0 4 * * * Europe/Berlin", "it is changed")
        assert named(url)["nightly"].state == "paused"
    with Operator(url) as operator:
        operator.remove_schedule("nightly")


def test_what_was_forgotten_is_declared_again(url):
    declared = Schedule("nightly", report, cron="0 3 * * *")
    with Scheduler(url, schedules=[declared], pace=Pace(lease=1.5, look=0.1, known=0.6)), Operator(url) as operator:
        until(lambda: "nightly" in named(url), "it is known")
        records = operator._connector.blocking_link().record_keeper().records()

        async def lose() -> None:
            for one in await records.page("schedule/"):
                assert await records.remove(one)

        from tranship.connections import process_table

        process_table().portal().run(lose())
        until(lambda: "nightly" in named(url), "it is known again")


def test_the_next_one_leads_at_once_when_one_stops(url):
    first, second = Scheduler(url, tasks=[tick], pace=Pace()), Scheduler(url, tasks=[tick], pace=Pace())
    with first:
        until(lambda: first.leads, "the first one leads")
        with second:
            until(lambda: len(_schedulers(url)) == 2, "both are known")
            assert not second.leads
            first.close()
            stopped = time.monotonic()
            until(lambda: second.leads, "the second one leads")
            assert time.monotonic() - stopped < 5.0, "it waited for the lease"


def _schedulers(url: str) -> list:
    with Operator(url) as operator:
        link = operator._connector.blocking_link()
        from tranship.connections import process_table
        from tranship.schedules import Book

        keeper = link.record_keeper()
        return process_table().portal().run(Book(keeper.records(), "here").schedulers())


def test_settings_say_schedules(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tranship.toml").write_text(
        f'broker_url = "{url}"\n'
        '[schedules.nightly]\ntask = "app.report"\ncron = "0 3 * * *"\ntimezone = "Europe/Berlin"\n'
        'kwargs = {kind = "night"}\nrun-timeout = 60\n'
        '[schedules.elsewhere]\ntask = "foreign.task"\nevery = 60\nqueue = "foreign"\n'
    )
    scheduler = Scheduler(tasks=[report])
    assert {one.name: (one.task, one.options.queue) for one in scheduler.schedules} == {
        "nightly": ("app.report", "reports"),
        "elsewhere": ("foreign.task", "foreign"),
    }
    monkeypatch.setenv("TRANSHIP_SCHEDULES", '{"env": {"task": "app.report", "every": 5}}')
    assert [one.name for one in Scheduler(tasks=[report]).schedules] == ["env"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{"x": {"task": "app.reprot", "every": 5}}', "did you mean 'app.report'? if it runs elsewhere, say its queue"),
        ('{"x": {"every": 5}}', "task is None"),
        ('{"x": {"task": "app.report"}}', "schedule x: a schedule has either every= or cron="),
        ('{"x": {"task": "app.report", "every": 0}}', "schedule x: every is 0"),
        ('{"x": {"task": "app.report", "every": 5, "prority": "high"}}', "did you mean priority?"),
        ('{"x": {"task": "app.report", "every": 5, "kwargs": {"knd": 1}}}', "schedule x: "),
        ('{"x": 5}', "expected tables by name, such as [schedules.nightly]"),
        ("[1", "expected tables by name"),
    ],
)
def test_settings_that_are_wrong_are_named(url, table, said, monkeypatch):
    monkeypatch.setenv("TRANSHIP_SCHEDULES", table)
    with pytest.raises((ConfigurationError, InvalidArgumentsError)) as caught:
        Scheduler(url, tasks=[report])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Schedule("x", report, args=[1, 2], every=5), "schedule x: "),
        (lambda: Schedule("x", report, args="daily", every=5), "args is 'daily'; expected a list"),
        (lambda: Schedule("x", report, every=5, task_id="one"), "each tick has an id of its own"),
        (lambda: Schedule("x", report, every=5, deadline=2e9), "use deadline_in"),
        (lambda: Schedule("x", 5, every=5), "5 is no task"),
        (lambda: Schedule("", report, every=5), "a schedule's name is ''"),
        (lambda: Schedule("x\n", report, every=5), "control characters"),
        (lambda: Scheduler(schedules=["x"]), "'x' is no schedule"),
        (
            lambda: Scheduler(schedules=[Schedule("x", report, every=5), Schedule("x", report, every=6)]),
            "declared twice",
        ),
        (lambda: Scheduler(tasks=["x"]), "'x' is no task"),
        (lambda: task(cron="0 0 * * *", timezone="Mars/Base")(lambda: None), "timezone is 'Mars/Base'"),
        (lambda: task(timezone="UTC"), "either every= or cron="),
    ],
)
def test_mistakes_are_named(make, said):
    with pytest.raises((ConfigurationError, InvalidArgumentsError)) as caught:
        make()
    assert said in str(caught.value)


def test_a_periodic_task_needs_no_arguments(url):
    @task(name="app.needs", every=60)
    def needs(what: str) -> None: ...

    with pytest.raises(InvalidArgumentsError, match=r"schedule app\.needs: "):
        Scheduler(url, tasks=[needs])


def test_schedules_survive_as_data():
    full = Schedule(
        "all",
        report,
        kwargs={"kind": "x"},
        cron="0 0 * * *",
        timezone="Asia/Tokyo",
        missed="once",
        jitter=5,
        grace=90,
        priority="high",
        retry=RetryPolicy(max_attempts=3, backoff=FixedBackoff(2)),
        headers={"team": "a"},
        deadline_in=timedelta(hours=1),
        store_result=False,
    )
    again = Schedule.from_data(full.to_data())
    assert again == full
    call = again.call(0.0)
    assert call.task.options_set.task_id == "all@1970-01-01T00:00:00Z"
    assert call.task.options_set.headers == {
        "team": "a",
        "schedule": "all",
        "schedule-tick": "1970-01-01T00:00:00Z",
    }
    assert call.task.options_set.retry == full.options.retry


def test_a_broker_without_records_needs_a_result_store_that_has_some(url):
    registry = Registry()
    registry.register(three_methods)
    with (
        pytest.raises(UnsupportedError, match=r"three://here keeps no records.*result_url"),
        Scheduler("three://here", tasks=[tick], registry=registry),
    ):
        pass
    with Scheduler("three://here", result_url=url, tasks=[tick], registry=registry, pace=QUICK) as scheduler:
        until(lambda: scheduler.leads, "it leads by the records of the result store")


def test_routes_say_where_a_task_by_name_goes(url, monkeypatch):
    monkeypatch.setenv("TRANSHIP_TASK_ROUTES", "foreign.*=theirs")
    monkeypatch.setenv("TRANSHIP_SCHEDULES", '{"x": {"task": "foreign.sum", "every": 0.25, "missed": "all"}}')
    with Scheduler(url, pace=QUICK), Operator(url) as operator:
        until(lambda: operator.waiting("theirs"), "it is sent there")


def test_a_clock_that_is_an_hour_ahead_sends_nothing_twice(url, caplog):
    """What a scheduler with a wrong clock has sent stays sent; the next one says why it waits."""
    with Scheduler(url, pace=QUICK), Operator(url) as operator:
        operator.add_schedule(Schedule("hourly", report, every=60, missed="all"))
        link = operator._connector.blocking_link()
        from dataclasses import replace

        from tranship.connections import process_table
        from tranship.schedules import Book

        keeper = link.record_keeper()
        book = Book(keeper.records(), "here")
        with caplog.at_level(logging.WARNING, "tranship.schedules"):
            process_table().portal().run(book.update("hourly", lambda one: replace(one, last=one.last + 3600)))
            until(lambda: "ahead of the time now" in caplog.text, "it is told")
        assert "Synchronise the clocks" in caplog.text
        assert not operator.waiting("reports")


def test_settings_of_a_scheduler_may_be_loaded_already(url):
    settings = Settings.load(broker_url=url)
    with Scheduler(settings=settings, namespace="other", pace=QUICK) as scheduler:
        until(lambda: scheduler.leads, "it leads")


def _stamp(moment: float | None) -> str:
    from tranship.timetable import stamp

    assert moment is not None
    return stamp(moment)


def _moment(task_id: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(task_id.rpartition("@")[2]).timestamp()
