"""A Celery worker and a tranship worker on one queue of RabbitMQ: every task is answered, whoever sent it and whoever dies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.tranship_app import add, count
from interop.workers import CeleryWorker, TranshipWorker

# What it shows is shown on Redis each time, and what is RabbitMQ's own by the neighbours of this module.
pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(120)]

TASKS = 1000


@pytest.fixture(scope="module", params=["rabbitmq-rpc", "rabbitmq-redis"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture
def tell(request, capsys) -> Callable[[str], None]:
    """Print a line whatever pytest captures: the counts are what this is for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: {text}")

    return line


@pytest.fixture(scope="module")
def celery_worker(site: Site, folder) -> Iterator[CeleryWorker]:
    with CeleryWorker(site.url, folder, concurrency=4, **site.config) as worker:
        yield worker


@pytest.fixture(scope="module")
def tranship_worker(site: Site, folder) -> Iterator[TranshipWorker]:
    with TranshipWorker(site.url, folder, concurrency=4, environ=site.environ) as worker:
        yield worker


@pytest.mark.usefixtures("celery_worker", "tranship_worker")
@pytest.mark.parametrize("sender", ["celery", "tranship"])
def test_a_thousand_tasks_are_answered_once(site: Site, celery: CeleryClient, runs, tell, sender):
    before, began = len(read(runs)), time.monotonic()
    answers = from_celery(celery) if sender == "celery" else from_tranship(site)
    took = time.monotonic() - began
    assert list(answers.values()) == list(range(TASKS))
    ran = [run for run in read(runs)[before:] if run.id in answers]
    shares = Counter(run.who for run in ran)
    tell(f"{TASKS} tasks in {took:.1f} s, runs {dict(shares)}")
    assert Counter(run.id for run in ran) == dict.fromkeys(answers, 1), "a task ran twice, or never"
    assert min(shares["celery"], shares["tranship"]) >= TASKS * 0.02, "one of them did nearly nothing"
    site.settled("nothing is left behind")


def from_celery(celery: CeleryClient) -> dict[str, int]:
    ids = celery.send_many("count", [(number, {"kwargs": {"seconds": 0.004}}) for number in range(TASKS)])
    return {task_id: answer.value for task_id, answer in zip(ids, celery.get_many(ids), strict=True)}


def from_tranship(site: Site) -> dict[str, int]:
    calls = [count.call(number, 0.004) for number in range(TASKS)]
    with site.client() as client:
        return {result.id: result.value for result in client.collect(client.submit_many(calls), 60)}


@pytest.mark.parametrize("victim", ["tranship", "celery"])
def test_a_killed_worker(site: Site, folder, runs, tell, victim):
    """What it held goes to another when its connection ends; what had ended is answered already."""
    with site.client() as client:
        with doomed_worker(site, folder, victim) as doomed:
            handles = client.submit_many(count.options(queue="doomed").call(number, 0.15) for number in range(200))
            ids = {handle.id for handle in handles}
            until(lambda: len([run for run in read(runs) if run.id in ids]) > 30, "it is at work")
            doomed.kill()
        before = Counter(run.id for run in read(runs) if run.id in ids)
        with TranshipWorker(site.url, folder, name="heir", queue="doomed", environ=site.environ):
            answers = [result.value for result in client.collect(handles, 30)]
    starts = Counter(run.id for run in read(runs) if run.id in ids)
    again = starts - Counter(ids)
    tell(f"{before.total()} had begun when it died, {again.total()} of them ran again")
    assert before.total() < 200
    assert answers == list(range(200))
    assert starts.keys() == ids
    assert again.keys() <= before.keys()
    assert 0 < again.total() <= 8, "what it held, and no more, comes again"
    site.settled("nothing is left behind")


def doomed_worker(site: Site, folder, kind: str) -> TranshipWorker | CeleryWorker:
    if kind == "tranship":
        return TranshipWorker(site.url, folder, name="doomed", queue="doomed", environ=site.environ)
    late = {"task_acks_late": True, "task_reject_on_worker_lost": True, **site.config}
    return CeleryWorker(site.url, folder, name="doomed-celery", queue="doomed", concurrency=4, **late)


def test_nothing_is_left_and_celery_is_well(site: Site, celery: CeleryClient, celery_worker, tranship_worker):
    with site.client() as client:
        assert [client.submit(add, number, 1).result(timeout=10) for number in range(20)] == list(range(1, 21))
    ids = celery.send_many("echo", [(number, {}) for number in range(20)])
    assert [answer.value for answer in celery.get_many(ids)] == list(range(20))
    assert celery_worker.alive
    assert "Unrecoverable error" not in celery_worker.output()
    assert tranship_worker.alive
    site.settled("everything is settled")
