"""What is fetched beside a suspect, and not tried, is not counted."""

from __future__ import annotations

import asyncio

import pytest

from tranship.ports import Delivery, Verdict
from tranship.testing.context import CaseContext, ids_of

pytestmark = pytest.mark.timeout(60)


async def test_what_a_suspect_would_take_along_is_not_counted(lab: CaseContext) -> None:
    backend = await lab.open()
    ids = await lab.submit(backend, *lab.messages(5))
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer, 5))
    # Any of them may be what kills: they come one by one, whoever asks for many, and each in its third delivery.
    held: list[Delivery] = []
    while len(held) < 5:
        (suspect,) = (await consumer.receive(10, lab.patience)).deliveries
        held.append(suspect)
        # The others are there for everybody.
        (info,) = await backend.inspector().queues()
        assert (sum(info.ready.values()), info.in_flight) == (5 - len(held), len(held))
    assert sorted(ids_of(held)) == sorted(ids)
    assert [one.delivery_count for one in held] == [3] * 5
    await lab.settle(consumer, Verdict.ACK, *held)


async def test_copies_are_dropped_from_what_takes_their_place(lab: CaseContext) -> None:
    """How often a copy was tried is not said of a dead letter that is replayed."""
    backend = await lab.open()
    await lab.submit(backend, *lab.messages(2))
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer, 2))
    (first,) = await lab.receive(consumer)
    await lab.settle(consumer, Verdict.ACK, first)
    (copy,) = await lab.receive(consumer)
    assert copy.delivery_count == 3
    await lab.settle(consumer, Verdict.REJECT, copy, reason="test")
    (letter,) = await backend.inspector().dead()
    assert letter.deliveries == 3
    await backend.inspector().dead_replay([letter.id])
    (again,) = await lab.receive(consumer)
    assert again.delivery_count == 1


async def test_a_suspect_that_nobody_takes_goes_back_uncounted(lab: CaseContext) -> None:
    """Its worker has no room: somebody else gets it, and it does not count that it was here."""
    backend, other = await lab.open(lease=1.5), await lab.open(lease=1.5)
    await lab.submit(backend, lab.message())
    consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer))
    fresh = await lab.submit(backend, lab.message())
    # The fresh one goes first, the suspect waits here; and then nobody asks.
    assert ids_of((await consumer.receive(10, lab.patience)).deliveries) == fresh
    (suspect,) = await lab.receive(rival)
    assert ids_of([suspect]) != fresh
    assert suspect.delivery_count == 3
    await lab.settle(rival, Verdict.ACK, suspect)


async def test_a_suspect_waits_for_a_third_of_its_lease_at_most(lab: CaseContext) -> None:
    backend = await lab.open(lease=1.5)
    first = await lab.submit(backend, lab.message())
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer))
    turns: list[list[str]] = []
    while first not in turns:
        # However much else there is to do.
        await lab.submit(backend, *lab.messages(3))
        taken = (await consumer.receive(2, lab.patience)).deliveries
        await lab.settle(consumer, Verdict.ACK, *taken)
        turns.append(ids_of(taken))
        assert len(turns) < 1000
    assert taken[0].delivery_count == 3


async def test_a_suspect_is_not_lost_with_a_receive_that_is_cancelled(lab: CaseContext) -> None:
    """While what was fetched beside it goes back; it came after its lease then."""
    backend = await lab.open(lease=60)
    (suspect,) = await lab.submit(backend, lab.message())
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer))
    (other,) = await lab.submit(backend, lab.message())
    box = consumer._box  # type: ignore[attr-defined]
    box.watched = True
    await consumer._sweeper.sweep(consumer._pairs, 5)  # type: ignore[attr-defined]
    assert len(box) == 2
    for one in box._taken:
        one.at -= 21.0  # more than a third of its lease: the suspect's turn
    sparing, begun = box._sparing.spare, asyncio.Event()

    async def spare(taken: list[object]) -> None:
        begun.set()
        await sparing(taken)

    box._sparing.spare = spare
    taking = lab.start(box.take(2, ()))
    await asyncio.wait_for(begun.wait(), 5)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    box.watched = False
    assert sorted(await lab.drain(consumer, 2)) == sorted([suspect, other])
