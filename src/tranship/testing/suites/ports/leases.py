"""Whose message it is, and for how long."""

from __future__ import annotations

import time

from tranship.driver import DriverBackend
from tranship.envelope import TaskState
from tranship.ports import Capability, Consumer, Level, Settled, Settlement, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["LeaseCases"]

_LEASE = 0.6


class LeaseCases:
    """Part of the consumer's suite."""

    @case(
        "lease_extend_keeps_owner",
        level="capability",
        needs={Capability.LEASE},
        rationale="a long task must run once, however long it is",
    )
    async def test_lease_extend_keeps_owner(self, context: CaseContext) -> None:
        """Four leases long, extended all the time: nobody else gets it, and the owner's settlement counts."""
        backend, other = await context.open(lease=1.0), await context.open(lease=1.0)
        await context.submit(backend, context.message())
        consumer = backend.consumer(["q"])
        assert consumer.lease == 1.0
        held = await context.receive(consumer)
        rival = context.start(other.consumer(["q"]).receive(1, 4.0))
        while not rival.done():
            assert list(await consumer.extend(held)) == [True]
            await context.wait_for(rival, 0.25)
        assert not (await rival).deliveries, "redelivered while its owner extended the lease"
        await context.settle(consumer, Verdict.ACK, *held)

    @case(
        "lease_expiry_without_heartbeat",
        level="capability",
        needs={Capability.LEASE},
        rationale="the task of a worker that hangs must go on elsewhere, and the worker must learn of it",
    )
    async def test_lease_expiry_without_heartbeat(self, context: CaseContext) -> None:
        """Nobody extends: after the lease, not before, somebody else has it; extending it then fails."""
        backend, other = await context.open(lease=_LEASE), await context.open(lease=_LEASE)
        ids = await context.submit(backend, context.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        started = time.monotonic()
        held = await context.receive(consumer)
        again = await context.receive(rival)
        elapsed = time.monotonic() - started
        assert ids_of(again) == ids
        assert elapsed > _LEASE * 0.8, f"redelivered after {elapsed:.2f} s of a lease of {_LEASE} s"
        # The kit settles by steps where nothing is fused: each of them begins by asking whether it is still ours.
        if backend.capabilities.has(Capability.FUSED_SETTLE) or isinstance(backend, DriverBackend):
            assert list(await consumer.extend(held)) == [False], "the first owner was told that it is still its own"
        await context.settle(rival, Verdict.ACK, *again)

    @case(
        "ack_after_lease_lost",
        level="capability",
        needs={Capability.LEASE},
        rationale="a zombie must neither remove the new owner's message nor publish its stale result",
    )
    async def test_ack_after_lease_lost(self, context: CaseContext) -> None:
        """The late settlement is LOST with everything in it; the new owner's counts."""
        backend, other = await context.open(lease=_LEASE), await context.open(lease=_LEASE)
        (task_id,) = await context.submit(backend, context.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        (late,) = await context.receive(consumer)
        (mine,) = await context.receive(rival)
        if not backend.capabilities.has(Capability.FUSED_SETTLE):
            # The core's clock keeps such a settlement away from the broker; here it must only do no harm.
            await rival.extend([mine])
            await context.settle(rival, Verdict.ACK, mine)
            await consumer.settle([Settlement(late, Verdict.ACK)])
            await context.quiet(rival, _LEASE)
            return
        await rival.extend([mine])
        stale = Settlement(late, Verdict.ACK, result=context.result(task_id, "stale"))
        assert list(await consumer.settle([stale])) == [Settled.LOST]
        (unwritten,) = await other.results().get_many([task_id])
        assert not unwritten.state.terminal, "the stale result was stored"
        fresh = context.result(task_id, "fresh")
        assert list(await rival.settle([Settlement(mine, Verdict.ACK, result=fresh)])) == [Settled.CONFIRMED]
        (stored,) = await backend.results().get_many([task_id])
        assert (stored.state, stored.document) == (TaskState.SUCCESS, fresh.document)

    @case(
        "delivery_count_increments",
        level="capability",
        needs={Capability.DELIVERY_COUNT},
        rationale="a poison message is known by how often it was delivered",
    )
    async def test_delivery_count_increments(self, context: CaseContext) -> None:
        """1, 2, 3, 4 over a nack, a lost owner and another nack; over a kill where the broker keeps counts."""
        backend, doomed = await context.open(lease=_LEASE), await context.open(lease=_LEASE)
        await context.submit(backend, context.message())
        consumer = backend.consumer(["q"])
        counts = [await _count_and_nack(context, consumer)]
        counts.append((await context.receive(doomed.consumer(["q"])))[0].delivery_count)
        if not backend.capabilities.has(Capability.LEASE):
            await doomed.aclose()
        counts.append(await _count_and_nack(context, consumer))
        said = backend.capabilities[Capability.DELIVERY_COUNT].properties
        keeps = backend.capabilities.has(Capability.DURABLE) and said.get("killed") != "forgets"
        if keeps and context.harness.can("restart"):
            await context.harness.restart()
            backend = await context.open(lease=_LEASE)
            consumer = backend.consumer(["q"])
        counts.append((await context.receive(consumer, within=20.0))[0].delivery_count)
        if said.get("kind") == "exact":
            assert counts == [1, 2, 3, 4]
        assert all(count >= number for number, count in enumerate(counts, start=1)), counts
        assert counts == sorted(set(counts)), f"{counts} does not grow with every delivery"

    @case(
        "poison_takes_no_innocents",
        level="capability",
        needs={Capability.DELIVERY_COUNT},
        rationale="a message that kills its worker must not raise the counts of those beside it",
    )
    async def test_poison_takes_no_innocents(self, context: CaseContext) -> None:
        """What was delivered twice before travels alone; the others still come."""
        backend = await context.open()
        (poison,) = await context.submit(backend, context.message())
        consumer = backend.consumer(["q"])
        for _ in range(2):
            await context.settle(consumer, Verdict.NACK, *await context.receive(consumer))
        innocents = await context.submit(backend, *context.messages(4))
        batches = [await _batch(context, consumer)]
        while len([one for batch in batches for one in batch]) < 5:
            batches.append(await _batch(context, consumer))
        assert [poison] in batches, f"{poison} did not travel alone: {batches}"
        assert sorted(one for batch in batches for one in batch) == sorted([poison, *innocents])

    @case(
        "shutdown_returns_prefetched",
        level="core",
        rationale="a deployment must not hold back for a lease what no worker has touched",
    )
    async def test_shutdown_returns_prefetched(self, context: CaseContext) -> None:
        """Released: there at once although the lease is long, in front, and not counted as failures."""
        backend, other = await context.open(lease=60), await context.open(lease=60)
        ids = await context.submit(backend, *context.messages(4))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer, 4)
        await consumer.release(held)
        await consumer.aclose()
        again = await context.receive(other.consumer(["q"]), 4)
        assert sorted(ids_of(again)) == sorted(ids)
        counting = backend.capabilities[Capability.DELIVERY_COUNT].properties.get("kind")
        most = 1 if counting == "exact" else 2
        counts = [delivery.delivery_count for delivery in again]
        assert max(counts) <= most, f"released once, delivered again with counts {counts}"
        ordered = backend.capabilities[Capability.ORDERED]
        if ordered.level is not Level.NONE and ordered.properties.get("redelivered") != "back":
            assert ids_of(again) == ids, "what was released lost its place"

    @case(
        "release_after_lease_lost",
        level="capability",
        needs={Capability.LEASE, Capability.FUSED_SETTLE},
        rationale="a zombie that shuts down must not take the task from its new owner",
    )
    async def test_release_after_lease_lost(self, context: CaseContext) -> None:
        """Released and nacked too late: the new owner keeps it, nobody else gets it."""
        backend, other = await context.open(lease=_LEASE), await context.open(lease=60)
        await context.submit(backend, context.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        late = await context.receive(consumer)
        mine = await context.receive(rival)
        await consumer.release(late)
        assert list(await consumer.settle([Settlement(late[0], Verdict.NACK)])) == [Settled.LOST]
        await consumer.aclose()
        await context.quiet(backend.consumer(["q"]), 0.3)
        assert list(await rival.extend(mine)) == [True]
        await context.settle(rival, Verdict.ACK, *mine)

    @case(
        "release_keeps_leased",
        level="capability",
        needs={Capability.LEASE},
        rationale="giving some back must not give up the one that runs",
    )
    async def test_release_keeps_leased(self, context: CaseContext) -> None:
        """One of two is released: the other stays ours."""
        backend, other = await context.open(lease=60), await context.open(lease=60)
        await context.submit(backend, *context.messages(2))
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        kept, given_back = await context.receive(consumer, 2)
        await consumer.release([given_back])
        assert ids_of(await context.receive(rival)) == ids_of([given_back])
        await context.quiet(rival, 0.3)
        assert list(await consumer.extend([kept])) == [True]
        await context.settle(consumer, Verdict.ACK, kept)


async def _count_and_nack(context: CaseContext, consumer: Consumer) -> int:
    (delivery,) = await context.receive(consumer)
    await context.settle(consumer, Verdict.NACK, delivery)
    return delivery.delivery_count


async def _batch(context: CaseContext, consumer: Consumer) -> list[str]:
    """Receive whatever comes in one batch and acknowledge it."""
    deliveries = (await consumer.receive(10, context.patience)).deliveries
    assert deliveries, "messages are missing"
    await context.settle(consumer, Verdict.ACK, *deliveries)
    return ids_of(deliveries)
