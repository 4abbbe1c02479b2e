"""What was submitted is known, by whom and how ever."""

from __future__ import annotations

import asyncio

import pytest

from tranship import AsyncClient, Client, FixedBackoff, RetryPolicy, current, task
from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.testing.submits import record_submits


@task
def total(prices: list[float], factor: float = 1.0) -> float:
    return sum(prices) * factor


@task(retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0)))
def order(name: str, *, url: str) -> str:
    if current().attempt == 0:
        raise ConnectionError("busy")
    with Client(url) as client:
        client.submit(total, [1.0])
    return name


def test_arguments_are_the_same_by_position_by_name_and_by_default(tranship_client, tranship_submits):
    tranship_client.submit(total.options(priority="high"), [1.5, 2.5])
    for args, kwargs in [(([1.5, 2.5],), {}), ((), {"prices": [1.5, 2.5]}), (([1.5, 2.5], 1.0), {})]:
        assert tranship_submits.assert_submitted(total, *args, **kwargs).priority.label == "high"
    tranship_submits.assert_not_submitted(total, [1.5])
    tranship_submits.assert_not_submitted(order)


def test_what_others_submit_is_recorded_and_retries_are_not(
    tranship_client, tranship_worker, tranship_submits, tranship_url
):
    tranship_worker(order)
    assert tranship_client.submit(order, "A", url=tranship_url).result(timeout=5) == "A"

    async def another_client() -> None:
        async with AsyncClient(tranship_url) as client:
            await client.submit("elsewhere.work", 1)

    asyncio.run(another_client())
    assert [one.task.rpartition(".")[2] for one in tranship_submits] == ["order", "total", "work"]
    assert tranship_submits.of("elsewhere.work")[0].args == (1,)
    tranship_submits.clear()
    assert not tranship_submits


def test_a_failed_assertion_shows_what_there_was(tranship_client, tranship_submits):
    tranship_client.submit(total, [1.0])
    tranship_client.submit(total, [1.0])
    tranship_client.submit("elsewhere.work")
    with pytest.raises(AssertionError, match=r"total\(\[2\.0\]\) was not submitted; submitted were .*total.*elsewhere"):
        tranship_submits.assert_submitted(total, [2.0])
    with pytest.raises(AssertionError, match="was 2 times submitted"):
        tranship_submits.assert_submitted(total, [1.0])
    with pytest.raises(AssertionError, match="was submitted"):
        tranship_submits.assert_not_submitted(total)
    with pytest.raises(InvalidArgumentsError, match="prices"):
        tranship_submits.assert_submitted(total)


def test_mistakes_are_told(tranship_url):
    with pytest.raises(ConfigurationError, match="memory://name"), record_submits("sqlite:///x.db"):
        pass
    with record_submits(tranship_url), pytest.raises(ConfigurationError, match="already"), record_submits(tranship_url):
        pass
