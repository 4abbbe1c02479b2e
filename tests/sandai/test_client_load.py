"""Much at once: order, errors and connections hold. What memory it took is printed."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from field import CeleryOperator
from sides import KINDS, side_of

from tranship.compat.sandai import TaskExecutionError, TaskTimeoutError, create_async_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.campaign,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("no_links_left"),
]
NAME = "loaded"
OURS = "ours"


@pytest.fixture(scope="module")
def busy(field_url, field_folder) -> Iterator[CeleryOperator]:
    with CeleryOperator(field_url, field_folder, name=NAME, concurrency=16) as operator:
        yield operator


@pytest.fixture
def our_url(field_url) -> str:
    """The same place, over connections that have a name."""
    return f"{field_url}?client_name={OURS}"


class Peak:
    """How many connections of ours there were at most; they are known by their name.

    Args:
        redis: looks at the server.
    """

    def __init__(self, redis) -> None:
        self._redis = redis
        self._done = threading.Event()
        self.most = 0
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self.most = max(self.most, len([one for one in self._redis.client_list() if one["name"] == OURS]))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def rss() -> int:
    """KiB that this process has in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_in_a_batch(busy, our_url, field_redis, kind):
    tasks = [([], {"n": n, "do": "fail" if n % 1000 == 7 else "echo"}) for n in range(10_000)]
    with Peak(field_redis) as peak, side_of(kind, broker_url=our_url) as side:
        client = side.client(NAME, "v1")
        assert side(client.probe()).response_ok
        before, begun = rss(), time.monotonic()
        found = side(client.batch_sync_detailed(tasks, timeout=240))
        print(f"{kind}: 10,000 in a batch: {time.monotonic() - begun:.1f} s, {(rss() - before) / 1024:+.1f} MiB")
    assert [one.index for one in found] == list(range(10_000))
    failed = [one.index for one in found if one.error is not None]
    assert failed == list(range(7, 10_000, 1000))
    assert {type(found[at].error) for at in failed} == {TaskExecutionError}
    assert all(one.results["payload"]["options"]["n"] == one.index for one in found if one.success)
    assert 1 <= peak.most <= 2
    assert not field_redis.keys("celery-task-meta-*")


def test_two_thousand_wait_at_once(busy, our_url, field_redis):
    async def one(client, n: int):
        # Every hundredth is slow, and waited for too shortly.
        late = n % 100 == 50
        return await client.sync([], {"n": n, "seconds": 3 if late else 0}, timeout=1 if late else 120)

    async def everything():
        async with create_async_client(NAME, "v1", broker_url=our_url, pool_acquire_timeout=60) as client:
            assert (await client.probe()).response_ok
            before, begun = rss(), time.monotonic()
            found = await asyncio.gather(*(one(client, n) for n in range(2000)), return_exceptions=True)
            print(f"2,000 waiters: {time.monotonic() - begun:.1f} s, {(rss() - before) / 1024:+.1f} MiB")
            return found

    with Peak(field_redis) as peak:
        found = asyncio.run(everything())
    late = [n for n, one in enumerate(found) if isinstance(one, BaseException)]
    assert late == list(range(50, 2000, 100))
    assert {type(found[n]) for n in late} == {TaskTimeoutError}
    assert all(one[1]["payload"]["options"]["n"] == n for n, one in enumerate(found) if n not in set(late))
    assert 1 <= peak.most <= 2
