"""A namespace is Celery's ``global_keyprefix``, of the broker and of the results: both sides see the same, others do not."""

from __future__ import annotations

import pytest

from interop.celery_client import CeleryClient
from interop.runs import until
from interop.tranship_app import TASKS, add, slow
from interop.workers import CeleryWorker
from tranship import Client, Worker
from tranship.errors import ResultTimeout
from tranship.testing.background import BackgroundWorker

PREFIX = {
    "broker_transport_options": {"global_keyprefix": "shop:"},
    "result_backend_transport_options": {"global_keyprefix": "shop:"},
}


@pytest.mark.usefixtures("runs")
def test_both_sides_share_a_namespace(url, folder, redis):
    ours = f"{url}?namespace=shop"
    worker = Worker(ours, tasks=TASKS, queues=["ours"], max_concurrent_tasks=1, shutdown_timeout=5)
    with (
        CeleryWorker(url, folder, queue="theirs", **PREFIX) as celery_worker,
        CeleryClient(url, **PREFIX) as celery,
        Client(ours) as client,
        BackgroundWorker(worker),
    ):
        assert client.submit(add.options(queue="theirs"), 1, 2).result(timeout=10) == 3
        assert celery.get(celery.send("add", 1, 2, queue="ours")).value == 3
        assert list(celery.ping().values()) == [{"ok": "pong"}] * 2
        # Revoked by Celery's client, over the prefixed mailbox.
        blocking = celery.send("slow", 0.5, queue="ours")
        until(lambda: celery.state(blocking) == "STARTED", "the slot is taken")
        queued = celery.send("add", 1, 2, queue="ours")
        celery.revoke(queued)
        assert celery.get(queued).state == "REVOKED"
        # Revoked by ours.
        held = client.submit(slow.options(queue="theirs", delay=30), 0)
        until(lambda: f"{held.id}] received" in celery_worker.output(), "Celery has taken it")
        held.cancel()
        assert celery.get(held.id).state == "REVOKED"
        assert [key for key in redis.scan_iter() if not key.startswith(b"shop:")] == []
        with Client(url) as stranger, pytest.raises(ResultTimeout):
            stranger.submit(add.options(queue="ours"), 1, 2).result(timeout=0.3)
