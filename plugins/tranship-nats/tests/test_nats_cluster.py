"""Three servers, and whichever leads is killed: clients and workers go on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from nats_kit import url_of

from tranship import Client, Worker, task
from tranship.settings import BrokerURL
from tranship.testing.background import BackgroundWorker
from tranship.testing.services import Service, ask_nats, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PATIENCE = 60.0
SOON = {"lease": 5, "command_timeout": 2, "keepalive": 1}
"""As the manual has it for clusters: what waits for a leader's answer is soon asked again when that has died."""


class Cluster:
    """Servers that know each other."""

    def __init__(self, servers: Sequence[Service]) -> None:
        self.servers = servers

    def url(self, *numbers: int, **options: Any) -> str:
        """A URL that lists these servers."""
        first, *others = (BrokerURL.parse(url_of(self.servers[number])) for number in numbers)
        url = url_of(self.servers[numbers[0]], **options)
        places = ",".join(f"{one.host}:{one.port}" for one in (first, *others))
        return url.replace(f"{first.host}:{first.port}", places)

    def streams(self, namespace: str) -> dict[str, Any]:
        """What any server that runs says of the streams of a namespace, by name."""
        for server in self.servers:
            try:
                found = ask_nats(server.place, "jsz?streams=1&config=1")
            except OSError:
                continue
            details = [one for account in found["account_details"] for one in account["stream_detail"]]
            return {one["name"]: one for one in details if namespace in one["name"]}
        raise AssertionError("no server runs")

    def led(self) -> bool:
        """Whether all servers that run know one of them as their leader: only then streams and consumers are made."""
        running = {f"tests-{one.place.port}": one for one in self.servers if one.pid}
        leaders = {ask_nats(one.place, "jsz").get("meta_cluster", {}).get("leader") for one in running.values()}
        return len(leaders) == 1 and leaders <= running.keys()

    def leader(self, stream: str) -> Service | None:
        """Who leads a stream; None: nobody, or one that does not run."""
        name = self.streams(stream)[stream]["cluster"].get("leader")
        return next((one for one in self.servers if name == f"tests-{one.place.port}" and one.pid), None)

    def complete(self, stream: str) -> bool:
        """Whether each server has all of a stream, as its leader sees it."""
        leader = self.leader(stream)
        if leader is None:
            return False
        details = ask_nats(leader.place, "jsz?streams=1")["account_details"]
        (cluster,) = (one["cluster"] for found in details for one in found["stream_detail"] if one["name"] == stream)
        return [one["current"] for one in cluster.get("replicas", [])] == [True] * (len(self.servers) - 1)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Ask until it is true; return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE:g} s"
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster(nats_variant: Callable[..., Service]) -> Cluster:
    ports = [free_port() for _ in range(3)]
    routes = json.dumps([f"nats-route://127.0.0.1:{port}" for port in ports])
    # One after the other: each finds those before it.
    found = Cluster(
        [nats_variant(f'cluster {{ name: "tests", listen: "127.0.0.1:{port}", routes: {routes} }}') for port in ports]
    )

    eventually(found.led, "the servers have found each other")
    return found


@task(name="cluster.double", queue="cluster")
async def double(number: int) -> int:
    return 2 * number


@pytest.mark.campaign
def test_whoever_leads_may_die(cluster: Cluster) -> None:
    """Every task is kept three times: with its leader killed, twice, nothing is lost, and all goes on."""
    url = cluster.url(0, 1, replicas=3, namespace="led", **SOON)
    runs: Counter[int] = Counter()

    @task(name="cluster.count", queue="cluster")
    async def count(number: int) -> int:
        runs[number] += 1
        return 2 * number

    def go_on(round_: int) -> None:
        leader = eventually(lambda: cluster.leader("tranship-led-work"), "somebody leads")
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(lambda: [client.submit(count, number) for number in range(300)])
            eventually(lambda: sum(runs.values()) >= 300 * round_ + 50, "some have run")
            leader.kill()
            results = client.collect(submitting.result(PATIENCE), PATIENCE)
        assert [one.value for one in results] == [2 * number for number in range(300)]
        leader.start()

    worker = Worker(url, tasks=[count], result_url=url)
    with Client(url, result_url=url, submit_timeout=30) as client, BackgroundWorker(worker):
        eventually(lambda: "tranship-led-work" in cluster.streams("led"), "there is a stream")
        for round_ in range(2):
            eventually(lambda: cluster.complete("tranship-led-work"), "every server has everything")
            go_on(round_)
    assert all(times >= 2 for times in runs.values())
    replicas = {one["config"]["num_replicas"] for one in cluster.streams("led").values()}
    assert replicas == {3}


@pytest.mark.campaign
def test_a_server_that_the_url_does_not_list_is_found(cluster: Cluster) -> None:
    """Listed is one, which is killed: the others go on with what was there."""
    url = cluster.url(2, replicas=3, namespace="found", **SOON)
    with Client(url, result_url=url, submit_timeout=30) as client:
        client.submit_many(double.call(number) for number in range(20))
        eventually(lambda: cluster.complete("tranship-found-work"), "every server has everything")
        cluster.servers[2].kill()
        handle = client.submit(double, 21)
        # A worker that cannot make its consumers when it starts ends.
        eventually(cluster.led, "the others have a leader")
        others = cluster.url(0, 1, namespace="found", **SOON)
        with BackgroundWorker(Worker(others, tasks=[double], result_url=others)):
            assert handle.result(PATIENCE) == 42
