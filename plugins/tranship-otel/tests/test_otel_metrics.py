"""Counts and durations by queue, task and outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tranship import Client, Task, Worker
from tranship.errors import TaskFailed
from tranship_otel._names import SECONDS


def test_counts_and_durations(recorder, make_task: Callable[..., Task[..., Any]], url: str, queue: str) -> None:
    def divide(value: int) -> float:
        return 1 / value

    handler = make_task(divide)
    with Client(url, middleware=[recorder.middleware()]) as client:
        handles = client.submit_many(handler.call(number) for number in (1, 2, 4))
        failing = client.submit(handler, 0)
        Worker(url, tasks=[handler], middleware=[recorder.middleware()]).run_until_idle()
        assert [one.result(timeout=20) for one in handles] == [1, 0.5, 0.25]
        with pytest.raises(TaskFailed):
            failing.result(timeout=20)
    place = {
        "messaging.system": "tranship",
        "messaging.destination.name": queue,
        "tranship.task.name": handler.name,
    }
    sending = {**place, "messaging.operation.name": "send", "messaging.operation.type": "send"}
    processing = {**place, "messaging.operation.name": "process"}
    (sent,) = recorder.points("messaging.client.sent.messages")
    assert (sent.value, dict(sent.attributes)) == (4, sending)
    (took,) = recorder.points("messaging.client.operation.duration")
    assert (took.count, dict(took.attributes)) == (2, sending), "a batch is one operation"
    assert tuple(took.explicit_bounds) == SECONDS
    ends = {
        "succeeded": (3, {**processing, "tranship.task.outcome": "succeeded"}),
        "failed": (1, {**processing, "tranship.task.outcome": "failed", "error.type": "TASK_FAILED"}),
    }
    consumed = recorder.points("messaging.client.consumed.messages")
    assert {one.attributes["tranship.task.outcome"]: (one.value, dict(one.attributes)) for one in consumed} == ends
    durations = recorder.points("messaging.process.duration")
    assert {one.attributes["tranship.task.outcome"]: (one.count, dict(one.attributes)) for one in durations} == ends
    assert all(0 < one.sum < 20 for one in durations)
