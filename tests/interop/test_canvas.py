"""What a real Celery client builds of tasks runs on tranship workers as on Celery's: the same results, the same errors.

Each workflow is sent twice, to a queue that a Celery worker reads and to one that a tranship worker reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interop import canvases
from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import SITES, Site
from interop.tranship_app import TASKS
from interop.workers import CeleryWorker
from tranship import Worker
from tranship.testing.background import BackgroundWorker
from tranship.worker import _following

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ALONE, OURS, MIXED = "alone", "ours", "mixed"
LOOSE = {
    # Tranship says in its own words what it does not know.
    "unknown_step": ["interop.nobody-has-this"],
    "third_step_unknown": ["interop.nobody-has-this"],
    "map_of_an_unknown_task": ["NotRegistered", "interop.nobody-has-this"],
    "map_with_wrong_arguments": ["TypeError", "add"],
    "starmap_of_no_lists": ["TypeError", "int"],
    # It is the type of a workflow, and no task: Celery's has a body for old clients, which raises.
    "no_real_task": ["chain"],
    # A Celery client raises the error of whichever of the failed tasks it hears of first.
    "failing_member": ["tray 3"],
    "failing_chain_in_a_header": ["tray 4"],
    "what_follows_a_failing_chord": ["tray 5"],
    "errback_of_a_body": ["tray 9"],
}
"""Workflows whose errors differ in words, and the words that must be there."""


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site, runs) -> Iterator[Worker]:
    with BackgroundWorker(site.worker(TASKS, queues=[OURS, MIXED], max_concurrent_tasks=10)) as running:
        yield running.worker


@pytest.fixture(scope="module", autouse=True)
def control(site: Site, folder) -> Iterator[CeleryWorker]:
    # The last is where Celery sends the parts of chunks, whatever their queue.
    with CeleryWorker(site.url, folder, queue=f"{ALONE},{MIXED},interop", **site.config) as running:
        yield running


@pytest.fixture(
    scope="module",
    params=[SITES[0], *(pytest.param(one, marks=pytest.mark.campaign) for one in SITES[1:])],
)
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


ALWAYS = {"ends_in_a_group", "failing_step", "errback_by_error", "two_chords", "chord_in_a_header", "failing_member"}
ALWAYS |= {"steps_with_options", "members_with_options"}
ALWAYS |= {"mapped_in_threads", "maps_in_a_chain", "failing_map", "chunked", "chunks_in_a_chain"}
"""The others in the campaign."""


def names(builders: list[Callable[[canvases.Sender], object]]) -> list[Any]:
    found = [one.__name__ for one in builders]
    return [one if one in ALWAYS else pytest.param(one, marks=pytest.mark.campaign) for one in found]


@pytest.mark.parametrize("name", names(canvases.SIMPLE))
def test_workflows_end_as_on_celery(celery: CeleryClient, site: Site, runs, name):
    compare(celery, site, runs, name)


@pytest.mark.parametrize("name", names(canvases.BUILT_IN))
def test_celerys_own_tasks_end_as_on_celery(celery: CeleryClient, site: Site, runs, name):
    before = len(read(runs))
    compare(celery, site, runs, name)
    if name == "chunks_in_a_chain":
        parts = sorted((who, label) for who in ("celery", "tranship") for label in ("71", "72", "73"))
        until(lambda: sorted((one.who, one.label) for one in read(runs)[before:]) == parts, "both run each part once")


@pytest.mark.parametrize("name", names(canvases.OPTIONS))
def test_steps_travel_as_on_celery(celery: CeleryClient, site: Site, runs, name):
    if not site.on_redis:
        pytest.skip("a number means something on RabbitMQ only where a queue is declared for it")
    compare(celery, site, runs, name)


@pytest.mark.parametrize("name", names(canvases.CHORDS))
def test_chords_end_as_on_celery(celery: CeleryClient, site: Site, runs, name):
    if not site.shared:
        pytest.skip("Celery refuses to send one where results go to the sender")
    compare(celery, site, runs, name)


def compare(celery: CeleryClient, site: Site, runs, name: str) -> None:
    alone, ours = (celery.canvas(name, queue, f"{site.name}-{name}-{queue}") for queue in (ALONE, OURS))
    check_same(name, ours, alone)
    if "errback" in name:
        called = [until(lambda mark=mark: marked(runs, mark), "the errback") for mark in marks(site, name)]
        assert called[0] == called[1]


def check_same(name: str, ours: dict[str, Any], alone: dict[str, Any]) -> None:
    if name in LOOSE:
        assert {ours["ended"][0], alone["ended"][0]} == {"error"}
        assert all(word in str(one) for word in LOOSE[name] for one in (ours, alone)), (ours, alone)
    else:
        assert ours == alone


def marks(site: Site, name: str) -> list[str]:
    return [f"{site.name}-{name}-{queue}" for queue in (ALONE, OURS)]


def marked(runs, mark: str) -> list[str]:
    return [run.label for run in read(runs) if run.id == mark]


MEMBERS = [canvases.two_chords, canvases.chord_in_a_header, canvases.a_chord, canvases.group_in_a_header]


@pytest.mark.parametrize("name", names([*MEMBERS, canvases.failing_member]))
def test_members_on_either_kind_of_worker(celery: CeleryClient, site: Site, name):
    if not site.shared:
        pytest.skip("Celery refuses to send one where results go to the sender")
    alone = celery.canvas(name, ALONE)
    for _ in range(5):
        check_same(name, celery.canvas(name, MIXED), alone)


def test_a_counter_that_has_expired(celery: CeleryClient, site: Site, runs, monkeypatch):
    if not site.shared:
        pytest.skip("Celery refuses to send one where results go to the sender")
    monkeypatch.setattr(_following, "LOST_AFTER", 0.5)
    before = len(read(runs))
    with ThreadPoolExecutor(1) as pool, BackgroundWorker(site.worker(TASKS, queues=["expiring"])):
        asking = pool.submit(celery.canvas, "slow_members", "expiring")
        until(lambda: len(read(runs)) >= before + 2, "both members run")
        site.redis.delete(*site.redis.scan_iter("celery-taskset-meta-*"))
        kind, error, text = asking.result()["ended"]
    assert (kind, error) == ("error", "ChordError")
    assert "its counter has expired" in text


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_header_that_is_long_in_coming(celery: CeleryClient, site: Site, monkeypatch):
    """Celery's client tells how many members there are with the last of them."""
    if not site.shared:
        pytest.skip("Celery refuses to send one where results go to the sender")
    monkeypatch.setattr(_following, "LOST_AFTER", 2.0)
    with BackgroundWorker(site.worker(TASKS, queues=["long"], max_concurrent_tasks=10)):
        assert celery.canvas("ten_thousand_members", "long", within=250.0)["ended"] == ["value", 50_005_000]


def test_a_step_to_a_queue_that_nobody_reads_yet(celery: CeleryClient, site: Site, runs):
    before = len(read(runs))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(celery.canvas, "continued_elsewhere", OURS)
        until(lambda: len(read(runs)) > before, "the first step runs")
        with BackgroundWorker(site.worker(TASKS, queues=[f"gone-{OURS}"])):
            assert asking.result()["ended"] == ["value", 1]


def test_a_link_to_a_queue_that_is_gone(celery: CeleryClient, site: Site, runs):
    """The task itself ends well; what is linked waits for whoever reads that queue one day."""
    before = len(read(runs))
    assert celery.canvas("linked_elsewhere", OURS)["ended"] == ["value", 81]
    assert labels(runs, before) == ["81"]
    with BackgroundWorker(site.worker(TASKS, queues=[f"gone-{OURS}"])):
        until(lambda: labels(runs, before) == ["81", "82"], "what was linked runs")


def test_what_follows_itself_ends(celery: CeleryClient, site: Site, runs):
    before = len(read(runs))
    kind, value, *_ = celery.canvas("with_one_id", OURS, f"{site.name}-circle")["ended"]
    assert (kind, value in (83, 84)) == ("value", True)
    site.settled("everything is settled")
    ran = labels(runs, before)
    assert ran.count("83") == 1
    assert ran.count("84") <= 2


def test_a_pickle_is_a_failure(celery: CeleryClient, site: Site):
    """Nothing is unpickled; a Celery worker that does not accept it throws it away, and its client waits for ever."""
    answer = celery.get(celery.send("add", 1, 2, queue=OURS, serializer="pickle"), 10)
    assert answer.state == "FAILURE"
    assert "'application/x-python-serialize' is not trusted" in answer.text


def labels(runs, before: int) -> list[str]:
    return [run.label for run in read(runs)[before:]]


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", names(canvases.LARGE))
def test_large_workflows(celery: CeleryClient, site: Site, name):
    if not site.shared:
        pytest.skip("results that go to the sender are read once")
    alone, ours = (celery.canvas(name, queue, within=200.0) for queue in (ALONE, OURS))
    assert ours == alone


def test_nothing_is_left(site: Site):
    site.settled("everything is settled")
