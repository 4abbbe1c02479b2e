"""The kit's faults do what they say and nothing else."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from patience import until

from tranship import ports
from tranship.envelope import Envelope, Receipt, new_id
from tranship.errors import BrokerUnreachable, ClosedError, InvalidOptionError, StorageFull, SubmitUnknown
from tranship.protocol import Encoder
from tranship.testing.case import cases_of, run_case
from tranship.testing.facade_context import facade_case, worker_case
from tranship.testing.facades import raised
from tranship.testing.faults import VERBS, Faults, FaultyRegistry
from tranship.testing.harness import Harness


def message(number=0):
    return Encoder().encode(Envelope(id=new_id(), task="unit.task", queue="q", args=(number,)))


@pytest.fixture
async def faulty():
    faults = Faults()
    backend = faults.wrap(Harness("memory://").make_backend("memory://"))
    await backend.open()
    yield faults, backend
    await backend.aclose()


async def queued(backend) -> int:
    return sum(sum(queue.ready.values()) for queue in await backend.inspector().queues())


async def test_without_faults_it_is_the_real_thing(faulty):
    faults, backend = faulty
    one = message()
    assert await backend.submitter().submit([one]) == [Receipt(one.envelope.id)]
    (delivery,) = (await backend.consumer(["q"]).receive(1, 0)).deliveries
    assert delivery.delivery_count == 1
    assert backend.name == "memory"
    assert faults.calls == {"open": 1, "submit": 1, "receive": 1}


@pytest.mark.parametrize(("after", "stored"), [(False, 0), (True, 1)])
async def test_a_failure_comes_before_or_after(faulty, after, stored):
    faults, backend = faulty
    faults.fail("submit", SubmitUnknown, after=after)
    await raised(backend.submitter().submit([message()]), SubmitUnknown)
    assert await queued(backend) == stored
    await backend.submitter().submit([message()])
    assert await queued(backend) == stored + 1
    assert faults.hit["submit"] == 1


async def test_failures_come_in_order_and_as_often_as_asked(faulty):
    faults, backend = faulty
    faults.fail("ping", BrokerUnreachable, times=2)
    faults.fail("ping", StorageFull)
    for kind in (BrokerUnreachable, BrokerUnreachable, StorageFull):
        await raised(backend.ping(), kind)
    await backend.ping()
    faults.fail("ping", BrokerUnreachable, times=-1)
    for _ in range(3):
        await raised(backend.ping(), BrokerUnreachable)
    faults.clear("ping")
    await backend.ping()


@pytest.mark.parametrize(("after", "stored"), [(False, 0), (True, 1)])
async def test_a_stalled_call_goes_on_when_released(faulty, after, stored):
    faults, backend = faulty
    faults.stall("submit", after=after)
    hanging = asyncio.ensure_future(backend.submitter().submit([message()]))
    await until(lambda: faults.hit["submit"])
    await backend.ping()
    assert await queued(backend) == stored
    assert not hanging.done()
    faults.release("submit")
    await asyncio.wait_for(hanging, 5)
    assert await queued(backend) == 1


async def test_closing_a_consumer_ends_what_hangs_there(faulty):
    faults, backend = faulty
    faults.stall("receive")
    consumer = backend.consumer(["q"])
    hanging = asyncio.ensure_future(consumer.receive(1, 1))
    await until(lambda: faults.hit["receive"])
    await consumer.aclose()
    await raised(asyncio.wait_for(hanging, 5), ClosedError)


async def test_closing_a_backend_ends_whatever_hangs(faulty):
    faults, backend = faulty
    faults.stall("receive")
    faults.stall("submit")
    hanging = [
        asyncio.ensure_future(backend.consumer(["q"]).receive(1, 1)),
        asyncio.ensure_future(backend.submitter().submit([message()])),
    ]
    await until(lambda: faults.hit["receive"] and faults.hit["submit"])
    await backend.aclose()
    for one in hanging:
        await raised(asyncio.wait_for(one, 5), ClosedError)


async def test_some_messages_are_refused_and_the_others_stored(faulty):
    faults, backend = faulty
    faults.refused = lambda one: StorageFull("full") if one.envelope.args[0] % 2 else None
    batch = [message(number) for number in range(4)]
    answers = await backend.submitter().submit(batch)
    assert [type(answer) for answer in answers] == [Receipt, StorageFull, Receipt, StorageFull]
    assert answers[2] == Receipt(batch[2].envelope.id)
    assert await queued(backend) == 2


def test_unknown_verbs_are_refused():
    with pytest.raises(InvalidOptionError, match="sumbit"):
        Faults().fail("sumbit")


def test_the_verbs_are_those_of_the_ports():
    needed = (ports.Backend, ports.Submitter, ports.Consumer, ports.ResultStore, ports.ControlChannel, ports.Inspector)
    kinds = (*needed, ports.NameKeeper, ports.IdKeeper)
    methods = {name for kind in kinds for name, one in vars(kind).items() if inspect.iscoroutinefunction(one)}
    assert methods - {"aclose"} == VERBS


async def test_a_registry_wraps_what_it_opens():
    faults = Faults()
    backend = FaultyRegistry(Harness("memory://").make_backend, faults).create("memory://")
    faults.fail("open")
    await raised(backend.open(), BrokerUnreachable)
    await backend.open()
    await backend.aclose()


def test_a_facade_case_is_two_cases_and_a_worker_case_one():
    ran = []

    class Mine:
        @facade_case("both", level="core", rationale="for this test")
        async def test_both(self, facade):
            ran.append((await facade.client()).blocking)

        @facade_case("one", level="core", rationale="for this test", kinds=["blocking"])
        async def test_one(self, facade): ...

        @worker_case("work", level="core", rationale="for this test")
        async def test_work(self, facade):
            raise AssertionError("it fails")

    cases = sorted(cases_of(Mine), key=lambda case: case.id)
    assert [case.id for case in cases] == ["both[async]", "both[blocking]", "one[blocking]", "work"]
    assert not hasattr(Mine, "test_both")
    reports = [run_case(case, Harness("memory://")) for case in cases]
    assert [report.outcome for report in reports] == ["passed", "passed", "passed", "failed"]
    assert ran == [False, True]


def test_a_facade_case_is_named_after_its_method():
    with pytest.raises(ValueError, match="name it 'test_right'"):

        @facade_case("right", level="core", rationale="for this test")
        async def test_wrong(self, facade): ...
