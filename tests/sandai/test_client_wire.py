"""What is written, beside what the original client was seen to write: nothing more, nothing less that an operator reads."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from sides import KINDS, Side, side_of

from golden.golden_vectors import FOLDER

pytestmark = pytest.mark.usefixtures("no_links_left")
OWN = ("id", "root_id", "origin", "argsrepr", "kwargsrepr")
"""Headers that differ from message to message, or show arguments in clear."""


@pytest.fixture(params=KINDS)
def side(request, field_url, field_redis) -> Iterator[Side]:
    field_redis.flushdb()
    with side_of(request.param, broker_url=field_url) as side:
        yield side


def golden(case: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"redis-{case}.json").read_bytes())


def only(redis, queue: str) -> dict[str, Any]:
    """The one element of the plain list of a queue, in which Celery looks first."""
    (element,) = redis.lrange(queue, 0, -1)
    return json.loads(element)


def body(element: dict[str, Any]) -> Any:
    data = base64.b64decode(element["body"])
    return json.loads(data) if element["content-type"] == "application/json" else msgpack.unpackb(data, raw=False)


def same(ours: dict[str, Any], theirs: dict[str, Any], deadline: float | None) -> None:
    assert {name: value for name, value in ours["headers"].items() if name not in OWN} == {
        name: value for name, value in theirs["headers"].items() if name not in OWN
    }
    assert ours["headers"].keys() == theirs["headers"].keys()
    assert (ours["content-type"], ours["content-encoding"]) == (theirs["content-type"], theirs["content-encoding"])
    properties, expected = ours["properties"], theirs["properties"]
    for name in ("delivery_mode", "priority", "body_encoding", "delivery_info"):
        assert properties[name] == expected[name]
    assert properties["correlation_id"] == ours["headers"]["id"]
    (args, kwargs, embed), (their_args, their_kwargs, their_embed) = body(ours), body(theirs)
    assert (args, embed) == (their_args, their_embed)
    if deadline is not None:
        assert isinstance(kwargs["deadline"], float)
        assert abs(kwargs["deadline"] - deadline) < 2
        kwargs, their_kwargs = {**kwargs, "deadline": 0}, {**their_kwargs, "deadline": 0}
    assert kwargs == their_kwargs
    assert list(kwargs) == list(their_kwargs)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_a_task_with_everything(side, field_redis, serializer):
    theirs = golden(f"{serializer}-sandai-process-full")
    client = side.client("echo", "v1", task_serializer=serializer)
    kwargs = body(theirs)[1]
    begun = time.time()
    side(
        client.async_call(
            kwargs["artifacts"],
            kwargs["options"],
            "very_low",
            timeout=25,
            cancel_key=kwargs["cancel_key"],
            persistent_output=True,
        )
    )
    same(only(field_redis, "very_low.echo.v1"), theirs, begun + 25)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_a_plain_task(side, field_redis, serializer):
    theirs = golden(f"{serializer}-sandai-process")
    queue = theirs["properties"]["delivery_info"]["routing_key"]
    kwargs = body(theirs)[1]
    client = side.client("echo", "v1", task_serializer=serializer)
    begun = time.time()
    side(client.async_call(kwargs["artifacts"], kwargs["options"], queue.partition(".")[0]))
    same(only(field_redis, queue), theirs, begun + 3600)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_a_probe_has_its_own_deadline(side, field_redis, serializer):
    theirs = golden(f"{serializer}-sandai-probe")
    begun = time.time()
    side(side.client("echo", "v1", task_serializer=serializer).probe(timeout=0.2))
    same(only(field_redis, "low.echo.v1"), theirs, begun + 0.2)


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_a_description(side, field_redis, serializer):
    theirs = golden(f"{serializer}-sandai-desc")
    client = side.client("echo", "v1", task_serializer=serializer, timeout=0.2)
    with pytest.raises(TimeoutError):
        side.desc(client)
    same(only(field_redis, "high.echo.v1"), theirs, None)


def test_no_deadline_where_there_is_no_time_limit_at_all(side, field_redis):
    side(side.client("echo", "v1", timeout=0).async_call([], {}))
    assert "deadline" not in body(only(field_redis, "normal.echo.v1"))[1]
    side(side.client("echo", "v1", timeout=0).async_call([], {}, "low", timeout=0))
    assert abs(body(only(field_redis, "low.echo.v1"))[1]["deadline"] - time.time()) < 2


@pytest.mark.parametrize("enabled", ["1", "0"])
def test_trace_context_goes_along_if_it_is_enabled(side, field_redis, monkeypatch, enabled):
    trace = pytest.importorskip("opentelemetry.trace")
    monkeypatch.setenv("SANDAI_OPERATOR_TRACING_ENABLED", enabled)
    client = side.client("echo", "v1")
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    span = trace.NonRecordingSpan(trace.SpanContext(trace_id=7, span_id=9, is_remote=False, trace_flags=flags))
    with trace.use_span(span):
        side(client.async_call([], {}))
        with pytest.raises(TimeoutError):
            side(client.sync([], {}, "low", timeout=0))
    parent = f"00-{7:032x}-{9:016x}-01"
    expected = {"traceparent": parent} if enabled == "1" else None
    assert body(only(field_redis, "normal.echo.v1"))[1].get("_tracing") == expected
    assert body(only(field_redis, "low.echo.v1"))[1].get("_tracing") == expected


def test_ids_and_tags_are_never_the_same(side, field_redis):
    client = side.client("echo", "v1")
    submitted = side(client.batch_submit([([], {})] * 300))
    assert len({one.task_id for one in submitted}) == 300
    elements = [json.loads(one) for one in field_redis.lrange("normal.echo.v1", 0, -1)]
    assert len({one["properties"]["delivery_tag"] for one in elements}) == 300
