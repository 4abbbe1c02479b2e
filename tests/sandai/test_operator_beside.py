"""An operator on Celery and one on tranship serve the same queues: what an operator's move looks like from outside."""

from __future__ import annotations

from collections import Counter

import pytest
from field import CeleryOperator
from operators import until
from sides import KINDS, NAME, VERSION, side_of

from interop.runs import note, read
from tranship import current
from tranship.compat.sandai import Operator, OperatorCall
from tranship.testing.background import BackgroundWorker

TASKS = 200


@pytest.fixture
def runs(field_folder):
    return field_folder / "runs"


@pytest.fixture
def moving(field_url, runs, monkeypatch) -> Operator:
    operator = Operator(NAME, VERSION, broker_url=field_url, concurrency=4)

    @operator.process
    def process(artifacts, options, call: OperatorCall):
        note(call.id, "tranship", options["label"])
        current().wait_cancelled(options["seconds"])
        return artifacts, {"label": options["label"]}

    return operator


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_is_answered_once_by_one_of_them(field_url, field_folder, field_redis, runs, moving, kind):
    labels = [f"{kind}-{n}" for n in range(TASKS)]
    tasks = [([], {"label": label, "seconds": 0.05}) for label in labels]
    with side_of(kind, broker_url=field_url) as side, CeleryOperator(field_url, field_folder):
        # Celery is ready before it takes its first task.
        side(side.client().sync([], {"label": "first", "seconds": 0}, timeout=30))
        with BackgroundWorker(moving.worker()):
            results = side(side.client().batch_sync_detailed(tasks, timeout=40))
            until(lambda: not field_redis.hlen("unacked"), "everything is acknowledged")
    assert [one.error for one in results] == [None] * TASKS
    mine = [run for run in read(runs) if run.label in set(labels)]
    assert Counter(run.label for run in mine) == Counter(labels), "each once"
    assert {run.who for run in mine} == {"celery", "tranship"}, "both took part"
    assert not field_redis.zcard("unacked_index")


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_left_the_other_takes(field_url, field_folder, moving, kind):
    """Celery's is stopped with calls in its queues; the one on tranship goes on with them."""
    with side_of(kind, broker_url=field_url) as side:
        client = side.client()
        with CeleryOperator(field_url, field_folder, concurrency=1):
            first = side(client.async_call([], {"label": "first", "seconds": 0}))
            assert side(first.get(timeout=30))["status"] == "success"
        waiting = side(client.batch_submit([([], {"label": "left", "seconds": 0})] * 5))
        with BackgroundWorker(moving.worker()):
            results = side(client.batch_collect(waiting, timeout=30))
    assert [one.results for one in results] == [{"label": "left"}] * 5
