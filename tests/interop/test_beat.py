"""What real Celery beat sends runs on tranship workers; what tranship sends of a beat_schedule runs on Celery's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from interop.beat_app import BEAT
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import TASKS
from interop.workers import CeleryBeat, CeleryWorker
from tranship import Scheduler
from tranship.schedules import Pace
from tranship.testing.background import BackgroundWorker

SITES = ("redis", pytest.param("rabbitmq-redis", marks=pytest.mark.campaign))


@pytest.fixture(scope="module", params=SITES)
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


def counted(runs: Path, who: str, label: str = "7") -> list[str]:
    """The ids of what has run."""
    return [run.id for run in read(runs) if run.who == who and run.label == label]


def test_beat_sends_and_tranship_runs(site: Site, folder: Path, runs: Path) -> None:
    """The same beat has Celery's own worker do the same, in the same seconds."""
    before, theirs_before = len(counted(runs, "tranship")), len(counted(runs, "celery", "8"))
    with (
        BackgroundWorker(site.worker(TASKS, max_concurrent_tasks=5)),
        CeleryWorker(site.url, folder, queue="control", **site.config),
        CeleryBeat(site.url, folder, **site.config) as beat,
    ):
        until(lambda: len(counted(runs, "tranship")) >= before + 3, "three ticks have run", 40)
        until(lambda: len(counted(runs, "celery", "8")) >= theirs_before + 3, "and three of the control", 40)
        ids, theirs = counted(runs, "tranship")[before:], counted(runs, "celery", "8")[theirs_before:]
        for task_id in (ids[0], theirs[0]):
            until(lambda task_id=task_id: site.ended(task_id), "its result is there")
    assert len(set(ids)) == len(ids), "a tick ran twice"
    assert set(ids + theirs) <= set(beat.sent("interop.count"))


def test_tranship_sends_and_celery_runs(site: Site, folder: Path, runs: Path) -> None:
    before = len(counted(runs, "celery"))
    with (
        CeleryWorker(site.url, folder, **site.config),
        Scheduler(site.url, result_url=site.result_url, beat_schedule=BEAT, pace=Pace(lease=2, look=0.2)),
    ):
        until(lambda: len(counted(runs, "celery")) >= before + 3, "three ticks have run", 40)
        until(lambda: site.ended(counted(runs, "celery")[before]), "its result is there")
    ids = counted(runs, "celery")[before:]
    assert len(set(ids)) == len(ids), "a tick ran twice"
    assert all(one.startswith("count@") for one in ids)


def test_a_beat_whose_clock_is_an_hour_behind(site: Site, folder: Path, runs: Path) -> None:
    """Its ticks run, for they say no time; what is to have ended by its clock, an hour ago, ends as expired."""
    before = len(counted(runs, "tranship"))
    with (
        BackgroundWorker(site.worker(TASKS, max_concurrent_tasks=5)),
        CeleryBeat(site.url, folder, hours=-1, **site.config) as beat,
        site.client() as client,
    ):
        until(lambda: len(counted(runs, "tranship")) >= before + 2, "ticks without a time have run", 40)
        until(lambda: beat.sent("interop.add"), "the other one was sent", 40)
        state = client.handle(beat.sent("interop.add")[0]).wait(timeout=30).state
    assert state.value == "EXPIRED"


def test_a_beat_whose_clock_is_an_hour_ahead(site: Site, folder: Path, runs: Path) -> None:
    """Its ticks run; what ends a minute later by its clock has time; what is to run at a time waits, and is there."""
    before = len(counted(runs, "tranship"))
    with BackgroundWorker(site.worker(TASKS, max_concurrent_tasks=5)), site.client() as client:
        with CeleryBeat(site.url, folder, hours=1, **site.config) as beat:
            until(lambda: len(counted(runs, "tranship")) >= before + 3, "ticks without a time have run", 40)
            until(lambda: beat.sent("interop.add") and beat.sent("interop.echo"), "the others were sent", 40)
            assert client.handle(beat.sent("interop.add")[0]).result(timeout=30) == 5
        ids, sent = counted(runs, "tranship")[before:], beat.sent("interop.count")
        assert len(set(ids)) == len(ids), "a tick ran twice"
        assert set(ids) <= set(sent)
        for task_id in beat.sent("interop.echo"):
            # Its time is an hour off: held, not run, and not gone.
            handle = client.handle(task_id)
            assert not handle.info().state.terminal
            handle.cancel()
            if site.on_redis:
                # RabbitMQ looks at what was cancelled when it is due.
                assert handle.wait(timeout=30).state.value == "CANCELLED"
