"""The reference has what is emitted, and nothing else; the names are those of the conventions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import error_attributes, messaging_attributes
from opentelemetry.semconv._incubating.metrics import messaging_metrics

from tranship import Client, Envelope, Middleware, Task, Worker
from tranship.envelope import Ending, Receipt
from tranship.errors import BatchSubmitError
from tranship.middleware import Next
from tranship_otel import _names as names

PAGE = Path(__file__).parents[3] / "docs/reference/opentelemetry.md"


def table(heading: str) -> dict[str, set[str]]:
    """The attributes, the last column, by the first."""
    text = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| `")]
    return {row[0].replace("`", ""): set(re.findall(r"`([^`]+)`", row[-1])) for row in rows}


class Refuses(Middleware):
    async def submit(self, envelope: Envelope, call_next: Next[Envelope, Receipt]) -> Receipt:
        if envelope.priority.label == "high":
            raise LookupError("not this one")
        return await call_next(envelope)


@pytest.fixture
def everything(recorder, make_task: Callable[..., Task[..., Any]]) -> Any:
    """What there is to see when tasks succeed, fail, and are not submitted, alone and in batches."""

    def divide(value: int) -> float:
        return 1 / value

    def many(values: list[int]) -> None:
        raise LookupError(values)

    handler, together, url = make_task(divide), make_task(many, batch=2, within=5), "memory://otel-documented"
    refused = handler.options(priority="high")
    with Client(url, middleware=[recorder.middleware(), Refuses()]) as client:
        client.submit_many([handler.call(1), handler.call(0)])
        client.submit(handler, 1)
        client.submit_many(together.call(number) for number in range(2))
        with pytest.raises(LookupError):
            client.submit(refused, 1)
        with pytest.raises(BatchSubmitError):
            client.submit_many([refused.call(1), refused.call(2)])
        Worker(url, tasks=[handler, together], middleware=[recorder.middleware()]).run_until_idle()
    return recorder


def test_the_table_of_spans(everything) -> None:
    emitted: dict[str, set[str]] = defaultdict(set)
    for span in everything.spans():
        operation = span.name.split()[0]
        many = " (a batch)" if "messaging.batch.message_count" in span.attributes else " (one task)"
        several = "process (a batch)" if many == " (a batch)" else "process"
        label = {"send": f"send{many}", "create": "create (of a batch)", "process": several}.get(operation, operation)
        emitted[label] |= set(span.attributes)
        assert span.attributes[names.OPERATION_NAME] == span.attributes[names.OPERATION_TYPE] == operation
        assert span.attributes[names.OPERATION_TYPE] in OPERATIONS
    assert emitted == table("Spans")


OPERATIONS = {one.value for one in messaging_attributes.MessagingOperationTypeValues}


def test_the_table_of_metrics(everything) -> None:
    emitted = {
        name: {attribute for point in everything.points(name) for attribute in point.attributes}
        for name in everything.metric_names()
    }
    assert emitted == table("Metrics")


def test_every_outcome_that_middleware_sees_is_named() -> None:
    unseen = {Ending.RELEASED, Ending.LOST, Ending.ANSWERED, Ending.HELD}
    said = re.search(r"`tranship.task.outcome` is (.*?)\.\s", PAGE.read_text("utf-8"))
    assert said is not None
    assert set(re.findall(r"`(\w+)`", said[1])) == {one.value for one in Ending if one not in unseen}


def test_the_names_are_those_of_the_conventions() -> None:
    modules = (messaging_attributes, error_attributes, messaging_metrics)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    ours = {value for name, value in vars(names).items() if name in names.__all__ and isinstance(value, str)}
    dotted = {one for one in ours if one.startswith(("messaging.", "error."))}
    assert len(dotted) == 11
    assert dotted <= known
