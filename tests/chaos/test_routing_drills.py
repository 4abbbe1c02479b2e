"""Several brokers as one: one of them is killed under load and comes back, the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Self

import pytest

from chaos.conftest import FORGETFUL, LEASE, SERVERS, need_plugin, own_part
from chaos.fleet import Fleet
from chaos.test_broker_kills import PATIENCE, Outage, Submits, kill_at, warm_up
from chaos.test_kills import remains
from tranship import Client
from tranship.routing import RoutingStatus, failover, round_robin
from tranship.testing.pytest_plugin import own_services
from tranship.testing.services import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUTING = {"fail_back": 0.3, "unknown_patience": 0.3, "breaker_longest_pause": 0.5, "answer_timeout": 1.0}
"""Quick to leave a broker and to return, so that a drill has many switches."""


@contextlib.contextmanager
def started(*names: str) -> Iterator[list[Service]]:
    """Servers of these names, the test's own to kill."""
    for name in names:
        need_plugin(name)
    with own_services() as start:
        yield [start(name) for name in names]


@pytest.fixture
def servers() -> Iterator[list[Service]]:
    """Two Redis servers of the test's own."""
    with started("redis", "redis") as services:
        yield services


@pytest.fixture
def kinds() -> Iterator[list[Service]]:
    """A server of each kind."""
    with started(*SERVERS) as services:
        yield services


class Load(Submits):
    """Submits until it is over, in portions with a breath in between, so that the workers keep up.

    As a context manager it goes on for the length of a block.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client, 0)
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(self.run, 4)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        with self._pool:
            self._running.result()

    def _portion(self, batches: bool) -> None:
        submit = self._batch if batches else self._singles
        while not self.over.wait(0.1):
            submit()

    def until(self, told: int) -> None:
        """Return when so many have been answered."""
        end = time.monotonic() + PATIENCE
        while self.told < told:
            assert time.monotonic() < end, f"only {self.told} submits were answered in time"
            time.sleep(0.01)


def status_of(client: Client) -> RoutingStatus:
    return client._connector.any_link().backend.native


def drill(
    url: str,
    result_url: str | None,
    servers: list[Service],
    tmp_path,
    tell: Callable[[str], None],
    *,
    portion: int,
    plan: list[tuple[int, float]],
) -> RoutingStatus:
    """Submit under load while the servers are killed as planned (which, how long away); check every promise.

    Between two kills come ``portion`` submits at least.
    """
    forgetful = any(server.name in FORGETFUL for server in servers)
    with (
        Client(url, result_url=result_url) as client,
        Fleet(url, tmp_path / "runs", workers=2, concurrency=20) as fleet,
    ):
        warm_up(client, fleet)
        with Load(client) as submits:
            outages = []
            for which, away in plan:
                submits.until(submits.told + portion)
                all_well(client, submits)
                outages.append(kill_at(servers[which], submits, submits.told, away))
            submits.until(submits.told + portion)
        count = submits.told
        assert count == submits.handed
        results = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE)
        doubtful = client.collect([client.handle(one) for one in submits.unknown], 0)
        drained(fleet, url)
        again = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE)
        with Client(url, result_url=result_url) as other:
            elsewhere = other.collect([other.handle(one) for one in submits.acknowledged], PATIENCE)
        status = status_of(client)
        fleet.replace_dead()
        assert fleet.deaths == 0, "an outage of one broker killed a worker"
        fleet.stop()
        runs, history, doubled = fleet.runs(), fleet.history(), fleet.doubled()
    starts = {task_id: [run.at for run in history if run.id == task_id] for task_id, n in runs.items() if n > 1}
    unexplained = [
        task_id
        for task_id, times in starts.items()
        if task_id not in doubled
        and not all(explained(outages, *pair, forgetful=forgetful) for pair in pairwise(times))
    ]
    tell(
        f"{count} submits across {len(outages)} kills ({'; '.join(map(str, outages))}): "
        f"{len(submits.acknowledged)} acknowledged, {len(submits.unknown)} unknown "
        f"({sum(one.state.terminal for one in doubtful)} of them ran), {len(submits.refused)} refused; "
        f"{status.switches} switches, {status.republished} published again, {status.duplicates} of them were at both "
        f"brokers; {len(starts)} tasks ran more than once, {len(doubled)} of them as such duplicates, the others "
        f"after a lease that ended in an outage ({len(unexplained)} unexplained); {status.ran_twice} with two results"
    )
    assert len(set(submits.acknowledged)) == len(submits.acknowledged)
    assert Counter(one.state.value for one in results) == {"SUCCESS": len(results)}, "an acknowledged task was lost"
    assert [one.finished_at for one in again] == [one.finished_at for one in results], "a task ended twice"
    assert [one.finished_at for one in elsewhere] == [one.finished_at for one in results], "two clients saw two ends"
    assert set(runs) <= {*submits.acknowledged, *submits.unknown}
    assert not set(submits.refused) & runs.keys(), "what was definitely not submitted has run"
    assert forgetful or len(doubled) <= status.republished, "a task was queued twice and nobody counted it"
    assert not unexplained, "a task ran again for no reason"
    assert asyncio.run(remains(url)) == (0, [])
    return status


def all_well(client: Client, submits: Load) -> None:
    """Return when every broker is used again, with ``failover`` the first one for new tasks."""
    end = time.monotonic() + PATIENCE
    while status_of(client).brokers[0].active is False or any(one.problem for one in status_of(client).brokers):
        assert time.monotonic() < end, f"not well again: {status_of(client)}"
        submits.until(submits.told + 1)


def explained(outages: list[Outage], first: float, second: float, *, forgetful: bool) -> bool:
    return any(outage.covers(first, second) if forgetful else outage.explains(first, second) for outage in outages)


def drained(fleet: Fleet, url: str) -> None:
    """Wait until nothing is left at any broker: what came back with one runs, too."""
    end = time.monotonic() + PATIENCE
    while asyncio.run(remains(url))[0]:
        assert time.monotonic() < end, "something is left on the queues"
        time.sleep(0.1)


@pytest.fixture(params=[pytest.param("own-results", marks=pytest.mark.campaign), "one-store"])
def result_url(request, tmp_path) -> str | None:
    """Where results are kept: with each task, or in one place for all."""
    return None if request.param == "own-results" else f"sqlite:///{tmp_path / 'results.db'}"


def test_failover_loses_nothing(servers, result_url, tmp_path, tell, scale, monkeypatch):
    if result_url:
        monkeypatch.setenv("TRANSHIP_RESULT_URL", result_url)
    url = own_part(failover(*(one.url for one in servers), **ROUTING))
    plan = [(0, 1.5 * LEASE), (1, 0.5), (0, 0.0), (0, 1.0)]
    status = drill(url, result_url, servers, tmp_path, tell, portion=500 * scale, plan=plan)
    assert status.switches >= 4
    assert all(one.accepted for one in status.brokers)


@pytest.mark.campaign
def test_in_turn_loses_nothing(servers, result_url, tmp_path, tell, scale, monkeypatch):
    if result_url:
        monkeypatch.setenv("TRANSHIP_RESULT_URL", result_url)
    url = own_part(round_robin(weights={servers[0].url: 3, servers[1].url: 1}, **ROUTING))
    plan = [(0, 1.5 * LEASE), (1, 1.0), (0, 0.0), (1, 0.0)]
    status = drill(url, result_url, servers, tmp_path, tell, portion=500 * scale, plan=plan)
    assert all(one.accepted for one in status.brokers)


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [failover, round_robin])
def test_brokers_of_different_kinds_lose_nothing(mode, kinds, tmp_path, tell, scale, monkeypatch):
    """Results in one place: RabbitMQ keeps none."""
    store = f"sqlite:///{tmp_path / 'results.db'}"
    monkeypatch.setenv("TRANSHIP_RESULT_URL", store)
    url = own_part(mode(*(one.url for one in kinds), **ROUTING))
    plan = [(which, away) for away in (1.5 * LEASE, 0.0) for which in range(len(kinds))]
    status = drill(url, store, kinds, tmp_path, tell, portion=300 * scale, plan=plan)
    assert all(one.accepted for one in status.brokers[: None if mode is round_robin else 2])


@pytest.mark.campaign
@pytest.mark.parametrize("mode", [failover, round_robin])
def test_a_frozen_broker_does_not_stop_the_others(mode, servers, tmp_path, tell, scale):
    portion = 1000 * scale
    url = own_part(mode(*(one.url for one in servers), **ROUTING))
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=2, concurrency=20) as fleet:
        warm_up(client, fleet)
        with Load(client) as submits:
            submits.until(portion)
            servers[0].pause()
            try:
                frozen, told = time.monotonic(), submits.told
                # Several times as much as is under way: they do not only end, they go on.
                submits.until(told + portion)
                there = [one for one in submits.acknowledged[told:] if one]
                ended = client.collect([client.handle(one) for one in there[-200:]], PATIENCE)
                took = time.monotonic() - frozen
            finally:
                servers[0].resume()
        results = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE)
        drained(fleet, url)
        status = status_of(client)
        fleet.stop()
    tell(
        f"{submits.told} submits, {portion} of them while the first broker was frozen for {took:.1f} s: "
        f"{len(submits.acknowledged)} acknowledged, {len(submits.unknown)} unknown, {len(submits.refused)} refused; "
        f"{status.republished} published again, {status.duplicates} of them were at both brokers"
    )
    assert all(one.success for one in ended), "results did not come while one broker was frozen"
    assert Counter(one.state.value for one in results) == {"SUCCESS": len(results)}
    assert not submits.refused


def test_shares_follow_the_weights_while_all_are_there(servers, tmp_path, tell, scale):
    count = 4000 * scale
    url = own_part(round_robin(weights={servers[0].url: 3, servers[1].url: 1}, **ROUTING))
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=2, concurrency=20) as fleet:
        warm_up(client, fleet)
        before = [one.accepted for one in status_of(client).brokers]
        submits = Submits(client, count)
        submits.run()
        accepted = [one.accepted - was for one, was in zip(status_of(client).brokers, before, strict=True)]
        results = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE)
        fleet.stop()
        runs = fleet.runs()
    tell(f"{count} submits, weights 3 to 1: {accepted[0]} to {accepted[1]}, {accepted[0] / count:.2%} at the first")
    assert len(submits.acknowledged) == sum(accepted) == count
    assert accepted[0] / count == pytest.approx(0.75, abs=0.02)
    assert all(one.success for one in results)
    assert max(runs.values()) == 1
