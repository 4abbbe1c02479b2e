"""Broker and result backend in different places, of different kinds; and one client on several loops and threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from operators import Seen, echo
from sides import KINDS, Side, side_of

from tranship.compat.sandai import TaskCancelledError, TaskTimeoutError, create_async_client, create_client
from tranship.testing.background import BackgroundWorker
from unit.patience import until

pytestmark = pytest.mark.usefixtures("no_links_left")
VIDEO = {"uri": "file:///tmp/in.mp4", "slot": "video"}


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    """A broker and another store; both know which ids there are."""
    return {"broker_url": f"sqlite:///{tmp_path}/jobs.db", "result_backend": f"sqlite:///{tmp_path}/results.db"}


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def served(places, seen) -> Iterator[None]:
    operator = echo(places["broker_url"], seen, result_backend=places["result_backend"], concurrency=4)
    with BackgroundWorker(operator.worker()):
        yield


@pytest.fixture(params=KINDS)
def side(request, places) -> Iterator[Side]:
    with side_of(request.param, **places, timeout=20) as side:
        yield side


def test_results_elsewhere(side, served):
    client = side.client("echo", "v1")
    assert side(client.sync([VIDEO], {"n": 1}))[1]["options"] == {"n": 1}
    found = side(client.batch_sync_detailed([([], {"n": n, "sleep": 0.1}) for n in range(8)]))
    assert [one.results["options"]["n"] for one in found] == list(range(8))
    handle = side(client.async_call([], {"sleep": 0.2}))
    # The store of results has never heard of it: that is not an end.
    assert side.state(handle) in ("PENDING", "STARTED")
    assert side(handle.get(timeout=10))["status"] == "success"
    assert side(client.probe()).response_ok


def test_what_nobody_serves_is_waited_for(side):
    client = side.client("echo", "v1")
    # It connects with the first call, which takes its time on a busy machine.
    side(client.async_call([], {}))
    begun = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        side(client.sync([], {}, timeout=0.5))
    assert time.monotonic() - begun >= 0.5


def test_a_cancel_reaches_the_operator(side, served, seen):
    client = side.client("echo", "v1")
    side(client.cancel("job-9"))
    with pytest.raises(TaskCancelledError):
        side(client.sync([], {"label": "cancelled"}, cancel_key="job-9"))
    assert "cancelled" not in seen.begun


def test_what_is_revoked_before_anybody_begins_it_has_ended(side):
    """The broker removes it at once, and would tell its own store only."""
    handle = side(side.client("echo", "v1").async_call([], {}))
    side(handle.revoke())
    with pytest.raises(TaskCancelledError):
        side(handle.get(timeout=10))
    assert side.state(handle) == "REVOKED"


def test_one_blocking_client_for_many_threads(places, served):
    answers: list[tuple[int, int]] = []
    with create_client("echo", "v1", **places) as client:

        def caller(number: int) -> None:
            for turn in range(5):
                _, results = client.sync([], {"n": number * 10 + turn})
                answers.append((number * 10 + turn, results["options"]["n"]))

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 60
    assert all(sent == got for sent, got in answers)


def test_one_asynchronous_client_for_many_loops(places, served):
    client = create_async_client("echo", "v1", **places)
    answers: list[int] = []

    async def callers(number: int) -> None:
        found = await asyncio.gather(*(client.sync([], {"n": number * 10 + turn}) for turn in range(10)))
        answers.extend(results["options"]["n"] for _, results in found)
        # The loop's connection is closed while the loop is there.
        if number == 0:
            await until(lambda: len(answers) == 40, 20)
            await client.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(callers(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(40))


async def test_a_cancelled_caller_leaves_the_others_alone(places, served):
    async with create_async_client("echo", "v1", **places) as client:
        calls = [asyncio.create_task(client.sync([], {"n": n, "sleep": 0.3})) for n in range(8)]
        links = await client._transport.links(None)
        await until(lambda: len(links.backend.waiting) == 8)
        for call in calls[::2]:
            call.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False] * 4
        assert [one[1]["options"]["n"] for one in found[1::2]] == [1, 3, 5, 7]
        assert [slots.taken for slots in client._transport._limits()] == [0, 0]
