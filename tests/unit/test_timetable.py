"""Timetables: ticks by the clock and by the calendar, what is missed, and values that make no sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tranship.errors import InvalidOptionError
from tranship.timetable import Cron, Every, Timetable, latest, plan, stamp


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def ticks(when: Every | Cron, after: str, count: int) -> list[str]:
    found, moment = [], at(after)
    for _ in range(count):
        moment = when.after(moment)
        found.append(stamp(moment))
    return found


def test_every_is_the_same_grid_for_everybody():
    assert ticks(Every(timedelta(minutes=15)), "2027-01-01T00:07:03+00:00", 3) == [
        "2027-01-01T00:15:00Z",
        "2027-01-01T00:30:00Z",
        "2027-01-01T00:45:00Z",
    ]
    assert ticks(Every(0.25), "2027-01-01T00:00:00+00:00", 2) == [
        "2027-01-01T00:00:00.250Z",
        "2027-01-01T00:00:00.500Z",
    ]


def test_every_does_not_drift():
    when, moment = Every(0.1), at("2027-01-01T00:00:00+00:00")
    for _ in range(10_000):
        moment = when.after(moment)
    assert stamp(moment) == "2027-01-01T00:16:40Z"


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "2027-03-27T12:00:00+01:00",
            ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"],
            id="a-time-that-is-left-out-comes-behind-the-gap",
        ),
        pytest.param(
            "30 2 * * *",
            "2027-10-30T12:00:00+02:00",
            ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"],
            id="a-time-that-comes-twice-runs-once",
        ),
        pytest.param(
            "30 2 * * *",
            "2027-10-31T02:30:00+02:00",
            ["2027-11-01T01:30:00Z"],
            id="also-who-looks-between-the-two",
        ),
        pytest.param(
            "0 * * * *",
            "2027-03-28T00:30:00+01:00",
            ["2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z", "2027-03-28T02:00:00Z"],
            id="every-hour-that-passes",
        ),
        pytest.param(
            "0 * * * *",
            "2027-10-31T01:30:00+02:00",
            ["2027-10-31T00:00:00Z", "2027-10-31T01:00:00Z", "2027-10-31T02:00:00Z"],
            id="both-hours-that-are-called-two",
        ),
        pytest.param("@daily", "2027-06-01T12:00:00+02:00", ["2027-06-01T22:00:00Z"], id="a-nickname"),
        pytest.param("0 9 * * MON-fri", "2027-01-01T10:00:00+01:00", ["2027-01-04T08:00:00Z"], id="names-of-days"),
    ],
)
def test_the_calendar_of_a_zone(expression, after, expected):
    assert ticks(Cron(expression, "Europe/Berlin"), after, len(expected)) == expected


def test_celery_wants_both_days():
    either = ticks(Cron("0 0 13 * fri"), "2027-01-01T00:00:00+00:00", 2)
    both = ticks(Cron("0 0 13 * fri", both_days=True), "2027-01-01T00:00:00+00:00", 1)
    assert either == ["2027-01-08T00:00:00Z", "2027-01-13T00:00:00Z"]
    assert both == ["2027-08-13T00:00:00Z"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"every": 0}, "every is 0; expected seconds, or a timedelta, of at least 0.1", id="every-0"),
        pytest.param({"every": -5}, "every is -5", id="negative"),
        pytest.param({"every": "60"}, "every is '60'", id="a-text"),
        pytest.param({"every": 60, "jitter": -1}, "jitter is -1", id="negative-jitter"),
        pytest.param({"every": 60, "jitter": 60}, "less than the 60 s between two ticks", id="too-much-jitter"),
        pytest.param({"every": 60, "grace": 0}, "grace is 0", id="no-grace"),
        pytest.param({"every": 60, "missed": "never"}, "one of 'skip', 'once', 'all'", id="policy"),
        pytest.param({"every": 60, "timezone": "UTC"}, "every= knows no calendar", id="zone-without-calendar"),
        pytest.param({"every": 60, "cron": "@daily"}, "either every= or cron=", id="both"),
        pytest.param({}, "either every= or cron=", id="neither"),
        pytest.param({"cron": "30 2 31 2 *"}, "'30 2 31 2 *'", id="february-31"),
        pytest.param({"cron": "* * */20 * 1L"}, "this one never does", id="never"),
        pytest.param({"cron": "61 * * * *"}, "its minute cannot be", id="minute-61"),
        pytest.param({"cron": "0 0 0 * * *"}, "for seconds there is every=", id="six-fields"),
        pytest.param({"cron": ""}, "cron is ''", id="empty"),
        pytest.param({"cron": 5}, "cron is 5", id="a-number"),
        pytest.param({"cron": "@reboot"}, "expected five fields", id="reboot"),
        pytest.param({"cron": "@daily", "timezone": "Europe/Berln"}, "did you mean Europe/Berlin?", id="misspelt-zone"),
        pytest.param({"cron": "@daily", "timezone": "../etc/passwd"}, "timezone is '../etc/passwd'", id="path"),
        pytest.param({"cron": "@daily", "timezone": ""}, "timezone is ''", id="no-zone"),
    ],
)
def test_what_makes_no_sense_is_named(given, said):
    with pytest.raises(InvalidOptionError) as caught:
        Timetable.of(**given)
    assert said in str(caught.value)


def test_jitter_is_the_same_for_everybody_and_spreads():
    table = Timetable.of(every=3600, jitter=600)
    dues = [table.due(f"job-{number}", 7200.0) for number in range(200)]
    assert dues == [table.due(f"job-{number}", 7200.0) for number in range(200)]
    assert all(7200 <= one < 7800 for one in dues)
    assert min(dues) < 7230 < 7770 < max(dues)


def test_a_timetable_survives_as_data():
    for table in (
        Timetable.of(every=timedelta(hours=1), missed="all", jitter=5, grace=timedelta(minutes=2)),
        Timetable.of(cron="*/5 * * * mon", timezone="Asia/Tokyo", missed="once"),
    ):
        assert Timetable.from_data(table.to_data()) == table


@pytest.mark.parametrize(
    ("missed", "now", "sent", "last"),
    [
        pytest.param("skip", 1059, [], 1000, id="not-due"),
        pytest.param("skip", 1085, [1080], 1080, id="in-time"),
        pytest.param("skip", 1150, [1140], 1140, id="skip-drops-what-is-late"),
        pytest.param("skip", 1199, [1140], 1140, id="up-to-its-grace"),
        pytest.param("once", 1500, [1440, 1500], 1500, id="in-time-makes-up-for-the-rest"),
        pytest.param("all", 1250, [1080, 1140, 1200], 1200, id="all"),
    ],
)
def test_what_is_sent(missed, now, sent, last):
    table = Timetable.of(every=60, missed=missed)
    found = plan("job", table, 1000.0 + 20, float(now))
    assert (list(found.send), found.last) == (sent, last if sent else 1020.0)


def test_once_sends_the_latest_of_a_long_absence_without_counting_it_out():
    table = Timetable.of(cron="0 3 * * *", missed="once")
    begun, now = at("2020-01-01T00:00:00+00:00"), at("2027-06-01T12:00:00+00:00")
    found = plan("job", table, begun, now)
    assert [stamp(one) for one in found.send] == ["2027-06-01T03:00:00Z"]
    assert plan("job", table, found.last, now).send == ()
    assert latest(Cron("0 0 29 2 *"), begun, at("2027-01-01T00:00:00+00:00")) == at("2024-02-29T00:00:00+00:00")


def test_all_comes_in_pieces():
    table, last, sent = Timetable.of(every=1, missed="all"), 0.0, []
    while (found := plan("job", table, last, 1000.0)).send:
        assert len(found.send) <= 100
        sent += found.send
        last = found.last
    assert sent == [float(one) for one in range(1, 1001)]


def test_a_tick_waits_for_the_jitter_of_the_one_before():
    table = Timetable.of(cron="* * * * *", jitter=300, missed="all")
    sent: list[float] = []
    last, now = 6000.0, 6000.0
    while now < 9000:
        found = plan("job", table, last, now)
        sent += found.send
        last, now = found.last, now + 7
    assert sent == [6060.0 + 60 * at for at in range(len(sent))]
    assert len(sent) > 35


def test_stamps_are_utc():
    assert stamp(datetime(2027, 3, 28, 1, tzinfo=UTC).timestamp()) == "2027-03-28T01:00:00Z"


def test_a_long_grace_is_no_endless_step():
    table, last, sent = Timetable.of(every=0.1, grace=100_000, missed="once"), 0.0, []
    for _ in range(50):
        found = plan("job", table, last, 20_000.0)
        assert len(found.send) <= 100
        sent += found.send
        last = found.last
    assert sent == [round(one / 10, 1) for one in range(1, 5001)]
