"""Brokers of every kind as members of a router."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from routing_kit import accepted, messages, take

from tranship import Client, Worker, task
from tranship.errors import ResultsDisabled, UnsupportedError
from tranship.ports import Settled, Settlement, Verdict
from tranship.registry import Registry
from tranship.routing import Circuit, round_robin
from tranship.testing.background import BackgroundWorker
from tranship.testing.services import Service


@pytest.mark.parametrize("kind", ["redis", "nats", "rabbitmq"])
async def test_a_server_beside_memory(kind: str, tranship_service: Callable[[str], Service]) -> None:
    if find_spec(f"tranship_{kind}") is None:
        pytest.skip(f"tranship-{kind} is not installed")
    name = uuid.uuid4().hex[:12]
    url = round_robin(f"memory://{name}", tranship_service(kind).url, namespace=f"routed-{name}")
    backend = Registry().create(url)
    await backend.open()
    try:
        assert [one.problem for one in backend.native.brokers] == [None, None]
        await backend.ensure(["q"])
        await accepted(backend, *messages(8))
        assert [one.accepted for one in backend.native.brokers] == [4, 4]
        consumer = backend.consumer(["q"])
        got = await take(consumer, 8)
        answers = await consumer.settle([Settlement(one, Verdict.ACK) for one in got])
        assert set(answers) <= {Settled.CONFIRMED, Settled.SENT}
        assert [one.circuit for one in backend.native.brokers] == [Circuit.CLOSED] * 2
    finally:
        await backend.aclose()


@pytest.fixture
def rabbits(tranship_service: Callable[[str], Service]) -> tuple[str, str]:
    """Two brokers that keep no results, and push them to who submitted."""
    if find_spec("tranship_rabbitmq") is None:
        pytest.skip("tranship-rabbitmq is not installed")
    url, name = tranship_service("rabbitmq").url, uuid.uuid4().hex[:12]
    return f"{url}?namespace=routed-{name}-1", f"{url}?namespace=routed-{name}-2"


@task(name="kinds.double")
async def double(number: int) -> int:
    return 2 * number


def test_results_that_are_only_pushed(rabbits: tuple[str, str]) -> None:
    url = round_robin(*rabbits)
    with Client(url) as client, BackgroundWorker(Worker(url, tasks=[double])):
        handles = client.submit_many(double.call(number) for number in range(8))
        assert [handle.result(20) for handle in handles] == [2 * number for number in range(8)]


async def test_results_that_are_only_pushed_cannot_be_read(rabbits: tuple[str, str]) -> None:
    backend = Registry().create(round_robin(*rabbits))
    await backend.open()
    try:
        with pytest.raises(UnsupportedError, match="keeps no results"):
            await backend.results().get_many(["x"])
    finally:
        await backend.aclose()


def test_results_that_are_kept_here_and_only_pushed_there_need_a_store(rabbits: tuple[str, str]) -> None:
    url, store = round_robin(rabbits[0], f"memory://{uuid.uuid4().hex}"), f"memory://{uuid.uuid4().hex}"
    with Client(url) as client:
        handles = client.submit_many(double.call(number) for number in range(2))
        for handle in handles:
            with pytest.raises(ResultsDisabled, match="give a result store"):
                handle.result(5)
    with Client(url, result_url=store) as client, BackgroundWorker(Worker(url, result_url=store, tasks=[double])):
        handles = client.submit_many(double.call(number) for number in range(4))
        assert [handle.result(20) for handle in handles] == [0, 2, 4, 6]
