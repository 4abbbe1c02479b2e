"""The broker itself is killed, in the middle of everything, and comes back with its data."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from chaos.conftest import FORGETFUL, LEASE, own_part
from chaos.fleet import Fleet
from chaos.test_kills import follow, remains
from chaos.worker import work
from tranship import Client, TaskState
from tranship.errors import BatchSubmitError, BrokerUnreachable, SubmitTimeout, SubmitUnknown, TranshipError
from tranship.testing.proxy import FaultProxy
from tranship.testing.services import Service, rabbitmqctl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 60.0
BATCH = 50
WRITTEN_DOWN = 1.5
"""Seconds after which RabbitMQ has written down which streams there are."""
WORKERS = 2


@dataclass(frozen=True)
class Outage:
    """One kill of the broker."""

    under_way: int
    """Submits without an answer at that moment."""
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    def explains(self, first: float, second: float) -> bool:
        """Whether a task that was started at ``first`` may have been started again because of it.

        Its lease ended while nobody could renew it, so that it was somebody else's when the broker was back.
        """
        return self.seconds > LEASE / 2 and self.covers(first, second)

    def covers(self, first: float, second: float) -> bool:
        """Whether one start may have been before the server was back, and the other after it.

        It was back at some moment of the outage: workers find it before we know.
        """
        return first < self.ended and self.began <= second

    def __str__(self) -> str:
        return f"{self.under_way} under way, {self.seconds:.2f} s away"


class Submits:
    """Submits from several threads, one by one and in batches, and keeps what it was told of each task."""

    def __init__(self, client: Client, count: int) -> None:
        self.handed = 0
        """How many were handed over, whatever became of them."""
        self.acknowledged: list[str] = []
        self.unknown: list[str] = []
        self.refused: list[str] = []
        self._client = client
        self._left = iter(range(count // BATCH))
        self._lock = threading.Lock()

    @property
    def told(self) -> int:
        return len(self.acknowledged) + len(self.unknown) + len(self.refused)

    def run(self, threads: int = 6) -> None:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(self._portion, number % 2 == 0) for number in range(threads)]:
                done.result()

    def _portion(self, batches: bool) -> None:
        submit = self._batch if batches else self._singles
        while True:
            with self._lock:
                if next(self._left, None) is None:
                    return
            submit()

    def _hand_over(self, count: int) -> None:
        with self._lock:
            self.handed += count

    def _singles(self) -> None:
        for number in range(BATCH):
            self._hand_over(1)
            try:
                self.acknowledged.append(self._client.submit(work, number, 0.0).id)
            except TranshipError as error:
                self._failed(error)

    def _batch(self) -> None:
        self._hand_over(BATCH)
        try:
            handles = self._client.submit_many(work.call(number, 0.0) for number in range(BATCH))
            self.acknowledged += [handle.id for handle in handles]
        except BatchSubmitError as batch:
            self.acknowledged += [handle.id for handle in batch.handles if handle is not None]
            for error in batch.errors.values():
                self._failed(error)

    def _failed(self, error: TranshipError) -> None:
        assert error.task_id is not None, f"an error that does not say which task it is about: {error!r}"
        if isinstance(error, SubmitUnknown):
            self.unknown.append(error.task_id)
        else:
            assert isinstance(error, SubmitTimeout | BrokerUnreachable), repr(error)
            self.refused.append(error.task_id)


def test_a_killed_broker_loses_nothing(server: Service, tmp_path, tell: Callable[[str], None], scale, portion):
    count, url, forgetful = portion(5000) // BATCH * BATCH, own_part(server.url), server.name in FORGETFUL
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=WORKERS, concurrency=20) as fleet:
        warm_up(client, fleet)
        submits = Submits(client, count)
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(submits.run)
            outages = [
                kill_at(server, submits, count * part // 4, away)
                for part, away in enumerate((0.0, 0.5, 1.25 * LEASE), 1)
            ]
            submitting.result()
        assert submits.told == count
        results = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE * scale)
        settled(server, url)
        doubtful = client.collect([client.handle(one) for one in submits.unknown], 0)
        again = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE)
        # A worker that has begun lives through an outage; the one that finds no broker at its start does not.
        fleet.replace_dead()
        assert fleet.deaths == 0
        fleet.stop()
        runs, history, doubled = fleet.runs(), fleet.history(), fleet.doubled()
    repeated = {task_id: [run.at for run in history if run.id == task_id] for task_id, n in runs.items() if n > 1}
    unexplained = [
        pair
        for starts in repeated.values()
        for pair in pairwise(starts)
        if not any(outage.covers(*pair) if forgetful else outage.explains(*pair) for outage in outages)
    ]
    tell(
        f"{count} submits across {len(outages)} kills of the broker ({'; '.join(map(str, outages))}): "
        f"{len(submits.acknowledged)} acknowledged, {len(submits.unknown)} unknown "
        f"({sum(one.state.terminal for one in doubtful)} of them ran), {len(submits.refused)} refused; "
        f"{len(repeated)} tasks ran more than once, {len(unexplained)} of them not because of an outage"
    )
    assert len(set(submits.acknowledged)) == len(submits.acknowledged)
    assert Counter(one.state.value for one in results) == {"SUCCESS": len(results)}, "an acknowledged task was lost"
    assert [one.finished_at for one in again] == [one.finished_at for one in results], "a task ended twice"
    assert not set(submits.refused) & runs.keys(), "what was definitely not submitted has run"
    assert set(runs) <= {*submits.acknowledged, *submits.unknown}
    assert forgetful or not doubled, "a submit was repeated that had been heard"
    check_explained(server, runs, unexplained, outages)
    left, dead = asyncio.run(remains(url))
    assert (left, list(dead)) == (0, [])


def test_a_broker_killed_under_running_tasks(server: Service, tmp_path, tell: Callable[[str], None], scale, portion):
    """Twice in the middle: each task ends once; what ran again had been running, or was not yet acknowledged."""
    count, url = portion(2000), own_part(server.url)
    with Client(url) as client, Fleet(url, tmp_path / "runs", workers=WORKERS, concurrency=20) as fleet:
        warm_up(client, fleet)
        handles = client.submit_many(work.call(number, 0.05) for number in range(count))
        outages = [kill_under(server, fleet, count * part // 3) for part in (1, 2)]
        results = client.collect(handles, PATIENCE * scale)
        settled(server, url)
        again = client.collect([client.handle(handle.id) for handle in handles], PATIENCE)
        fleet.replace_dead()
        assert fleet.deaths == 0
        fleet.stop()
        runs, history = fleet.runs(), fleet.history()
    ran = {task_id: [run.at for run in history if run.id == task_id] for task_id, times in runs.items() if times > 1}
    unexplained = [
        pair for starts in ran.values() for pair in pairwise(starts) if not any(one.covers(*pair) for one in outages)
    ]
    tell(
        f"{count} tasks, the broker killed twice with {', '.join(str(one.under_way) for one in outages)} of them begun: "
        f"{len(ran)} ran more than once ({len(unexplained)} of them not because of a kill)"
    )
    assert Counter(one.state.value for one in results) == {"SUCCESS": count}, "a task was lost"
    assert [one.value for one in results] == list(range(count))
    assert [one.finished_at for one in again] == [one.finished_at for one in results], "a task ended twice"
    check_explained(server, runs, unexplained, outages)
    left, dead = asyncio.run(remains(url))
    assert (left, list(dead)) == (0, [])


def test_lost_answers_submit_nothing_twice(server: Service, tmp_path, tell: Callable[[str], None], scale, portion):
    """What was submitted is done, but the answer is lost with the connection, again and again."""
    count, url = portion(5000) // BATCH * BATCH, own_part(server.url)
    parts = urlsplit(server.url)
    with FaultProxy(parts.hostname or "", parts.port or 0) as proxy, Client(proxy.url_for(url)) as client:
        client.ping()
        submits = Submits(client, count)
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(submits.run)
            lost = [lose_answers(proxy, submits, count * part // 7) for part in range(1, 7)]
            submitting.result()
        with Fleet(url, tmp_path / "runs", workers=2, concurrency=50) as fleet:
            results = client.collect([client.handle(one) for one in submits.acknowledged], PATIENCE * scale)
            fleet.stop()
            runs = fleet.runs()
    tell(
        f"{count} submits, {len(lost)} times the answers of {min(lost)} to {max(lost)} of them were lost: "
        f"{len(submits.acknowledged)} acknowledged, {len(submits.unknown)} unknown, {len(submits.refused)} refused, "
        f"{sum(runs.values())} runs of {len(runs)} tasks"
    )
    assert Counter(one.state.value for one in results) == {"SUCCESS": len(results)}, "an acknowledged task was lost"
    assert not set(submits.refused) & runs.keys(), "what was definitely not submitted has run"
    assert set(submits.acknowledged) <= set(runs) <= {*submits.acknowledged, *submits.unknown}
    assert max(runs.values()) == 1, "a submit was repeated that had been heard"


def test_everything_dies_while_somebody_waits(
    server: Service, tmp_path, tell: Callable[[str], None], scale, portion, breath
):
    count, url = max(portion(600), 200), own_part(server.url)
    # Where tasks take longer, each is in somebody's hands at several kills; a classic queue of RabbitMQ counts even
    # what only waits as delivered when the server comes back.
    most = 5 if server.name == "redis" else 50
    with (
        Client(url) as client,
        Fleet(url, tmp_path / "runs", workers=3, concurrency=10, max_deliveries=most) as fleet,
    ):
        warm_up(client, fleet)
        # Long enough for some kills.
        outages, seconds = 0, 0.3 if count < 600 else 0.05

        def kill_something() -> None:
            nonlocal outages
            # One that takes ten seconds to start would be away most of the time.
            if not outages or (random.random() < 0.3 and (outages < 3 or server.name != "rabbitmq")):
                server.kill()
                server.start()
                outages += 1
            else:
                fleet.kill_one()
            # One that was just started, and found no broker, ends.
            fleet.replace_dead()

        handles = client.submit_many(work.call(number, seconds) for number in range(count))
        results = follow(client, handles, meanwhile=kill_something, every=breath, patience=PATIENCE * scale)
        settled(server, url)
        again = client.collect([client.handle(handle.id) for handle in handles], PATIENCE)
        fleet.replace_dead()
        fleet.stop()
        runs = fleet.runs()
    tell(
        f"{count} tasks, {outages} kills of the broker, {fleet.kills} of workers, {fleet.deaths} workers found no broker "
        f"when they started; {sum(runs.values()) - count} runs repeated, "
        f"results {dict(Counter(one.state.value for one in results))}"
    )
    assert [one.value for one in results if one.success] == [n for n, one in enumerate(results) if one.success]
    assert all(one.state.terminal for one in results), "some task has not ended"
    assert sum(one.success for one in results) >= count * 0.999, "a task was given up for its worker's fault"
    assert [one.finished_at for one in again] == [one.finished_at for one in results], "a task ended twice"
    left, dead = asyncio.run(remains(url))
    assert left == 0
    assert len(dead) == sum(one.state is TaskState.DEAD_LETTERED for one in results)


def check_explained(server: Service, runs: Counter[str], unexplained: list[Any], outages: list[Outage]) -> None:
    """Insist that nothing ran again but for an outage."""
    # To count deliveries, tasks of a classic queue are copied when the server is back. Killed again, it may have
    # forgotten the end of the original that each worker copied last, and no other.
    copied = WORKERS * len(outages) if server.name == "rabbitmq" else 0
    assert len(unexplained) <= copied, "a task ran again for no reason"
    # Each outage may repeat a task, and such a copy.
    assert max(runs.values()) <= (1 + (copied > 0)) * (1 + len(outages))


def settled(server: Service, url: str) -> None:
    """Wait until nothing is left: a server that was killed may have forgotten acknowledgements, and sends the tasks again."""
    end, left = time.monotonic() + PATIENCE, -1
    while left:
        assert time.monotonic() < end, f"{left} messages are still there"
        time.sleep(0.2)
        with contextlib.suppress(BrokerUnreachable):
            # A server that is just back does not answer everything at once.
            left = asyncio.run(remains(url))[0] + in_hands(server)


def in_hands(server: Service) -> int:
    """How many messages a RabbitMQ has given out and not heard of again: it does not tell its clients."""
    if server.name != "rabbitmq":
        return 0
    return sum(
        map(int, rabbitmqctl(server.place, "list_queues", "messages_unacknowledged", "--no-table-headers").split())
    )


def warm_up(client: Client, fleet: Fleet) -> None:
    """Have every worker run something."""
    while len({run.pid for run in fleet.history()}) < fleet.size:
        client.collect(client.submit_many(work.call(number, 0.01) for number in range(20)), PATIENCE)
    if "amqp" in str(client.settings.broker_url):
        # A server killed right after a stream was made has lost it for good, and nothing tells when it would not.
        time.sleep(WRITTEN_DOWN)
    fleet.clear()


def kill_at(server: Service, submits: Submits, told: int, away: float) -> Outage:
    """Kill the broker when so many submits have been answered, and start it again after ``away`` seconds."""
    end = time.monotonic() + PATIENCE
    while submits.told < told or submits.handed == submits.told:
        assert time.monotonic() < end, f"only {submits.told} submits were answered in time"
        time.sleep(0.0005)
    server.kill()
    killed, under_way = time.time(), submits.handed - submits.told
    # The outage is the point: workers lose their leases in a long one.
    time.sleep(away)
    server.start()
    return Outage(under_way, killed, time.time())


def kill_under(server: Service, fleet: Fleet, begun: int) -> Outage:
    """Kill the broker when so many tasks have begun, and start it again."""
    end = time.monotonic() + PATIENCE
    while (runs := len(fleet.history())) < begun:
        assert time.monotonic() < end, f"only {runs} tasks have begun in time"
        time.sleep(0.01)
    server.kill()
    killed = time.time()
    server.start()
    return Outage(runs, killed, time.time())


def lose_answers(proxy: FaultProxy, submits: Submits, told: int) -> int:
    """Swallow answers for a moment, then cut the connection; return how many submits that concerned."""
    end = time.monotonic() + PATIENCE
    while submits.told < told:
        assert time.monotonic() < end, f"only {submits.told} submits were answered in time"
        time.sleep(0.0005)
    proxy.mute()
    # What is on its way arrives.
    time.sleep(random.uniform(0.0, 0.03))
    under_way = submits.handed - submits.told
    proxy.reset()
    proxy.heal()
    return under_way
