"""Workers that die without a word."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from tranship.envelope import TaskState
from tranship.ports import Backend, Capability, Consumer, Delivery, Settled, Settlement, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of

__all__ = ["CrashCases"]

_LEASE = 1.0


class CrashCases:
    """Part of the consumer's suite.

    Where the backend reaches beyond the process, workers are processes and are killed. Elsewhere nobody
    can die but the whole process; a worker that is simply never heard of again stands in for it.
    """

    @case("crash_before_ack_redelivers", level="core", rationale="the task of a dead worker must run elsewhere")
    async def test_crash_before_ack_redelivers(self, context: CaseContext) -> None:
        """Received and never settled: all of it comes to somebody else, within a lease."""
        await _need_survivors(context)
        backend = await context.open(lease=_LEASE)
        ids = await context.submit(backend, *context.messages(5))
        got = await _hold_and_die(context, 5)
        assert sorted(got) == sorted(ids)
        again = await context.receive(backend.consumer(["q"]), 5, within=2 * context.patience)
        assert sorted(ids_of(again)) == sorted(ids)
        if backend.capabilities.has(Capability.DELIVERY_COUNT):
            assert min(one.delivery_count for one in again) >= 2, "a delivery to a dead worker was not counted"

    @case(
        "crash_between_fetch_and_claim",
        level="core",
        rationale="a message taken off the wire and not yet recorded dies with its worker (kombu's BRPOP gap)",
    )
    async def test_crash_between_fetch_and_claim(self, context: CaseContext) -> None:
        """Workers killed at any moment: every message was seen by one of them, or comes to us."""
        await _need_survivors(context)
        backend = await context.open(lease=_LEASE)
        crash = _killed_worker if await context.has(Capability.CROSS_PROCESS) else _vanished_worker
        ids: list[str] = []
        seen: set[str] = set()
        for _ in range(3):
            seen |= await crash(context, backend, ids)
        consumer = backend.consumer(["q"])
        end = time.monotonic() + 2 * context.patience
        while not set(ids) <= seen and time.monotonic() < end:
            came = (await consumer.receive(50, 0.5)).deliveries
            seen |= set(ids_of(came))
            # What stays in our hands would come again, before the others where each takes its time.
            await consumer.settle([Settlement(one, Verdict.ACK) for one in came])
        assert set(ids) <= seen, f"{len(set(ids) - seen)} of {len(ids)} messages were lost"

    @case(
        "stress_random_faults",
        level="stress",
        needs={Capability.LEASE, Capability.FUSED_SETTLE, Capability.RESULTS},
        rationale="whatever workers do to it, every task ends, and ends once",
        limit=120,
    )
    async def test_stress_random_faults(self, context: CaseContext) -> None:
        """600 tasks, 6 workers that nack, give back, sleep over their lease: one CONFIRMED end for each."""
        backends = [await context.open(lease=_LEASE) for _ in range(3)]
        ids = await context.submit(backends[0], *context.messages(600))
        ended: Counter[str] = Counter()
        await asyncio.gather(*(_unreliable(context, backend, ended, len(ids)) for backend in backends * 2))
        assert ended == Counter(ids), f"{len(set(ids) - set(ended))} never ended, {ended.most_common(1)} most often"
        stored = await backends[0].results().get_many(ids)
        assert {one.state for one in stored} == {TaskState.SUCCESS}


async def _unreliable(context: CaseContext, backend: Backend, ended: Counter[str], total: int) -> None:
    """Work badly until every task has ended."""
    consumer = backend.consumer(["q"])
    end = time.monotonic() + 60.0
    while len(ended) < total and time.monotonic() < end:
        deliveries = list((await consumer.receive(5, 0.2)).deliveries)
        dice = random.random()
        if dice < 0.1:
            await consumer.release(deliveries)
        elif dice < 0.2:
            await consumer.settle([Settlement(one, Verdict.NACK) for one in deliveries])
        elif dice > 0.02 + 0.2:
            ended.update(await _finish(context, consumer, deliveries))
        # Else: never heard of again, until the lease ends.


async def _finish(context: CaseContext, consumer: Consumer, deliveries: list[Delivery]) -> list[str]:
    """Settle with results; return the ids for which that was confirmed."""
    results = [context.result(one, 1) for one in ids_of(deliveries)]
    answers = await consumer.settle(
        [Settlement(one, Verdict.ACK, result=result) for one, result in zip(deliveries, results, strict=True)]
    )
    return [one.id for one, answer in zip(results, answers, strict=True) if answer is Settled.CONFIRMED]


async def _need_survivors(context: CaseContext) -> None:
    """Skip the case where nobody can die but all that is there: one process, without leases."""
    if not (await context.has(Capability.CROSS_PROCESS) or await context.has(Capability.LEASE)):
        context.skip("no worker can die without its broker: both are in one process, and there are no leases")


async def _hold_and_die(context: CaseContext, count: int) -> list[str]:
    """Let a worker receive ``count`` messages and die; return their ids."""
    if await context.has(Capability.CROSS_PROCESS):
        child = await context.child("hold", url=context.url(lease=_LEASE), queue="q", count=count)
        got: list[str] = []
        while len(got) < count:
            got += await child.line()
        await child.kill()
        return got
    doomed = await context.open(lease=_LEASE)
    return ids_of(await context.receive(doomed.consumer(["q"]), count))


async def _killed_worker(context: CaseContext, backend: Backend, ids: list[str]) -> set[str]:
    """Feed a worker process, kill it in the middle; return what it said it had received."""
    ids += await context.submit(backend, *context.messages(60))
    child = await context.child("work", url=context.url(lease=_LEASE), queue="q", limit=3)
    seen = set(await child.line())
    # The moment of the kill is the point of the case: it falls anywhere in the worker's cycle.
    await asyncio.sleep(random.uniform(0, 0.03))
    await child.kill()
    return seen.union(*await child.rest())


async def _vanished_worker(context: CaseContext, _backend: Backend, ids: list[str]) -> set[str]:
    """Cancel a worker's receive() at any moment around a submit and never hear of it again."""
    doomed = await context.open(lease=_LEASE)
    call = context.start(doomed.consumer(["q"]).receive(3, context.patience))
    await asyncio.sleep(0)
    ids += await context.submit(doomed, *context.messages(5))
    for _ in range(random.randrange(4)):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    return set()
