"""Celery with itself: what the other modules claim of tranship is first shown to hold of Celery."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from interop.celery_client import CeleryClient
from interop.runs import read, until
from interop.sites import Site
from interop.workers import CeleryWorker


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site, folder) -> Iterator[CeleryWorker]:
    with CeleryWorker(site.url, folder, pool="threads", **site.config) as worker:
        yield worker


def test_the_harness_is_sound(celery: CeleryClient, site: Site, worker, runs):
    assert celery.get(celery.send("add", 2, 3)).value == 5
    failed = celery.get(celery.send("fail", "tray 2"))
    assert (failed.state, failed.error, failed.text, failed.ours) == (
        "FAILURE",
        "interop.problems.OutOfPaper",
        "tray 2",
        True,
    )
    assert celery.get(celery.send("flaky", 2)).value == 2
    assert celery.get(celery.send_protocol1("add", 2, 3)).value == 5
    assert celery.group([(1, 1), (2, 2)]) == [2, 4]
    assert celery.ping() == {worker.node: {"ok": "pong"}}
    slow = celery.send("slow", 0.3)
    if site.shared:
        until(lambda: celery.state(slow) == "STARTED", "the running task's state")
    assert celery.get(slow).value == "slept"
    revoked = celery.send("count", 1, eta=time.time() + 0.5)
    until(lambda: f"{revoked}] received" in worker.output(), "the task is taken")
    celery.revoke(revoked)
    assert celery.get(revoked).error == "celery.exceptions.TaskRevokedError"
    assert not [run for run in read(runs) if run.id == revoked]
