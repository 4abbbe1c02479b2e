"""Whose message it is, and for how long."""

from __future__ import annotations

import time

from tranship.envelope import TaskState
from tranship.ports import Capability, Consumer, Level, Settled, Settlement, Verdict
from tranship.testing.case import case
from tranship.testing.lab import Lab, ids_of

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
    async def test_lease_extend_keeps_owner(self, lab: Lab) -> None:
        """Four leases long, extended all the time: nobody else gets it, and the owner's settlement counts."""
        backend, other = await lab.open(lease=1.0), await lab.open(lease=1.0)
        await lab.submit(backend, lab.message())
        consumer = backend.consumer(["q"])
        assert consumer.lease == 1.0
        held = await lab.receive(consumer)
        rival = lab.start(other.consumer(["q"]).receive(1, 4.0))
        while not rival.done():
            assert list(await consumer.extend(held)) == [True]
            await lab.wait_for(rival, 0.25)
        assert not (await rival).deliveries, "redelivered while its owner extended the lease"
        await lab.settle(consumer, Verdict.ACK, *held)

    @case(
        "lease_expiry_without_heartbeat",
        level="capability",
        needs={Capability.LEASE},
        rationale="the task of a worker that hangs must go on elsewhere, and the worker must learn of it",
    )
    async def test_lease_expiry_without_heartbeat(self, lab: Lab) -> None:
        """Nobody extends: after the lease, not before, somebody else has it; extending it then fails."""
        backend, other = await lab.open(lease=_LEASE), await lab.open(lease=_LEASE)
        ids = await lab.submit(backend, lab.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        started = time.monotonic()
        held = await lab.receive(consumer)
        again = await lab.receive(rival)
        elapsed = time.monotonic() - started
        assert ids_of(again) == ids
        assert elapsed > _LEASE * 0.8, f"redelivered after {elapsed:.2f} s of a lease of {_LEASE} s"
        if backend.capabilities.has(Capability.FUSED_SETTLE):
            assert list(await consumer.extend(held)) == [False], "the first owner was told that it is still its own"
        await lab.settle(rival, Verdict.ACK, *again)

    @case(
        "ack_after_lease_lost",
        level="capability",
        needs={Capability.LEASE},
        rationale="a zombie must neither remove the new owner's message nor publish its stale result",
    )
    async def test_ack_after_lease_lost(self, lab: Lab) -> None:
        """The late settlement is LOST with everything in it; the new owner's counts."""
        backend, other = await lab.open(lease=_LEASE), await lab.open(lease=_LEASE)
        (task_id,) = await lab.submit(backend, lab.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        (late,) = await lab.receive(consumer)
        (mine,) = await lab.receive(rival)
        if not backend.capabilities.has(Capability.FUSED_SETTLE):
            # The core's clock keeps such a settlement away from the broker; here it must only do no harm.
            await rival.extend([mine])
            await lab.settle(rival, Verdict.ACK, mine)
            await consumer.settle([Settlement(late, Verdict.ACK)])
            await lab.quiet(rival, _LEASE)
            return
        await rival.extend([mine])
        stale = Settlement(late, Verdict.ACK, result=lab.result(task_id, "stale"))
        assert list(await consumer.settle([stale])) == [Settled.LOST]
        (unwritten,) = await other.results().get_many([task_id])
        assert not unwritten.state.terminal, "the stale result was stored"
        fresh = lab.result(task_id, "fresh")
        assert list(await rival.settle([Settlement(mine, Verdict.ACK, result=fresh)])) == [Settled.CONFIRMED]
        (stored,) = await backend.results().get_many([task_id])
        assert (stored.state, stored.document) == (TaskState.SUCCESS, fresh.document)

    @case(
        "delivery_count_increments",
        level="capability",
        needs={Capability.DELIVERY_COUNT},
        rationale="a poison message is known by how often it was delivered",
    )
    async def test_delivery_count_increments(self, lab: Lab) -> None:
        """1, 2, 3, 4 over a nack, a lost owner and another nack; over a kill where the broker keeps counts."""
        backend, doomed = await lab.open(lease=_LEASE), await lab.open(lease=_LEASE)
        await lab.submit(backend, lab.message())
        consumer = backend.consumer(["q"])
        counts = [await _count_and_nack(lab, consumer)]
        counts.append((await lab.receive(doomed.consumer(["q"])))[0].delivery_count)
        if not backend.capabilities.has(Capability.LEASE):
            await doomed.aclose()
        counts.append(await _count_and_nack(lab, consumer))
        said = backend.capabilities[Capability.DELIVERY_COUNT].properties
        keeps = backend.capabilities.has(Capability.DURABLE) and said.get("killed") != "forgets"
        if keeps and lab.harness.can("restart"):
            await lab.harness.restart()
            backend = await lab.open(lease=_LEASE)
            consumer = backend.consumer(["q"])
        counts.append((await lab.receive(consumer, within=20.0))[0].delivery_count)
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
    async def test_poison_takes_no_innocents(self, lab: Lab) -> None:
        """What was delivered twice before travels alone; the others still come."""
        backend = await lab.open()
        (poison,) = await lab.submit(backend, lab.message())
        consumer = backend.consumer(["q"])
        for _ in range(2):
            await lab.settle(consumer, Verdict.NACK, *await lab.receive(consumer))
        innocents = await lab.submit(backend, *lab.messages(4))
        batches = [await _batch(lab, consumer)]
        while len([one for batch in batches for one in batch]) < 5:
            batches.append(await _batch(lab, consumer))
        assert [poison] in batches, f"{poison} did not travel alone: {batches}"
        assert sorted(one for batch in batches for one in batch) == sorted([poison, *innocents])

    @case(
        "shutdown_returns_prefetched",
        level="core",
        rationale="a deployment must not hold back for a lease what no worker has touched",
    )
    async def test_shutdown_returns_prefetched(self, lab: Lab) -> None:
        """Released: there at once although the lease is long, in front, and not counted as failures."""
        backend, other = await lab.open(lease=60), await lab.open(lease=60)
        ids = await lab.submit(backend, *lab.messages(4))
        consumer = backend.consumer(["q"])
        held = await lab.receive(consumer, 4)
        await consumer.release(held)
        await consumer.aclose()
        again = await lab.receive(other.consumer(["q"]), 4)
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
    async def test_release_after_lease_lost(self, lab: Lab) -> None:
        """Released and nacked too late: the new owner keeps it, nobody else gets it."""
        backend, other = await lab.open(lease=_LEASE), await lab.open(lease=60)
        await lab.submit(backend, lab.message())
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        late = await lab.receive(consumer)
        mine = await lab.receive(rival)
        await consumer.release(late)
        assert list(await consumer.settle([Settlement(late[0], Verdict.NACK)])) == [Settled.LOST]
        await consumer.aclose()
        await lab.quiet(backend.consumer(["q"]), 0.3)
        assert list(await rival.extend(mine)) == [True]
        await lab.settle(rival, Verdict.ACK, *mine)

    @case(
        "release_keeps_leased",
        level="capability",
        needs={Capability.LEASE},
        rationale="giving some back must not give up the one that runs",
    )
    async def test_release_keeps_leased(self, lab: Lab) -> None:
        """One of two is released: the other stays ours."""
        backend, other = await lab.open(lease=60), await lab.open(lease=60)
        await lab.submit(backend, *lab.messages(2))
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        kept, given_back = await lab.receive(consumer, 2)
        await consumer.release([given_back])
        assert ids_of(await lab.receive(rival)) == ids_of([given_back])
        await lab.quiet(rival, 0.3)
        assert list(await consumer.extend([kept])) == [True]
        await lab.settle(consumer, Verdict.ACK, kept)


async def _count_and_nack(lab: Lab, consumer: Consumer) -> int:
    (delivery,) = await lab.receive(consumer)
    await lab.settle(consumer, Verdict.NACK, delivery)
    return delivery.delivery_count


async def _batch(lab: Lab, consumer: Consumer) -> list[str]:
    """Receive whatever comes in one batch and acknowledge it."""
    deliveries = (await consumer.receive(10, lab.patience)).deliveries
    assert deliveries, "messages are missing"
    await lab.settle(consumer, Verdict.ACK, *deliveries)
    return ids_of(deliveries)
