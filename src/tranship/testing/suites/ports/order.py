"""Who comes first."""

from __future__ import annotations

import random

from tranship.envelope import Priority
from tranship.ports import Capability, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["OrderCases"]


class OrderCases:
    """Part of the consumer's suite."""

    @case(
        "priority_four_levels_order",
        level="capability",
        needs={Capability.PRIORITY},
        rationale="urgent means now, whatever is queued below it",
    )
    async def test_priority_four_levels_order(self, context: CaseContext) -> None:
        """A shuffled backlog of 4 x 20 over two queues comes out by level; urgent ones overtake the rest."""
        backend = await context.open()
        if backend.capabilities[Capability.PRIORITY].properties.get("strict") == "per-broker":
            context.skip("levels are strict at each broker, not over all of them")
        backlog = [
            context.message(queue=("q", "p")[number % 2], priority=level) for level in Priority for number in range(20)
        ]
        random.shuffle(backlog)
        await context.submit(backend, *backlog)
        consumer = backend.consumer(["q", "p"])
        levels: list[Priority] = []
        while len(levels) < 80:
            deliveries = await context.receive(consumer)
            await context.settle(consumer, Verdict.ACK, *deliveries)
            levels += [delivery.priority for delivery in deliveries]
        assert levels == sorted(levels), f"out of order: {[level.label for level in levels]}"
        assert levels.count(Priority.HIGH) == 20

    @case(
        "priority_overtakes_backlog",
        level="capability",
        needs={Capability.PRIORITY},
        rationale="an urgent task that comes later must not wait behind a batch that was there first",
    )
    async def test_priority_overtakes_backlog(self, context: CaseContext) -> None:
        """Submitted last and urgent: it is the next one."""
        backend = await context.open()
        await context.submit(backend, *context.messages(10, priority=Priority.LOW))
        consumer = backend.consumer(["q"])
        await context.settle(consumer, Verdict.ACK, *await context.receive(consumer))
        urgent = await context.submit(backend, context.message(priority=Priority.HIGH))
        # What the driver holds already may come first: one message, as it was asked for one.
        two = [one for _ in range(2) for one in await context.drain(consumer, 1)]
        assert urgent[0] in two

    @case(
        "priority_no_starvation",
        level="capability",
        needs={Capability.PRIORITY, Capability.AGING},
        rationale="strict order starves the lowest level under constant load",
    )
    async def test_priority_no_starvation(self, context: CaseContext) -> None:
        """With ``aging=0.2`` a very low task gets its turn although urgent ones never end."""
        backend = await context.open(aging=0.2)
        await context.submit(backend, *context.messages(3, priority=Priority.HIGH))
        (starved,) = await context.submit(backend, context.message(priority=Priority.VERY_LOW))
        consumer = backend.consumer(["q"])

        async def served() -> bool:
            await context.submit(backend, context.message(priority=Priority.HIGH))
            return starved in await context.drain(consumer, 1)

        await context.eventually(served, "the very low task is served under constant load")

    @case(
        "fifo_within_priority",
        level="capability",
        needs={Capability.ORDERED},
        rationale="first come, first served is what people expect of a queue",
    )
    async def test_fifo_within_priority(self, context: CaseContext) -> None:
        """100 messages in several submits come in their order."""
        backend = await context.open()
        ids = [one for _ in range(10) for one in await context.submit(backend, *context.messages(10))]
        assert await context.drain(backend.consumer(["q"]), 100) == ids

    @case(
        "fifo_after_redelivery",
        level="capability",
        needs={Capability.ORDERED},
        rationale="a message that comes back keeps its place, or the backend says where it goes",
    )
    async def test_fifo_after_redelivery(self, context: CaseContext) -> None:
        """The first of four is given back: it is first again, unless ``redelivered`` says ``back``."""
        backend = await context.open()
        ids = await context.submit(backend, *context.messages(4))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer)
        assert ids_of(held) == ids[:1]
        await context.settle(consumer, Verdict.NACK, *held)
        got = await context.drain(consumer, 4)
        place = backend.capabilities[Capability.ORDERED].properties.get("redelivered", "keeps-place")
        assert got == (ids[1:] + ids[:1] if place == "back" else ids)
