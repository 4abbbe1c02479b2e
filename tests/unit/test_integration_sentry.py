"""Sentry's own SDK is told of tasks: by events and check-ins that really leave it."""

from __future__ import annotations

import logging
import time

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from tranship import FixedBackoff, RetryPolicy, Scheduler, current, task
from tranship.integrations.sentry import Sentry
from tranship.testing.clock import VirtualClock


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__({})
        self.items: list[tuple[str, dict]] = []

    def capture_envelope(self, envelope) -> None:
        self.items += [(item.type, item.payload.json) for item in envelope.items]

    def of(self, kind: str) -> list[dict]:
        return [payload for found, payload in self.items if found == kind]


@pytest.fixture
def sentry():
    transport = Kept()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=transport)
        yield transport
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)


@task(retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0)))
def charge(card: str) -> None:
    logging.getLogger("shop").warning("about to charge")
    raise LookupError(f"no such card at {current().attempt}")


@task
async def refund(order: str) -> str:
    current().logger.error("refunds are slow today")
    return order


@task(every=600)
async def tidy() -> None:
    pass


@task(cron="*/10 * * * *", timezone="Europe/Berlin")
def report() -> None:
    raise OSError("no paper")


def until(condition) -> None:
    end = time.perf_counter() + 10
    while not condition():
        assert time.perf_counter() < end
        time.sleep(0.01)


def test_a_task_that_failed_for_good_is_one_event_with_its_task(sentry, tranship_client, tranship_worker):
    tranship_worker(charge, middleware=[Sentry()])
    handle = tranship_client.submit(charge, "secret card")
    assert not handle.wait(timeout=5).success
    until(lambda: sentry.of("event"))
    (event,) = sentry.of("event")
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("LookupError", "no such card at 1")
    assert error["mechanism"] == {"type": "tranship", "handled": False}
    assert error["stacktrace"]["frames"][-1]["function"] == "charge"
    assert event["tags"] == {"task": charge.name, "queue": "default", "attempt": 1}
    assert event["contexts"]["tranship"] == {"task": charge.name, "id": handle.id, "attempt": 1, "queue": "default"}
    assert event["transaction"] == charge.name
    assert [one["message"] for one in event["breadcrumbs"]["values"] if one["category"] == "shop"] == [
        "about to charge"
    ]


def test_attempts_that_are_repeated_are_told_on_demand(sentry, tranship_client, tranship_worker):
    tranship_worker(charge, middleware=[Sentry(retries=True)])
    tranship_client.submit(charge, "a").wait(timeout=5)
    until(lambda: len(sentry.of("event")) == 2)
    assert [event["exception"]["values"][0]["mechanism"]["handled"] for event in sentry.of("event")] == [True, False]


def test_a_log_record_of_a_handler_has_its_task(sentry, tranship_client, tranship_worker):
    tranship_worker(refund, middleware=[Sentry()])
    assert tranship_client.submit(refund, "A").result(timeout=5) == "A"
    until(lambda: sentry.of("event"))
    (event,) = sentry.of("event")
    assert event["logentry"]["message"] == "refunds are slow today"
    assert event["tags"]["task"] == refund.name
    assert event["extra"]["queue"] == "default"


def test_what_nobody_can_run_is_told_without_an_exception(sentry, tranship_client, tranship_worker):
    tranship_worker(refund, middleware=[Sentry()])
    tranship_client.submit("elsewhere.work").wait(timeout=5)
    until(lambda: sentry.of("event"))
    (event,) = sentry.of("event")
    assert event["tags"]["task"] == "elsewhere.work"
    assert "elsewhere.work" in event["exception"]["values"][0]["value"]


def test_runs_of_schedules_are_check_ins(sentry, tranship_url, tranship_worker):
    tasks = [tidy, report.options(retry=None)]
    with VirtualClock() as clock:
        tranship_worker(*tasks, middleware=[Sentry(monitors=[tidy, report])])
        with Scheduler(tranship_url, result_url=tranship_url, tasks=tasks):
            clock.advance(610)
        until(lambda: {one["status"] for one in sentry.of("check_in")} >= {"in_progress", "ok", "error"})
    by_monitor: dict[str, list[dict]] = {}
    for one in sentry.of("check_in"):
        by_monitor.setdefault(one["monitor_slug"], []).append(one)
    begun, done = by_monitor["test_integration_sentry-tidy"][:2]
    assert (begun["status"], done["status"]) == ("in_progress", "ok")
    assert begun["check_in_id"] == done["check_in_id"]
    assert begun["monitor_config"]["schedule"] == {"type": "interval", "value": 10, "unit": "minute"}
    begun, done = by_monitor["test_integration_sentry-report"][:2]
    assert (begun["status"], done["status"]) == ("in_progress", "error")
    assert done["monitor_config"]["schedule"] == {"type": "crontab", "value": "*/10 * * * *"}
    assert done["monitor_config"]["timezone"] == "Europe/Berlin"


def test_a_task_without_times_is_no_monitor():
    with pytest.raises(ValueError, match="no every= and no cron="):
        Sentry(monitors=[refund])
