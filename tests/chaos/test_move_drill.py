"""A backlog travels over every broker there is, which are killed on the way, as is who moves it."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from chaos.conftest import LEASE, need_plugin
from chaos.fleet import spawn
from tranship import Client, Worker, task
from tranship.connections import process_table
from tranship.envelope import Envelope, Priority, Receipt, new_id
from tranship.operations import Move, MoveOptions, MoveProgress, MoveReport
from tranship.ports import Backend, EarlyConsumer, Heartbeat, Settlement, Verdict
from tranship.protocol import Encoder, decode
from tranship.registry import Registry
from tranship.retry import RetryPolicy
from tranship.settings import Settings
from tranship.testing.background import BackgroundWorker
from tranship.testing.proxy import FaultProxy
from tranship.testing.pytest_plugin import own_services
from tranship.testing.services import Service

pytestmark = [pytest.mark.slow, pytest.mark.campaign, pytest.mark.timeout(900)]

QUEUES = ("a", "b")
JOURNEYS = {
    "redis and files": ("redis", "sqlite", "redis", "sqlite"),
    "over nats": ("redis", "nats", "sqlite"),
    "over all": ("redis", "nats", "rabbitmq", "sqlite"),
}


@dataclass
class Station:
    """A broker of the journey."""

    name: str
    url: str
    server: Service | None = None
    back: threading.Timer | None = None
    """Was killed, and comes back with it."""
    used_at: float = 0.0
    """When everything was declared there."""

    async def use(self) -> None:
        """Have everything declared that is declared on first use."""
        async with opened(self.url) as backend:
            await backend.ensure(QUEUES)
            await backend.inspector().queues()
            heartbeat = Heartbeat(worker="w", host="h", pid=1, queues=(), running=(), limit=1, at=time.time())
            await backend.control().beat(replace(heartbeat, stopping=True))
        self.used_at = time.monotonic()

    def settle(self) -> None:
        """RabbitMQ loses a stream for good when it is killed within seconds of its making, and nothing tells when
        that is over: a server that is killed in production is older.
        """
        if self.name == "rabbitmq":
            time.sleep(max(0.0, self.used_at + 10.0 - time.monotonic()))

    def kill(self) -> None:
        """Kill it, and have it come back in a while."""
        assert self.server is not None
        self.server.kill()
        self.back = threading.Timer(random.uniform(0.2, 1.5), self.server.start)
        self.back.start()


@pytest.fixture
def stations(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Station]]:
    """The brokers of a journey, the servers among them ours to kill."""
    with own_services() as start:

        def server(kind: str) -> Service:
            need_plugin(kind)
            return start(kind)

        def station(kind: str, number: int) -> Station:
            name = f"move-{uuid.uuid4().hex[:12]}"
            if kind == "sqlite":
                return Station(kind, f"sqlite:///{tmp_path}/{number}.db?lease={LEASE:g}")
            service = server(kind)
            # Where the lease is the connection there is none to choose.
            lease = "" if kind == "rabbitmq" else f"lease={LEASE:g}&"
            return Station(kind, f"{service.url}{'&' if '?' in service.url else '?'}{lease}namespace={name}", service)

        yield [station(kind, number) for number, kind in enumerate(request.param)]


@pytest.mark.parametrize("stations", JOURNEYS.values(), ids=JOURNEYS.keys(), indirect=True)
def test_a_journey(stations: list[Station], tell: Callable[[str], None], scale: int) -> None:
    count = 20_000 if scale > 1 else 4_000
    for station in stations:
        asyncio.run(station.use())
    delayed = all(asyncio.run(gives_early(one.url)) for one in stations)
    sent = list(backlog(count, delayed=delayed))
    asyncio.run(put(stations[0].url, sent))
    for source, target in pairwise(stations):
        tell(leg(source, target, count))
    found = asyncio.run(everything(stations[-1].url))
    copies = Counter(one.id for one in found)
    tell(
        f"{len(copies)} of {count} arrived over {len(stations) - 1} legs, {copies.total() - len(copies)} of them twice"
    )
    assert copies.keys() == {one.id for one in sent}, "a message was lost"
    unlike = [one for one in found if as_read(one) != as_read(by_id(sent)[one.id])]
    assert not unlike, f"{len(unlike)} are not what they were: {unlike[0]} was {by_id(sent)[unlike[0].id]}"
    # The last one tells what it has: nothing can be there twice.
    assert copies.total() == len(copies)


def leg(source: Station, target: Station, count: int) -> str:
    """Move everything: killed itself once, with the target killed once where that is a server."""
    target.settle()
    after, millis = random.randrange(1, count // 8), random.uniform(0.0, 40.0)
    mover = spawn("chaos.mover", source.url, target.url, str(after), str(millis))
    code = mover.wait(120)
    assert code in (-signal.SIGKILL, 0), f"the first move ended with {code}"
    report = asyncio.run(move_on(source, target))
    if target.server is not None:
        assert target.back is not None, "it was over before the target was killed"
        target.back.join()
    assert report.error is None, report.error
    assert report.left == 0, report
    assert report.refused == 0, report.refusals[:3]
    killed = f"killed after {after} and {millis:.0f} ms" if code else "not killed in time"
    return (
        f"{source.name} to {target.name}: a move {killed}; the next one {'with the target killed' if target.back else 'undisturbed'}: "
        f"{report.moved} moved, {report.already_there} there already, {report.repeated} perhaps twice, "
        f"{report.contested} contested, {report.seconds:.1f} s"
    )


async def move_on(source: Station, target: Station) -> MoveReport:
    """Move what is left, and kill the target on the way."""
    loop = asyncio.get_running_loop()

    def watch(_told: MoveProgress) -> None:
        if target.server is not None and not armed:
            armed.append(loop.call_later(random.uniform(0.0, 0.02), target.kill))

    armed: list[asyncio.TimerHandle] = []
    options = MoveOptions(patience=60.0)
    return await Move(settings(source.url), settings(target.url), options, watcher=watch).run()


def backlog(count: int, *, delayed: bool) -> Iterator[Envelope]:
    """Envelopes of many kinds; whole seconds, as every broker can write them."""
    now = float(int(time.time()))
    for number in range(count):
        yield Envelope(
            id=new_id(),
            task=f"move.{number % 3}",
            args=[number, "ü"],
            kwargs={"nested": {"list": [1, None, 2.5]}},
            queue=QUEUES[number % 2],
            priority=Priority(number % 4),
            deadline=now + 7200 if number % 5 == 0 else None,
            cancel_key=f"job-{number % 10}" if number % 7 == 0 else None,
            not_before=now + 3600 if delayed and number % 9 == 0 else None,
            dedup_key=f"key-{number}" if number % 11 == 0 else None,
            retry=RetryPolicy(max_attempts=4) if number % 6 == 0 else None,
            attempt=number % 3,
            headers={"traceparent": f"00-{number}", "x-own": {"deep": [number]}} if number % 4 == 0 else {},
            reply_to=f"client-{number}" if number % 8 == 0 else None,
            content_type="application/x-msgpack" if number % 2 else "application/json",
        )


class TestTrouble:
    """Source and target are away, or lose what they were about to say, again and again."""

    @pytest.mark.parametrize("stations", [("redis", "sqlite"), ("nats", "sqlite")], ids="-".join, indirect=True)
    def test_the_source_is_killed(self, stations: list[Station], tell: Callable[[str], None], scale: int) -> None:
        count = 20_000 if scale > 1 else 4_000
        source, target = stations
        sent = list(backlog(count, delayed=False))
        asyncio.run(source.use())
        asyncio.run(put(source.url, sent))
        armed: list[bool] = []

        def watch(told: MoveProgress) -> None:
            if not armed and told.moved > 0:
                armed.append(True)
                asyncio.get_running_loop().call_later(random.uniform(0.0, 0.02), source.kill)

        report = asyncio.run(Move(settings(source.url), settings(target.url), watcher=watch).run())
        assert source.back is not None
        source.back.join()
        tell(
            f"{report.moved} moved, {report.already_there} there already, {report.contested} contested, "
            f"{report.reappeared} reappeared: {report.error}"
        )
        assert report.error is None
        if source.name != "nats":
            # A NATS 2.9 that is killed may keep messages that were removed, and count them, and deliver them to nobody.
            assert (report.left, report.by_others) == (0, 0)
        found = asyncio.run(everything(target.url))
        assert sorted(one.id for one in found) == sorted(one.id for one in sent)

    @pytest.mark.parametrize("stations", [("sqlite", "redis"), ("sqlite", "nats")], ids="-".join, indirect=True)
    def test_answers_are_lost(self, stations: list[Station], tell: Callable[[str], None], scale: int) -> None:
        count = 20_000 if scale > 1 else 4_000
        source, target = stations
        sent = list(backlog(count, delayed=True))
        asyncio.run(put(source.url, sent))
        parts = urlsplit(target.url)
        cuts: list[int] = []

        with FaultProxy(parts.hostname or "", parts.port or 0) as proxy:

            def cut() -> None:
                proxy.reset()
                proxy.heal()

            def watch(told: MoveProgress) -> None:
                if not told.note and len(cuts) < 5:
                    cuts.append(told.moved)
                    # Swallowed from now on: what is under way is done, and nobody hears of it.
                    proxy.mute()
                    asyncio.get_running_loop().call_later(random.uniform(0.01, 0.1), cut)

            report = asyncio.run(Move(settings(source.url), settings(proxy.url_for(target.url)), watcher=watch).run())
        tell(f"{len(cuts)} cuts: {report.moved} moved, {report.already_there} there already: {report.error}")
        assert len(cuts) == 5
        assert report.error is None
        assert (report.moved, report.left, report.by_others, report.repeated) == (count, 0, 0, 0)
        found = asyncio.run(everything(target.url))
        assert sorted(one.id for one in found) == sorted(one.id for one in sent)


class TestWhileOthersWork:
    """The clients go on submitting, the workers of both brokers go on working, and everybody gets the result."""

    @pytest.mark.parametrize("stations", [("redis", "sqlite"), ("sqlite", "redis")], ids="-".join, indirect=True)
    def test_every_result_comes(
        self, stations: list[Station], tmp_path: Path, tell: Callable[[str], None], scale: int
    ) -> None:
        count = 3000 * scale
        source, target = (one.url for one in stations)
        store = f"sqlite:///{tmp_path}/results.db"
        ran: Counter[str] = Counter()

        @task(name="move.work", queue="a")
        async def work(number: int) -> int:
            ran[str(number)] += 1
            await asyncio.sleep(0.002)
            return number

        def worker(url: str) -> BackgroundWorker:
            return BackgroundWorker(Worker(url, result_url=store, tasks=[work], max_concurrent_tasks=4))

        with Client(source, result_url=store) as client, worker(source), worker(target):
            handles = client.submit_many(work.call(number) for number in range(count // 2))
            reports = []
            mover = threading.Thread(target=lambda: reports.append(run(source, target, linger=0.0)))
            mover.start()
            handles += client.submit_many(work.call(number) for number in range(count // 2, count))
            results = client.collect(handles, 120.0)
            mover.join(60.0)
        (report,) = reports
        tell(
            f"{report.moved} of {count} moved while workers took others at the source ({report.by_others}), "
            f"{report.contested} contested, {ran.total() - len(ran)} ran twice"
        )
        assert report.error is None
        assert report.moved > 0
        assert [one.value for one in results] == list(range(count))
        assert ran.total() - len(ran) <= report.contested + report.repeated


def run(source: str, target: str, **options: Any) -> MoveReport:
    return asyncio.run(Move(settings(source), settings(target), MoveOptions(**options)).run())


def settings(url: str) -> Settings:
    return Settings.load({}, broker_url=url)


@asynccontextmanager
async def opened(url: str) -> Any:
    backend: Backend = Registry().create(url, shared=process_table().shared)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.aclose()


async def gives_early(url: str) -> bool:
    """Whether what is not due can be taken out of the broker."""
    async with opened(url) as backend:
        consumer = backend.consumer(QUEUES)
        await consumer.aclose()
        return isinstance(consumer, EarlyConsumer)


async def put(url: str, envelopes: Sequence[Envelope]) -> None:
    encoder = Encoder()
    async with opened(url) as backend:
        await backend.ensure(QUEUES)
        for start in range(0, len(envelopes), 1000):
            answers = await backend.submitter().submit([encoder.encode(one) for one in envelopes[start : start + 1000]])
            assert all(isinstance(answer, Receipt) for answer in answers)


async def everything(url: str) -> list[Envelope]:
    """Take all there is, due or not."""
    found: list[Envelope] = []
    async with opened(url) as backend:
        consumer = backend.consumer(QUEUES)
        while True:
            deliveries = list((await consumer.receive(500, 0.5)).deliveries)
            if not deliveries and isinstance(consumer, EarlyConsumer):
                deliveries = list((await consumer.receive_early(500)).deliveries)
            if not deliveries:
                return found
            found += [decode(one.message, queue=one.queue, priority=one.priority) for one in deliveries]
            await consumer.settle([Settlement(one, Verdict.ACK) for one in deliveries])


def by_id(envelopes: Sequence[Envelope]) -> dict[str, Envelope]:
    return {one.id: one for one in envelopes}


def as_read(one: Envelope) -> Envelope:
    return replace(one, args=list(one.args), headers=dict(one.headers))
