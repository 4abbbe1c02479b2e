"""Celery's ``beat_schedule`` as it is: what has an equal here, with Celery's own objects, and what has none."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.schedules import crontab, schedule, solar

from tranship import Scheduler, task
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError
from tranship.schedules import Schedule, schedules_of_beat


@task(name="app.report", queue="reports")
def report(kind: str = "daily", *, copies: int = 1) -> str:
    return kind * copies


def sunset() -> solar:
    """What Celery makes where a package for astronomy is installed."""
    made = object.__new__(solar)
    made.event, made.lat, made.lon, made.nowfun = "sunset", -37.8, 144.9, None
    return made


def one(entry: dict, **more) -> Schedule:
    (made,) = schedules_of_beat({"x": entry}, **more)
    return made


def test_an_entry_with_everything():
    made = one(
        {
            "task": "proj.tasks.add",
            "schedule": timedelta(seconds=30),
            "args": (16, 16),
            "kwargs": {"z": 1},
            "relative": True,
            "options": {
                "queue": "math",
                "expires": 15.0,
                "countdown": 2,
                "time_limit": 60,
                "soft_time_limit": 50,
                "serializer": "json",
                "ignore_result": True,
                "headers": {"team": "a"},
                "retry": True,
                "priority": None,
                "routing_key": "math",
            },
        }
    )
    assert (made.task, made.args, made.kwargs, str(made.timetable)) == (
        "proj.tasks.add",
        [16, 16],
        {"z": 1},
        "every 30 s",
    )
    options = made.options
    assert (options.queue, options.deadline_in, options.delay, options.run_timeout) == ("math", 15.0, 2.0, 50.0)
    assert (options.store_result, dict(options.headers), options.serializer) == (False, {"team": "a"}, "json")
    assert made.timetable.missed == "once", "as beat does when it comes back"


@pytest.mark.parametrize("given", [30, 30.0, timedelta(seconds=30), schedule(30), schedule(timedelta(seconds=30))])
def test_intervals(given):
    assert str(one({"task": "t", "schedule": given}).timetable) == "every 30 s"


@pytest.mark.parametrize(
    "given",
    [
        crontab(),
        crontab(minute=0),
        crontab(minute="*/15"),
        crontab(hour=7, minute=30, day_of_week=1),
        crontab(minute=0, hour="*/3,8-17"),
        crontab(0, 0, day_of_month="2-30/2"),
        crontab(0, 0, day_of_month="1-7,15-21", day_of_week="mon"),
        crontab(minute=[10, 50], hour={3, 4}),
        crontab(0, 5, day_of_week="fri-mon"),
        crontab(0, 5, day_of_week="sun,sat"),
        crontab(0, 0, day_of_month=31, month_of_year="*/3"),
        crontab.from_string("15 2 1 jan,jul *"),
    ],
    ids=str,
)
def test_crontabs_come_when_celery_has_them_come(given):
    """Celery is asked itself, from one of its moments to the next."""
    app = Celery(set_as_current=False)
    ours = one({"task": "t", "schedule": given}).timetable.when
    moment = datetime(2027, 2, 25, 13, 7, 30, tzinfo=UTC)
    for _ in range(12):
        given._app, given.nowfun = app, lambda at=moment: at
        left = given.remaining_estimate(moment)
        given.nowfun = None
        theirs = moment + left
        moment = datetime.fromtimestamp(ours.after(moment.timestamp()), UTC)
        assert abs(theirs - moment) < timedelta(seconds=1), (theirs, moment)


def test_a_task_of_ours_keeps_its_options_and_is_checked():
    known = {"app.report": report}
    made = one({"task": "app.report", "schedule": 60, "kwargs": {"copies": 2}}, tasks=known)
    assert made.options.queue == "reports"
    with pytest.raises(InvalidArgumentsError, match="schedule x: "):
        one({"task": "app.report", "schedule": 60, "args": (1, 2, 3)}, tasks=known)
    assert one({"task": "theirs", "schedule": 60}, tasks=known).options.queue == "celery"


def test_a_celery_app_brings_its_zone_and_queue():
    app = Celery(set_as_current=False)
    app.conf.update(timezone="Europe/Berlin", task_default_queue="work")
    app.conf.beat_schedule = {"nightly": {"task": "t", "schedule": crontab(minute=0, hour=3)}}
    (made,) = Scheduler(beat_schedule=app).schedules
    assert (str(made.timetable), made.options.queue) == ("0 3 * * * Europe/Berlin", "work")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"task": "t", "schedule": sunset()}, "times of the sun are not known here"),
        ({"task": "t", "schedule": "often"}, "expected seconds, a timedelta, a schedule or a crontab"),
        ({"task": "t", "schedule": True}, "beat_schedule['x'] is True"),
        ({"task": "t", "schedule": 0}, "schedule x: every is 0"),
        ({"task": "t"}, "has no 'schedule'"),
        ({"schedule": 5}, "has no 'task'"),
        ({"task": "t", "schedule": 5, "argz": ()}, "has 'argz'; known are: task, schedule"),
        ({"task": "t", "schedule": 5, "args": (len,)}, "computes its args for each tick"),
        ({"task": "t", "schedule": 5, "options": {"link": []}}, "the option 'link', which has no equal here"),
        ({"task": "t", "schedule": 5, "options": {"priority": 9}}, "whose meaning depends on the broker"),
        ({"task": "t", "schedule": 5, "options": {"queue": "a", "routing_key": "b"}}, "sends by 'b'"),
        ({"task": "t", "schedule": crontab(nowfun=lambda: None)}, "has a nowfun"),
        (5, "expected a dict with task and schedule"),
    ],
)
def test_what_has_no_equal_is_refused(entry, said):
    with pytest.raises(ConfigurationError) as caught:
        schedules_of_beat({"x": entry})
    assert said in str(caught.value)


def test_no_mapping_is_refused():
    with pytest.raises(InvalidOptionError, match="beat_schedule is 5"):
        schedules_of_beat(5)


def test_numbers_need_no_celery():
    program = (
        "import sys; sys.modules['celery'] = None\n"
        "from tranship import Scheduler\n"
        "print(Scheduler(beat_schedule={'a': {'task': 't', 'schedule': 30.0}}).schedules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ran.stdout == "[<Schedule a: t every 30 s>]\n", ran.stderr
