"""Not before its time, not twice, not lost."""

from __future__ import annotations

import time

from tranship.envelope import TaskState
from tranship.ports import Backend, Capability, Tombstone, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["DelayCases"]


class DelayCases:
    """Part of the submitter's suite; all about messages with a ``not_before``."""

    @case(
        "delay_not_early",
        level="capability",
        needs={Capability.DELAY},
        rationale="a reminder that comes early is wrong; one that wakes nobody is late",
    )
    async def test_delay_not_early(self, context: CaseContext) -> None:
        """Delivered to a consumer that waits, not before its time, and soon after it."""
        backend = await context.open()
        resolution = float(backend.capabilities[Capability.DELAY].properties.get("resolution", 1.0))
        began = time.time()
        await context.submit(backend, context.message(queue="p", not_before=began + 0.1))
        # The first one may have a schedule built for it. On a busy machine the next ones take their time, too.
        due = time.time() + max(1.0, 2 * resolution, 2 * (time.time() - began))
        consumer = backend.consumer(["q"])
        later = await context.submit(backend, context.message(not_before=due))
        now = await context.submit(backend, context.message())
        assert await context.drain(consumer, 1) == now
        assert ids_of(await context.receive(consumer)) == later
        early = due - time.time()
        assert early <= resolution, f"delivered {early:.3f} s early; the resolution is {resolution} s"
        assert -early < context.patience / 2 + resolution, f"delivered {-early:.3f} s late"

    @case(
        "nack_delay",
        level="capability",
        needs={Capability.DELAY},
        rationale="a retry with backoff must wait, and must not run beside its first attempt",
    )
    async def test_nack_delay(self, context: CaseContext) -> None:
        """REPLACE: the original goes, the next attempt comes at its time, once."""
        backend = await context.open()
        (task_id,) = await context.submit(backend, context.message(args=(1,)))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer)
        due = time.time() + 1.0
        replacement = context.message(id=task_id, attempt=1, not_before=due)
        await context.settle(consumer, Verdict.REPLACE, *held, replacement=replacement)
        again = await context.receive(consumer)
        resolution = float(backend.capabilities[Capability.DELAY].properties.get("resolution", 1.0))
        assert due - time.time() <= resolution, "the next attempt came before its time"
        assert ids_of(again) == [task_id]
        assert again[0].message.body == replacement.body
        await context.settle(consumer, Verdict.ACK, *again)
        await context.quiet(consumer, 0.3)

    @case(
        "delay_survives_restart",
        level="capability",
        needs={Capability.DELAY, Capability.DURABLE},
        rationale="a timer kept in a process is lost with it",
    )
    async def test_delay_survives_restart(self, context: CaseContext) -> None:
        """Everybody leaves, the broker restarts where the harness can do that; the message comes."""
        backend = await context.open()
        due = time.time() + 1.5
        ids = await context.submit(backend, context.message(not_before=due))
        await backend.aclose()
        if context.harness.can("restart"):
            await context.harness.restart()
        backend = await context.open()
        assert ids_of(await context.receive(backend.consumer(["q"]), within=20.0)) == ids
        resolution = float(backend.capabilities[Capability.DELAY].properties.get("resolution", 1.0))
        assert due - time.time() <= resolution

    @case(
        "delay_longer_than_lease",
        level="capability",
        needs={Capability.DELAY, Capability.LEASE},
        rationale="a delay held as a lease runs the task once per lease (kombu#337)",
    )
    async def test_delay_longer_than_lease(self, context: CaseContext) -> None:
        """A delay of several leases: one delivery, counted once."""
        backend = await context.open(lease=0.5)
        ids = await context.submit(backend, context.message(not_before=time.time() + 1.8))
        consumer = backend.consumer(["q"])
        deliveries = await context.receive(consumer)
        assert ids_of(deliveries) == ids
        await context.settle(consumer, Verdict.ACK, *deliveries)
        if backend.capabilities.has(Capability.DELIVERY_COUNT):
            assert deliveries[0].delivery_count == 1
        await context.quiet(consumer, 0.8)

    @case(
        "delay_cancelled_before_due",
        level="capability",
        needs={Capability.DELAY_CANCEL, Capability.CONTROL, Capability.RESULTS},
        rationale="a cancelled reminder must not keep its caller waiting until it is due",
    )
    async def test_delay_cancelled_before_due(self, context: CaseContext) -> None:
        """Cancelled an hour before its time: removed at once, with its result."""
        backend = await context.open()
        (doomed,) = await context.submit(backend, context.message(not_before=time.time() + 3600))
        report = await backend.control().cancel([Tombstone(kind="id", value=doomed, expires=time.time() + 60)])
        assert list(report.removed) == [doomed]
        (stored,) = await backend.results().get_many([doomed])
        assert stored.state is TaskState.CANCELLED

    @case(
        "many_delayed_same_due",
        level="capability",
        needs={Capability.DELAY},
        rationale="a thousand due at midnight are a thousand, not one page of them",
    )
    async def test_many_delayed_same_due(self, context: CaseContext) -> None:
        """A thousand at one instant (:attr:`~tranship.testing.harness.Harness.many`), each once, whoever moves them."""
        backend, other = await context.open(), await context.open()
        due = time.time() + 1.5
        ids = await context.submit(backend, *context.messages(context.harness.many, not_before=due))
        deliveries = await _collect(context, [backend, other], len(ids))
        assert sorted(deliveries) == sorted(ids)
        await context.quiet(backend.consumer(["q"]), 0.2)


async def _collect(context: CaseContext, backends: list[Backend], count: int) -> list[str]:
    """Acknowledge ``count`` messages through several consumers at once."""
    consumers = [backend.consumer(["q"]) for backend in backends]
    got: list[str] = []
    end = time.monotonic() + 20.0
    while len(got) < count:
        assert time.monotonic() < end, f"{len(got)} of {count} came"
        for consumer in consumers:
            deliveries = (await consumer.receive(100, 0.1)).deliveries
            await context.settle(consumer, Verdict.ACK, *deliveries)
            got += ids_of(deliveries)
    for consumer in consumers:
        await consumer.aclose()
    return got
