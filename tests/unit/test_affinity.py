"""Preferred workers: bad input, and what is not waited for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tranship import AsyncClient, Client, Worker, task
from tranship.errors import InvalidOptionError, UnsupportedError
from tranship.schema import describe


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """A place in memory of the test's own."""
    return f"memory://{request.node.originalname}-{id(request)}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prefers": []}, r"prefers is \[\]"),
        ({"prefers": 7}, "prefers is 7"),
        ({"prefers": ["a", 7]}, "prefers is 7"),
        ({"prefers": "a", "prefers_within": 0}, "prefers_within is 0"),
        ({"prefers_within": 5}, "no prefers"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], words: str) -> None:
    """They are refused where the task is made."""
    with pytest.raises(InvalidOptionError, match=words):
        task(name="affinity.never", **options)


def _bad(*_args: Any) -> Any:
    raise KeyError("model")


@pytest.mark.parametrize("prefers", ["model", _bad, lambda number: number, lambda number: None])
def test_nobody_is_waited_for_who_is_not_there(url: str, prefers: Any) -> None:
    """A worker that is alone runs everything at once; so is what a function says that raises, or says nothing useful."""

    @task(name="affinity.alone", prefers=prefers, prefers_within=600)
    async def alone(number: int) -> int:
        return number

    began = time.monotonic()
    with Client(url) as client:
        handles = client.submit_many(alone.call(number) for number in range(20))
        assert Worker(url, tasks=[alone]).run_until_idle(30) == 20, "none was put back"
        assert [one.result(timeout=5) for one in handles] == list(range(20))
    assert time.monotonic() - began < 30


def test_what_waits_can_be_cancelled_and_stopped(url: str) -> None:
    """A task that is passed on ends when it is cancelled; a worker that stops leaves it at the broker."""

    @task(name="affinity.waits", prefers="model", prefers_within=600)
    async def waits() -> str:
        return "done"

    async def main() -> None:
        hot = Worker(url, tasks=[waits], name="hot", max_concurrent_tasks=1)
        hot.hot_cache.add("model")
        cold = Worker(url, tasks=[waits], name="cold")
        async with AsyncClient(url) as client:
            serving = [asyncio.create_task(hot.serve())]
            async with asyncio.timeout(20):
                while not hot.status().ready:  # noqa: ASYNC110 - a worker has no event for it
                    await asyncio.sleep(0.01)
            # It is there, as far as the others know, and takes nothing.
            hot._shift.session._queues.pause("default")  # type: ignore[union-attr]
            hot._shift.session.intake.ask_anew()  # type: ignore[union-attr]
            serving.append(asyncio.create_task(cold.serve()))
            first, second = await client.submit(waits), await client.submit(waits)
            async with asyncio.timeout(20):
                while cold.status().done < 2:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.01)
            await first.cancel()
            assert (await first.wait(timeout=20)).state.name == "CANCELLED"
            cold.stop()
            await serving[1]
            hot._shift.session._queues.resume("default")  # type: ignore[union-attr]
            hot._shift.session.intake.ask_anew()  # type: ignore[union-attr]
            assert (await second.wait(timeout=20)).worker == "hot"
            hot.stop()
            await serving[0]

    asyncio.run(main())


def test_a_broker_without_delays_refuses() -> None:
    """When the worker opens."""
    pytest.importorskip("tranship_kombu")

    @task(name="affinity.kombu", prefers="model", store_result=False)
    async def nothing() -> None: ...

    with pytest.raises(UnsupportedError, match="prefers"):
        Worker("kombu+memory://", tasks=[nothing]).run_until_idle(5)


def test_it_is_described() -> None:
    """Names are; a function is the worker's own."""

    @task(name="affinity.described", prefers=["a", "b"])
    async def described() -> None: ...

    assert describe(described)["options"]["prefers"] == ["a", "b"]
