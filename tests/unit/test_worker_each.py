"""``celery.map``, ``celery.starmap`` and ``celery.chunks``: tasks of a worker called for each item of one message."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from tranship import BatchCall, Client, Depends, Outcome, TaskState, Worker, current, named, task
from tranship.errors import TaskFailed, TaskTimedOut
from tranship.testing.background import BackgroundWorker

URL = "memory://test-worker-each"
MAP, STARMAP, CHUNKS = named("celery.map"), named("celery.starmap"), named("celery.chunks")
seen: list[Any] = []
entered = threading.Event()


@dataclass
class Page:
    number: int


def get_ink() -> Iterator[str]:
    seen.append("opened")
    yield "ink"
    seen.append("closed")


@task
async def price(page: Page, ink: Annotated[str, Depends(get_ink)]) -> Page:
    seen.append(current().task)
    assert ink == "ink"
    return Page(page.number * 2)


@task(isolation="process")
def apart(number: int) -> int:
    return number + 1


@task
def in_a_thread(number: int) -> int:
    seen.append(number)
    entered.set()
    time.sleep(0.3)
    return number


@task
async def judged(number: int) -> Outcome[int]:
    return Outcome("odd" if number % 2 else "even", number)


def is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@task(batch=10, within=5)
def weighed(pages: list[Page], ink: Annotated[str, Depends(get_ink)]) -> list[int | ValueError]:
    seen.append((is_on_a_loop(), [one.number for one in pages], ink))
    return [ValueError("tray", one.number) if one.number == 3 else one.number * 10 for one in pages]


@task(batch=10)
async def counted(calls: list[BatchCall[int]]) -> list[int]:
    assert calls[0].context.task == STARMAP.name
    return [one.argument for one in calls] * calls[0].argument


@task
async def endless(_number: int) -> None:
    """Never wait for anything."""
    time.sleep(0.001)  # noqa: ASYNC251 - it is to block


@task
async def jams(number: int) -> int:
    if number == 2:
        raise ValueError("tray", number)
    seen.append(number)
    return number


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    tasks = [price, apart, in_a_thread, judged, endless, jams, weighed, counted]
    with BackgroundWorker(Worker(URL, tasks=tasks, max_concurrent_tasks=4)), Client(URL) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()
    entered.clear()


def of(handler: Any) -> dict[str, Any]:
    return {"task": handler if isinstance(handler, str) else handler.name}


def test_a_handler_of_batches_gets_each_item_as_a_batch_of_one(client: Client) -> None:
    assert client.submit(MAP, of(weighed), [{"number": 1}, {"number": 2}]).result(10) == [10, 20]
    assert seen == ["opened", (False, [1], "ink"), "closed", "opened", (False, [2], "ink"), "closed"]
    with pytest.raises(TaskFailed, match="tray"):
        client.submit(MAP, of(weighed), [{"number": 3}]).result(10)
    assert client.submit(STARMAP, of(counted), [[1]]).result(10) == [1]
    with pytest.raises(TaskFailed, match="2 results for a batch of 1"):
        client.submit(STARMAP, of(counted), [[2]]).result(10)


def test_each_item_has_its_own_dependencies_and_types(client: Client) -> None:
    handle = client.submit(MAP, task=of(price), it=[{"number": 1}, {"number": 2}])
    assert handle.result(10) == [{"number": 2}, {"number": 4}]
    assert seen == ["opened", "celery.map", "closed"] * 2


@pytest.mark.campaign
def test_isolated_tasks_run_in_their_process(client: Client) -> None:
    assert client.submit(STARMAP, task=of(apart), it=[[1], [2]]).result(30) == [2, 3]


def test_a_status_of_ones_own_is_left_out(client: Client) -> None:
    assert client.submit(MAP, task=of(judged), it=[1, 2]).result(10) == [1, 2]


def test_the_items_behind_a_failure_are_not_called(client: Client) -> None:
    with pytest.raises(TaskFailed) as caught:
        client.submit(MAP, task=of(jams), it=[1, 2, 3]).result(10)
    assert (caught.value.type, seen) == ("builtins.ValueError", [1])


def test_a_cancel_ends_it_after_the_item_in_the_thread(client: Client) -> None:
    handle = client.submit(MAP, task=of(in_a_thread), it=list(range(100)))
    assert entered.wait(10)
    handle.cancel()
    assert handle.wait(timeout=10).state is TaskState.CANCELLED
    assert len(seen) < 10


def test_a_time_limit_holds_for_all_of_it(client: Client) -> None:
    limited = MAP.options(run_timeout=0.2)
    with pytest.raises(TaskTimedOut):
        client.submit(limited, task=of(endless), it=[1] * 5_000).result(30)


def test_parts_of_chunks_are_tasks_of_their_own(client: Client) -> None:
    (group_id, parent), children = client.submit(CHUNKS, task=of(jams), it=[[3], [4], [5]], n=2).result(10)
    parts = [client.handle(one[0][0]).result(timeout=10) for one in children]
    assert (parts, parent) == ([[3, 4], [5]], None)
    assert group_id not in [one[0][0] for one in children]


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (MAP, {"task": 7, "it": [1]}, "celery.map takes the signature of a task: task is a number"),
    (MAP, {"task": {"task": "printing.gone"}, "it": [1]}, "celery.map is to call 'printing.gone', and no task of that"),
    (MAP, {"task": {"task": "x"}}, "it"),
    (MAP, {"task": of(jams), "it": 3}, "celery.map got 'it' of type int; expected a list of items"),
    (
        STARMAP,
        {"task": of(jams), "it": [[1], 2]},
        "celery.starmap got item 1 of type int; expected a list of arguments",
    ),
    (STARMAP, {"task": of(jams), "it": [[1, 2]]}, "too many positional arguments"),
    (CHUNKS, {"task": None, "it": [], "n": 1}, "celery.chunks takes the signature of a task: task is null"),
    (CHUNKS, {"task": of(jams), "it": 3, "n": 1}, "celery.chunks got 'it' of type int"),
    (CHUNKS, {"task": of(jams), "it": [], "n": 0}, "celery.chunks got n=0; expected how many items go together"),
    (CHUNKS, {"task": of(jams), "it": [], "n": True}, "celery.chunks got n=True"),
]


@pytest.mark.parametrize(("of_celery", "kwargs", "words"), BAD)
def test_what_cannot_be_called(client: Client, of_celery: Any, kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskFailed, match=words.replace("(", r"\(")):
        client.submit(of_celery, **kwargs).result(10)


def test_the_nightly_cleanup_of_beat_has_nothing_to_do(client: Client) -> None:
    assert client.submit(named("celery.backend_cleanup")).result(10) is None
