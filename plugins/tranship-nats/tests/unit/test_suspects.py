"""What is fetched beside a suspect, and not tried, is not counted."""

from __future__ import annotations

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


async def test_what_comes_beside_a_suspect_again_and_again_is_not_counted_to_death(lab: CaseContext) -> None:
    """The server counts what it sends; whoever was never tried stays far below any limit."""
    backend = await lab.open()
    await lab.submit(backend, lab.message())
    consumer = backend.consumer(["q"])
    for _ in range(2):
        await consumer.release(await lab.receive(consumer))
    innocents = await lab.submit(backend, *lab.messages(4))
    counts: dict[str, int] = {}
    for _ in range(30):
        # Whatever comes goes back untouched, with everything that was fetched with it.
        taken = (await consumer.receive(5, lab.patience)).deliveries
        counts.update(zip(ids_of(taken), [one.delivery_count for one in taken], strict=True))
        await consumer.release(taken)
    assert max(counts.values()) == 3
    assert sorted(await lab.drain(consumer, 5)) == sorted({*innocents, *counts})


async def test_a_suspect_has_its_turn(lab: CaseContext) -> None:
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
