"""What a killed server gets wrong is put right, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from nats_kit import connected

from tranship.ports import Backend, QueueInfo, Verdict
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.facades import in_thread
from tranship.testing.services import Service, ask_nats

pytestmark = pytest.mark.timeout(120)


async def test_what_was_acknowledged_before_a_kill_is_not_counted(lab: CaseContext, nats_service: Service) -> None:
    if not nats_service.controllable:
        pytest.skip("it is not ours to kill")
    backend = await lab.open(lease=2)
    for _ in range(2):
        await lab.submit(backend, *lab.messages(300))
        consumer = backend.consumer(["q"])
        # As a busy worker: some are acknowledged, some in hand.
        for _ in range(10):
            held = await lab.receive(consumer, 20)
            await lab.settle(consumer, Verdict.ACK, *held[10:], *held[:8])
        # The time in which acknowledgements are written down, and what they remove is not.
        await lab.pass_time(0.4)
        await in_thread(nats_service.kill)
        await in_thread(nats_service.start)
        backend = await lab.open(lease=2)
        consumer = backend.consumer(["q"])
        # What the server has forgotten altogether comes again.
        while deliveries := (await consumer.receive(100, 2.5)).deliveries:
            await lab.settle(consumer, Verdict.ACK, *deliveries)
        assert [info for info in await backend.inspector().queues() if any(info.ready.values()) or info.in_flight] == []
        stored = ask_nats(nats_service.place, "jsz?streams=1")["account_details"][0]["stream_detail"]
        (work,) = (one for one in stored if one["name"] == f"tranship-{lab.namespace}-work")
        assert work["state"]["messages"] == 0


Ask = Callable[..., Any]


@pytest.fixture
def ask(lab: CaseContext) -> Ask:
    """Ask JetStream something over a backend's connection."""

    async def ask(backend: Backend, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await connected(backend).js.call(verb, body)
        return answer

    return ask


async def counted(backend: Backend) -> QueueInfo:
    (info,) = await backend.inspector().queues()
    return info


async def leave_behind(lab: CaseContext, ask: Ask, backend: Backend, *, limit_stays: bool = False) -> None:
    """Leave a message behind that is stored and will never be delivered: its consumer had a limit for a while."""
    stream = f"tranship-{lab.namespace}-work"
    await lab.submit(backend, lab.message())
    await backend.ensure(["q"])
    config = (await ask(backend, f"CONSUMER.INFO.{stream}.q-1", {}))["config"]

    async def limit(deliveries: int) -> None:
        body = {"stream_name": stream, "config": {**config, "max_deliver": deliveries}}
        await ask(backend, f"CONSUMER.DURABLE.CREATE.{stream}.q-1", body)

    await limit(1)
    consumer = backend.consumer(["q"])
    await consumer.release(await lab.receive(consumer))
    await lab.quiet(consumer, 0.2)
    await consumer.aclose()
    if not limit_stays:
        await limit(-1)


async def test_a_leftover_is_deleted_by_whoever_comes_next(lab: CaseContext, ask: Ask) -> None:
    await leave_behind(lab, ask, await lab.open())
    later = await lab.open()
    await lab.submit(later, lab.message())
    assert sum((await counted(later)).ready.values()) == 1
    consumer = later.consumer(["q"])
    await lab.drain(consumer, 1)


async def test_a_worker_deletes_leftovers_by_itself(lab: CaseContext, ask: Ask) -> None:
    await leave_behind(lab, ask, await lab.open())
    worker = await lab.open()
    consumer = worker.consumer(["q"])
    await lab.quiet(consumer, 0.1)
    stream = f"tranship-{lab.namespace}-work"

    async def gone() -> bool:
        return bool((await ask(worker, f"STREAM.INFO.{stream}", {}))["state"]["messages"] == 0)

    await lab.eventually(gone, "the leftover is deleted")


async def test_what_came_after_we_connected_is_no_leftover(
    lab: CaseContext, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """A power cut may leave a consumer ahead of its stream: nothing that was submitted since is deleted."""
    backend = await lab.open()
    await leave_behind(lab, ask, backend)
    assert sum((await counted(backend)).ready.values()) == 1
    assert "has lost the end of the stream" in caplog.text


async def test_what_a_limit_of_somebodys_own_left_behind_stays(lab: CaseContext, ask: Ask) -> None:
    await leave_behind(lab, ask, await lab.open(), limit_stays=True)
    later = await lab.open()
    assert sum((await counted(later)).ready.values()) == 1


async def test_what_is_gone_is_in_nobodys_hands(lab: CaseContext, ask: Ask) -> None:
    """A debt ends, and what is really in somebody's hands beside it does not."""
    backend = await lab.open()
    consumer = backend.consumer(["q"])
    await lab.submit(backend, *lab.messages(5))
    gone, ours, _ = await lab.receive(consumer, 3)
    stream = f"tranship-{lab.namespace}-work"
    await ask(backend, f"STREAM.MSG.DELETE.{stream}", {"seq": gone.token.told.seq, "no_erase": True})
    later = await lab.open()
    info = await counted(later)
    assert (sum(info.ready.values()), info.in_flight) == (2, 2)
    assert all(await consumer.extend([ours]))
    await consumer.release([ours])
    assert ids_of(await lab.receive(later.consumer(["q"]), 1)) == ids_of([ours])
