"""Minutes of samplers that are kept for those who look later."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from cli_kit import url_of

from tranship.envelope import Priority
from tranship.operations import Operator, QueueReport, Sampler
from tranship.operations._sampler import COARSE
from tranship.operations._samples import PREFIX
from tranship.ports import Record, Records

NOW = time.time() // 60 * 60


@pytest.fixture(params=["memory", "sqlite"])
def operator(request, tmp_path) -> Iterator[Operator]:
    url = f"memory://{uuid4().hex}" if request.param == "memory" else url_of(tmp_path)
    with Operator(url) as operator:
        yield operator


def sampled(minutes: int, *, until: float = NOW, names: tuple[str, ...] = ("a", "b")) -> Sampler:
    """A sampler that has looked twice a minute."""
    sampler = Sampler()
    for half in range(2 * minutes + 1):
        at = until - 30 * (2 * minutes - half)
        ready = {Priority.NORMAL: int(at // 60 % 1000)}
        facts = {"delayed": None, "in_flight": 2, "oldest_age": 1.5, "dead": 0, "workers": 1}
        sampler.take([QueueReport(name=name, ready=ready, **facts) for name in names], at=at)
    return sampler


def records(operator: Operator) -> list[Record]:
    """What is kept."""

    async def found(link) -> list[Record]:
        keeper: Records = link.record_keeper().records()
        return list(await keeper.page(PREFIX, "", 1000))

    return operator._on_link(found)


def put(operator: Operator, *values: bytes) -> None:
    async def write(link) -> None:
        await link.record_keeper().records().put([Record(f"{PREFIX}{at}", one) for at, one in enumerate(values)])

    operator._on_link(write)


def test_who_begins_later_sees_the_hours_before(operator: Operator) -> None:
    first, second = sampled(90), sampled(0)
    operator.keep_samples(first)
    operator.read_samples(second)
    for name in ("a", "b", None):
        minutes = [samples[name] for _, samples in sorted(first.minutes().items())]
        found = second.series(name)[:-1]
        assert [(one.ready, one.delayed, one.in_flight, one.oldest_age) for one in found] == [
            (one.ready, one.delayed, one.in_flight, one.oldest_age) for one in minutes
        ]
        assert all(abs(one.at - other.at) <= 30 for one, other in zip(found, minutes, strict=True))
    assert second.latest("a") == first.latest("a")


def test_a_minute_is_written_once_and_before_it_is_over_not_at_all(operator: Operator) -> None:
    sampler = Sampler()
    operator.keep_samples(sampler)
    sampler.take([], at=NOW)
    operator.keep_samples(sampler)
    assert records(operator) == []
    operator.keep_samples(sampler := sampled(3))
    before = {one.key: one.version for one in records(operator)}
    assert len(before) == 3
    operator.keep_samples(sampler)
    reader = sampled(0)
    operator.read_samples(reader)
    operator.keep_samples(reader)
    assert {one.key: one.version for one in records(operator)} == before


def test_twelve_hours_are_kept_and_no_more(operator: Operator) -> None:
    operator.keep_samples(sampled(COARSE, until=NOW - 3600, names=("a",)))
    operator.keep_samples(sampled(120, names=("a",)))
    found = records(operator)
    assert len(found) == COARSE
    assert all(one.ttl is None or one.ttl <= COARSE * 60 for one in found)
    reader = sampled(0)
    operator.read_samples(reader)
    assert reader.series("a")[0].at >= NOW - COARSE * 60


def test_what_a_sampler_has_itself_stays(operator: Operator) -> None:
    operator.keep_samples(sampled(10, names=("a",)))
    own = Sampler()
    for half in range(11):
        at = NOW - 300 + 30 * half
        facts = {"delayed": 0, "in_flight": 0, "oldest_age": 0.0, "dead": 0, "workers": 1}
        own.take([QueueReport(name="a", ready={Priority.NORMAL: 7777}, **facts)], at=at)
    operator.read_samples(own)
    found = own.series("a")
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert {one.ready for one in found if one.at >= NOW - 300} == {7777.0}
    assert sum(one.ready != 7777.0 for one in found) == 5


def test_a_queue_that_is_gone_is_still_told_of(operator: Operator) -> None:
    operator.keep_samples(sampled(10, names=("gone",)))
    reader = sampled(0)
    operator.read_samples(reader)
    assert reader.latest("gone") is None
    assert len(reader.series("gone")) == 10
    reader.take([], at=NOW + 60)
    reader.take([], at=NOW + 13 * 3600)
    assert reader.series("gone") == []


def test_what_cannot_be_read_is_passed_over(operator: Operator) -> None:
    minute = int(NOW // 60)
    figures = [1, None, None, None, None, 0.5, 0, 0, None]
    put(
        operator,
        b"\xff",
        b"[]",
        b'{"minute": "x", "queues": {}}',
        json.dumps({"minute": minute + 500, "queues": {"future": figures}}).encode(),
        json.dumps({"minute": minute - 2 * COARSE, "queues": {"past": figures}}).encode(),
        json.dumps({"minute": minute - 1, "queues": {"short": [1], "text": ["1"] * 9, "none": [None] * 9}}).encode(),
        b'{"minute": %d, "queues": {"huge": [1e999, 0, 0, 0, 0, 0, 0, 0, 0]}}' % (minute - 2),
        json.dumps({"minute": minute - 3, "queues": {"good": figures}, "all": 7}).encode(),
    )
    sampler = Sampler()
    operator.read_samples(sampler)
    assert sampler.queues == ["good"]
    assert sampler.series("good")[0].rate == 0.5
