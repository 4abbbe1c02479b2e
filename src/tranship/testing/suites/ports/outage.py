"""Servers that are killed, connections that are cut, answers that get lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

from tranship.errors import BrokerUnreachable
from tranship.ports import Backend, Capability, Consumer, Delivery, Level, Settled, Settlement, Verdict
from tranship.testing.case import case
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.proxy import FaultProxy
from tranship.testing.suites.ports.listeners import ListenerCases
from tranship.testing.suites.ports.recovery import (
    Ledger,
    back,
    need_restart,
    receive_again,
    settle_again,
)

__all__ = ["OutageCases"]

_LEASE = 2.0
_DURABLE = frozenset({Capability.DURABLE, Capability.CROSS_PROCESS})


class _Killed:
    """A server that is killed and comes back with its data."""

    @case(
        "submit_truthful_over_restart",
        level="capability",
        needs=_DURABLE,
        rationale="a receipt for a task that died with the server is a lost task, a denial of one that lives a double",
        limit=120,
    )
    async def test_submit_truthful_over_restart(self, context: CaseContext) -> None:
        """Killed under four submitters: a receipt is one message, unreachable is none, unknown at most one."""
        need_restart(context)
        ledger, over = Ledger(), asyncio.Event()
        backend = await context.open()
        submitters = [context.start(ledger.submit_until(context, backend, over)) for _ in range(4)]
        await _receipts(context, ledger, 100)
        await context.harness.restart()
        over.set()
        await asyncio.wait_for(asyncio.gather(*submitters), back(context))
        await ledger.take(context, (await context.open()).consumer(["q"]))
        assert not ledger.lies(), ledger.lies()[:5]

    @case(
        "deliveries_survive_restart",
        level="capability",
        needs=_DURABLE,
        rationale="what a worker held when the server died belongs to somebody afterwards",
    )
    async def test_deliveries_survive_restart(self, context: CaseContext) -> None:
        """Held by one that is never heard of again, and by one that settles: each comes again, or was settled."""
        need_restart(context)
        backend, silent = await context.open(lease=_LEASE), await context.open(lease=_LEASE)
        ids = await context.submit(backend, *context.messages(6))
        consumer = backend.consumer(["q"])
        await context.receive(silent.consumer(["q"]), 3)
        held = await context.receive(consumer, 3)
        await context.harness.restart()
        answers = await settle_again(context, consumer, [Settlement(one, Verdict.ACK) for one in held])
        settled = {one for one, answer in zip(ids_of(held), answers, strict=True) if answer is Settled.CONFIRMED}
        came: list[str] = []
        while not set(ids) <= settled | set(came):
            came += await receive_again(context, consumer)
        await context.quiet(consumer, _LEASE + 0.5)
        assert sorted(came) == sorted(set(ids) - settled), f"{len(settled)} were settled, {came} came again"


class _Cut:
    """Connections that end, with or without what was on them."""

    @case("submit_truthful_over_cuts", level="core", rationale="a network that flaps neither loses nor doubles")
    async def test_submit_truthful_over_cuts(self, context: CaseContext) -> None:
        """Cut eight times under four submitters: a receipt is one message, unreachable none, unknown at most one."""
        proxy = context.proxy()
        ledger, over = Ledger(), asyncio.Event()
        backend = await context.open(via=proxy)
        submitters = [context.start(ledger.submit_until(context, backend, over)) for _ in range(4)]
        for cut in [proxy.reset, proxy.half_close] * 4:
            await _receipts(context, ledger, ledger.receipts + 20)
            await context.pass_time(random.uniform(0, 0.01))
            cut()
        over.set()
        await asyncio.wait_for(asyncio.gather(*submitters), back(context))
        await ledger.take(context, (await context.open()).consumer(["q"]))
        assert not ledger.lies(), ledger.lies()[:5]

    @case("submit_answer_lost", level="core", rationale="a task denied although it is there runs twice")
    async def test_submit_answer_lost(self, context: CaseContext) -> None:
        """It arrives, and runs, while its answer is lost: a receipt or unknown, never unreachable; once."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy), await context.open()
        consumer, ledger = other.consumer(["q"]), Ledger()
        await context.submit(backend, context.message(queue="before"))
        messages = [context.message()]
        # Where ids and keys are looked up first, nothing is sent while nothing is heard.
        if backend.capabilities[Capability.RETRY_SAFE].level is not Level.EMULATED:
            messages.append(context.message(check_id=True))
        if backend.capabilities[Capability.KEY_WINDOW].level is Level.NATIVE:
            messages.append(context.message(dedup_key="order-1", dedup_window=60.0))
        # What it may have to create first would wait for the answer that gets lost.
        await backend.ensure(["q"])
        proxy.mute()
        call = context.start(ledger.submit(backend, *messages))
        # A driver that sends one after the other does not send the others while it hears nothing of the first.
        ledger.came.update(await context.drain(consumer, 1))
        proxy.mute(False)
        await context.wait_for(call, back(context))
        assert call.done(), "submit() still waits although the broker is there again"
        await ledger.take(context, consumer)
        assert not ledger.lies(), ledger.lies()

    @case("submit_request_lost", level="core", rationale="a receipt for what never arrived is a lost task")
    async def test_submit_request_lost(self, context: CaseContext) -> None:
        """Swallowed on its way: unreachable or unknown; a receipt only if it is there after all."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy), await context.open()
        ledger = Ledger()
        await context.submit(backend, context.message(queue="before"))
        proxy.blackhole()
        call = context.start(ledger.submit(backend, context.message(), context.message(check_id=True)))
        # The time in which it would have arrived.
        await context.pass_time(0.3)
        proxy.blackhole(False)
        await context.wait_for(call, back(context))
        assert call.done(), "submit() still waits although the broker is there again"
        await ledger.submit(other, context.message())
        await ledger.take(context, other.consumer(["q"]))
        assert not ledger.lies(), ledger.lies()

    @case(
        "receive_answer_lost",
        level="capability",
        needs={Capability.LEASE, Capability.INSPECT_DEPTH, Capability.INSPECT_IN_FLIGHT},
        rationale="what was taken for a worker that never heard of it must not be lost",
    )
    async def test_receive_answer_lost(self, context: CaseContext) -> None:
        """Taken while the answer is lost: delivered again, at once or after the lease, each once."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy, lease=_LEASE), await context.open(lease=_LEASE)
        consumer = backend.consumer(["q"])
        await context.quiet(consumer, 0.1)
        ids = await context.submit(other, *context.messages(3))
        proxy.mute()
        came: list[str] = []
        confirmed: set[str] = set()
        call = context.start(_work(context, consumer, came, confirmed))
        await context.eventually(lambda: _taken_or_over(other, call), "they are taken, or it has given up asking")
        proxy.mute(False)
        await call
        await _work_off(context, consumer, ids, came, confirmed)
        assert sorted(came) == sorted(ids)
        await context.quiet(consumer, _LEASE + 0.5)

    @case(
        "extend_after_cut",
        level="core",
        rationale="a worker that is not told what it lost runs the task beside its new owner",
    )
    async def test_extend_after_cut(self, context: CaseContext) -> None:
        """Cut off while it holds one: where the lease is the connection another gets it; elsewhere it is still ours."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy, lease=30), await context.open(lease=30)
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        ids = await context.submit(other, context.message())
        held = await context.receive(consumer)
        assert list(await consumer.extend(held)) == [True]
        proxy.reset()
        if consumer.lease is None:
            await context.eventually(lambda: _says(consumer, held, ours=False), "it says that it is lost")
            assert ids_of(await context.receive(rival)) == ids
        else:
            await context.eventually(
                lambda: _says(consumer, held, ours=True), "it is renewed again", within=back(context)
            )
            await context.quiet(rival, 0.2)

    @case(
        "settle_answer_lost",
        level="capability",
        needs={Capability.FUSED_SETTLE, Capability.RESULTS},
        rationale="the core settles again after a lost answer; what was done must not be done twice",
    )
    async def test_settle_answer_lost(self, context: CaseContext) -> None:
        """Done, rejected and replaced while the answer is lost, then settled again: each happened once."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy, lease=_LEASE), await context.open(lease=_LEASE)
        done, dead, retried = await context.submit(other, *context.messages(3))
        consumer = backend.consumer(["q"])
        held = {ids_of([one])[0]: one for one in await context.receive(consumer, 3)}
        result, replacement = context.result(done, "first"), context.message(id=retried, attempt=1)
        settlements = [
            Settlement(held[dead], Verdict.REJECT, reason="kit", detail="given up on purpose"),
            Settlement(held[retried], Verdict.REPLACE, replacement=replacement),
            Settlement(held[done], Verdict.ACK, result=result),
        ]
        proxy.mute()
        call = context.start(consumer.settle(settlements))
        await context.eventually(lambda: _ended(other, done), "the settlement is carried out")
        proxy.mute(False)
        await asyncio.gather(call, return_exceptions=True)
        answers = await settle_again(context, consumer, settlements)
        assert set(answers) <= {Settled.CONFIRMED, Settled.LOST}, answers
        rival = other.consumer(["q"])
        assert await context.drain(rival, 1) == [retried]
        await context.quiet(rival, _LEASE + 0.5)
        (stored,) = await other.results().get_many([done])
        assert stored.document == result.document
        if other.capabilities.has(Capability.DEAD_LETTERS):
            assert [letter.task_id for letter in await other.inspector().dead("q")] == [dead]

    @case(
        "settle_over_reconnect",
        level="core",
        rationale="a lost connection must not lose the work that was done",
    )
    async def test_settle_over_reconnect(self, context: CaseContext) -> None:
        """Received over a connection that is cut, settled afterwards: done, or LOST and delivered again, once.

        What was only SENT may be either.
        """
        proxy = context.proxy()
        backend, other = await context.open(via=proxy, lease=_LEASE), await context.open(lease=_LEASE)
        await context.submit(other, *context.messages(3))
        consumer = backend.consumer(["q"])
        held = await context.receive(consumer, 3)
        proxy.reset()
        answers = await settle_again(context, consumer, [Settlement(one, Verdict.ACK) for one in held])
        said = dict(zip(ids_of(held), answers, strict=True))
        rival, again = other.consumer(["q"]), Counter[str]()
        again.update(await context.drain(rival, [*said.values()].count(Settled.LOST)))
        while deliveries := (await rival.receive(10, _LEASE + 0.5)).deliveries:
            again.update(ids_of(deliveries))
            await context.settle(rival, Verdict.ACK, *deliveries)
        possible = {Settled.LOST: {1}, Settled.SENT: {0, 1}, Settled.CONFIRMED: {0}}
        for one, answer in said.items():
            assert again[one] in possible[answer], f"answered {answer}, and came {again[one]} times"

    @case("consume_over_cuts", level="core", rationale="a flapping network neither loses nor repeats work", limit=120)
    async def test_consume_over_cuts(self, context: CaseContext) -> None:
        """Cut six times while 300 are worked off: each comes, and none again once its settlement was confirmed."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy, lease=_LEASE), await context.open(lease=_LEASE)
        ids = await context.submit(other, *context.messages(300))
        consumer = backend.consumer(["q"])
        came: list[str] = []
        confirmed: set[str] = set()
        for cut in range(1, 7):
            await _work_off(context, consumer, ids[: cut * 40], came, confirmed)
            context.start(_cut_soon(context, proxy))
        await _work_off(context, consumer, ids, came, confirmed)
        await context.eventually(
            lambda: _nothing_left(context, consumer, came, confirmed), "nothing is left", within=back(context)
        )
        assert sorted(set(came)) == sorted(ids)


class OutageCases(_Killed, _Cut, ListenerCases):
    """Part of the lifecycle's suite."""


async def _says(consumer: Consumer, held: Sequence[Delivery], *, ours: bool) -> bool:
    try:
        return list(await consumer.extend(held)) == [ours]
    except BrokerUnreachable:
        return False


async def _receipts(context: CaseContext, ledger: Ledger, count: int) -> None:
    async def enough() -> bool:
        return ledger.receipts >= count

    await context.eventually(enough, f"{count} receipts", within=back(context))


async def _ended(backend: Backend, task_id: str) -> bool:
    (read,) = await backend.results().get_many([task_id])
    return read.state.terminal


async def _taken_or_over(backend: Backend, call: asyncio.Task[bool]) -> bool:
    """Whether three are in flight; who asks level by level takes none while nothing is heard."""
    return call.done() or sum(info.in_flight or 0 for info in await backend.inspector().queues()) == 3


async def _cut_soon(context: CaseContext, proxy: FaultProxy) -> None:
    await context.pass_time(random.uniform(0, 0.02))
    proxy.reset()


async def _work(context: CaseContext, consumer: Consumer, came: list[str], confirmed: set[str]) -> bool:
    """Take and acknowledge some; whether any came."""
    try:
        deliveries = (await consumer.receive(7, 0.5)).deliveries
    except BrokerUnreachable:
        await context.pass_time(0.02)
        return False
    ids = ids_of(deliveries)
    assert not confirmed & set(ids), "a task that was done came again"
    came += ids
    if deliveries:
        answers = await settle_again(context, consumer, [Settlement(one, Verdict.ACK) for one in deliveries])
        confirmed |= {one for one, answer in zip(ids, answers, strict=True) if answer is Settled.CONFIRMED}
    return bool(deliveries)


async def _work_off(
    context: CaseContext, consumer: Consumer, ids: list[str], came: list[str], confirmed: set[str]
) -> None:
    """Take and acknowledge until all of ``ids`` have come, or fail."""
    end = time.monotonic() + back(context)
    while missing := set(ids) - set(came):
        assert time.monotonic() < end, f"{len(missing)} messages did not come"
        await _work(context, consumer, came, confirmed)


async def _nothing_left(context: CaseContext, consumer: Consumer, came: list[str], confirmed: set[str]) -> bool:
    """Whether nothing has come for longer than a lease."""
    end = time.monotonic() + _LEASE + 0.5
    while time.monotonic() < end:
        if await _work(context, consumer, came, confirmed):
            return False
    return True
