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
from tranship.testing.lab import Lab, ids_of
from tranship.testing.proxy import FaultProxy
from tranship.testing.suites.listeners import ListenerCases
from tranship.testing.suites.recovery import (
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
    async def test_submit_truthful_over_restart(self, lab: Lab) -> None:
        """Killed under four submitters: a receipt is one message, unreachable is none, unknown at most one."""
        need_restart(lab)
        ledger, over = Ledger(), asyncio.Event()
        backend = await lab.open()
        submitters = [lab.start(ledger.submit_until(lab, backend, over)) for _ in range(4)]
        await _receipts(lab, ledger, 100)
        await lab.harness.restart()
        over.set()
        await asyncio.wait_for(asyncio.gather(*submitters), back(lab))
        await ledger.take(lab, (await lab.open()).consumer(["q"]))
        assert not ledger.lies(), ledger.lies()[:5]

    @case(
        "deliveries_survive_restart",
        level="capability",
        needs=_DURABLE,
        rationale="what a worker held when the server died belongs to somebody afterwards",
    )
    async def test_deliveries_survive_restart(self, lab: Lab) -> None:
        """Held by one that is never heard of again, and by one that settles: each comes again, or was settled."""
        need_restart(lab)
        backend, silent = await lab.open(lease=_LEASE), await lab.open(lease=_LEASE)
        ids = await lab.submit(backend, *lab.messages(6))
        consumer = backend.consumer(["q"])
        await lab.receive(silent.consumer(["q"]), 3)
        held = await lab.receive(consumer, 3)
        await lab.harness.restart()
        answers = await settle_again(lab, consumer, [Settlement(one, Verdict.ACK) for one in held])
        settled = {one for one, answer in zip(ids_of(held), answers, strict=True) if answer is Settled.CONFIRMED}
        came: list[str] = []
        while not set(ids) <= settled | set(came):
            came += await receive_again(lab, consumer)
        await lab.quiet(consumer, _LEASE + 0.5)
        assert sorted(came) == sorted(set(ids) - settled), f"{len(settled)} were settled, {came} came again"


class _Cut:
    """Connections that end, with or without what was on them."""

    @case("submit_truthful_over_cuts", level="core", rationale="a network that flaps neither loses nor doubles")
    async def test_submit_truthful_over_cuts(self, lab: Lab) -> None:
        """Cut eight times under four submitters: a receipt is one message, unreachable none, unknown at most one."""
        proxy = lab.proxy()
        ledger, over = Ledger(), asyncio.Event()
        backend = await lab.open(via=proxy)
        submitters = [lab.start(ledger.submit_until(lab, backend, over)) for _ in range(4)]
        for cut in [proxy.reset, proxy.half_close] * 4:
            await _receipts(lab, ledger, ledger.receipts + 20)
            await lab.pass_time(random.uniform(0, 0.01))
            cut()
        over.set()
        await asyncio.wait_for(asyncio.gather(*submitters), back(lab))
        await ledger.take(lab, (await lab.open()).consumer(["q"]))
        assert not ledger.lies(), ledger.lies()[:5]

    @case("submit_answer_lost", level="core", rationale="a task denied although it is there runs twice")
    async def test_submit_answer_lost(self, lab: Lab) -> None:
        """It arrives, and runs, while its answer is lost: a receipt or unknown, never unreachable; once."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy), await lab.open()
        consumer, ledger = other.consumer(["q"]), Ledger()
        await lab.submit(backend, lab.message(queue="before"))
        messages = [lab.message(), lab.message(check_id=True)]
        if backend.capabilities[Capability.KEY_WINDOW].level is Level.NATIVE:
            # An emulated one looks the key up first, and sends nothing while it hears nothing.
            messages.append(lab.message(dedup_key="order-1", dedup_window=60.0))
        # What it may have to create first would wait for the answer that gets lost.
        await backend.ensure(["q"])
        proxy.mute()
        call = lab.start(ledger.submit(backend, *messages))
        ledger.came.update(await lab.drain(consumer, len(messages)))
        proxy.mute(False)
        await lab.wait_for(call, back(lab))
        assert call.done(), "submit() still waits although the broker is there again"
        await ledger.take(lab, consumer)
        assert not ledger.lies(), ledger.lies()

    @case("submit_request_lost", level="core", rationale="a receipt for what never arrived is a lost task")
    async def test_submit_request_lost(self, lab: Lab) -> None:
        """Swallowed on its way: unreachable or unknown; a receipt only if it is there after all."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy), await lab.open()
        ledger = Ledger()
        await lab.submit(backend, lab.message(queue="before"))
        proxy.blackhole()
        call = lab.start(ledger.submit(backend, lab.message(), lab.message(check_id=True)))
        # The time in which it would have arrived.
        await lab.pass_time(0.3)
        proxy.blackhole(False)
        await lab.wait_for(call, back(lab))
        assert call.done(), "submit() still waits although the broker is there again"
        await ledger.submit(other, lab.message())
        await ledger.take(lab, other.consumer(["q"]))
        assert not ledger.lies(), ledger.lies()

    @case(
        "receive_answer_lost",
        level="capability",
        needs={Capability.LEASE, Capability.INSPECT_DEPTH, Capability.INSPECT_IN_FLIGHT},
        rationale="what was taken for a worker that never heard of it must not be lost",
    )
    async def test_receive_answer_lost(self, lab: Lab) -> None:
        """Taken while the answer is lost: delivered again, at once or after the lease, each once."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy, lease=_LEASE), await lab.open(lease=_LEASE)
        consumer = backend.consumer(["q"])
        await lab.quiet(consumer, 0.1)
        ids = await lab.submit(other, *lab.messages(3))
        proxy.mute()
        came: list[str] = []
        confirmed: set[str] = set()
        call = lab.start(_work(lab, consumer, came, confirmed))
        await lab.eventually(lambda: _taken_or_over(other, call), "they are taken, or it has given up asking")
        proxy.mute(False)
        await call
        await _work_off(lab, consumer, ids, came, confirmed)
        assert sorted(came) == sorted(ids)
        await lab.quiet(consumer, _LEASE + 0.5)

    @case(
        "extend_after_cut",
        level="core",
        rationale="a worker that is not told what it lost runs the task beside its new owner",
    )
    async def test_extend_after_cut(self, lab: Lab) -> None:
        """Cut off while it holds one: where the lease is the connection another gets it; elsewhere it is still ours."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy, lease=30), await lab.open(lease=30)
        consumer, rival = backend.consumer(["q"]), other.consumer(["q"])
        ids = await lab.submit(other, lab.message())
        held = await lab.receive(consumer)
        assert list(await consumer.extend(held)) == [True]
        proxy.reset()
        if consumer.lease is None:
            await lab.eventually(lambda: _says(consumer, held, ours=False), "it says that it is lost")
            assert ids_of(await lab.receive(rival)) == ids
        else:
            await lab.eventually(lambda: _says(consumer, held, ours=True), "it is renewed again", within=back(lab))
            await lab.quiet(rival, 0.2)

    @case(
        "settle_answer_lost",
        level="capability",
        needs={Capability.FUSED_SETTLE, Capability.RESULTS},
        rationale="the core settles again after a lost answer; what was done must not be done twice",
    )
    async def test_settle_answer_lost(self, lab: Lab) -> None:
        """Done, rejected and replaced while the answer is lost, then settled again: each happened once."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy, lease=_LEASE), await lab.open(lease=_LEASE)
        done, dead, retried = await lab.submit(other, *lab.messages(3))
        consumer = backend.consumer(["q"])
        held = {ids_of([one])[0]: one for one in await lab.receive(consumer, 3)}
        result, replacement = lab.result(done, "first"), lab.message(id=retried, attempt=1)
        settlements = [
            Settlement(held[dead], Verdict.REJECT, reason="kit", detail="given up on purpose"),
            Settlement(held[retried], Verdict.REPLACE, replacement=replacement),
            Settlement(held[done], Verdict.ACK, result=result),
        ]
        proxy.mute()
        call = lab.start(consumer.settle(settlements))
        await lab.eventually(lambda: _ended(other, done), "the settlement is carried out")
        proxy.mute(False)
        await asyncio.gather(call, return_exceptions=True)
        answers = await settle_again(lab, consumer, settlements)
        assert set(answers) <= {Settled.CONFIRMED, Settled.LOST}, answers
        rival = other.consumer(["q"])
        assert await lab.drain(rival, 1) == [retried]
        await lab.quiet(rival, _LEASE + 0.5)
        (stored,) = await other.results().get_many([done])
        assert stored.document == result.document
        if other.capabilities.has(Capability.DEAD_LETTERS):
            assert [letter.task_id for letter in await other.inspector().dead("q")] == [dead]

    @case(
        "settle_over_reconnect",
        level="core",
        rationale="a lost connection must not lose the work that was done",
    )
    async def test_settle_over_reconnect(self, lab: Lab) -> None:
        """Received over a connection that is cut, settled afterwards: done, or LOST and delivered again, once.

        What was only SENT may be either.
        """
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy, lease=_LEASE), await lab.open(lease=_LEASE)
        await lab.submit(other, *lab.messages(3))
        consumer = backend.consumer(["q"])
        held = await lab.receive(consumer, 3)
        proxy.reset()
        answers = await settle_again(lab, consumer, [Settlement(one, Verdict.ACK) for one in held])
        said = dict(zip(ids_of(held), answers, strict=True))
        rival, again = other.consumer(["q"]), Counter[str]()
        again.update(await lab.drain(rival, [*said.values()].count(Settled.LOST)))
        while deliveries := (await rival.receive(10, _LEASE + 0.5)).deliveries:
            again.update(ids_of(deliveries))
            await lab.settle(rival, Verdict.ACK, *deliveries)
        possible = {Settled.LOST: {1}, Settled.SENT: {0, 1}, Settled.CONFIRMED: {0}}
        for one, answer in said.items():
            assert again[one] in possible[answer], f"answered {answer}, and came {again[one]} times"

    @case("consume_over_cuts", level="core", rationale="a flapping network neither loses nor repeats work", limit=120)
    async def test_consume_over_cuts(self, lab: Lab) -> None:
        """Cut six times while 300 are worked off: each comes, and none again once its settlement was confirmed."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy, lease=_LEASE), await lab.open(lease=_LEASE)
        ids = await lab.submit(other, *lab.messages(300))
        consumer = backend.consumer(["q"])
        came: list[str] = []
        confirmed: set[str] = set()
        for cut in range(1, 7):
            await _work_off(lab, consumer, ids[: cut * 40], came, confirmed)
            lab.start(_cut_soon(lab, proxy))
        await _work_off(lab, consumer, ids, came, confirmed)
        await lab.eventually(lambda: _nothing_left(lab, consumer, came, confirmed), "nothing is left", within=back(lab))
        assert sorted(set(came)) == sorted(ids)


class OutageCases(_Killed, _Cut, ListenerCases):
    """Part of the lifecycle's suite."""


async def _says(consumer: Consumer, held: Sequence[Delivery], *, ours: bool) -> bool:
    try:
        return list(await consumer.extend(held)) == [ours]
    except BrokerUnreachable:
        return False


async def _receipts(lab: Lab, ledger: Ledger, count: int) -> None:
    async def enough() -> bool:
        return ledger.receipts >= count

    await lab.eventually(enough, f"{count} receipts", within=back(lab))


async def _ended(backend: Backend, task_id: str) -> bool:
    (read,) = await backend.results().get_many([task_id])
    return read.state.terminal


async def _taken_or_over(backend: Backend, call: asyncio.Task[bool]) -> bool:
    """Whether three are in flight; who asks level by level takes none while nothing is heard."""
    return call.done() or sum(info.in_flight or 0 for info in await backend.inspector().queues()) == 3


async def _cut_soon(lab: Lab, proxy: FaultProxy) -> None:
    await lab.pass_time(random.uniform(0, 0.02))
    proxy.reset()


async def _work(lab: Lab, consumer: Consumer, came: list[str], confirmed: set[str]) -> bool:
    """Take and acknowledge some; whether any came."""
    try:
        deliveries = (await consumer.receive(7, 0.5)).deliveries
    except BrokerUnreachable:
        await lab.pass_time(0.02)
        return False
    ids = ids_of(deliveries)
    assert not confirmed & set(ids), "a task that was done came again"
    came += ids
    if deliveries:
        answers = await settle_again(lab, consumer, [Settlement(one, Verdict.ACK) for one in deliveries])
        confirmed |= {one for one, answer in zip(ids, answers, strict=True) if answer is Settled.CONFIRMED}
    return bool(deliveries)


async def _work_off(lab: Lab, consumer: Consumer, ids: list[str], came: list[str], confirmed: set[str]) -> None:
    """Take and acknowledge until all of ``ids`` have come, or fail."""
    end = time.monotonic() + back(lab)
    while missing := set(ids) - set(came):
        assert time.monotonic() < end, f"{len(missing)} messages did not come"
        await _work(lab, consumer, came, confirmed)


async def _nothing_left(lab: Lab, consumer: Consumer, came: list[str], confirmed: set[str]) -> bool:
    """Whether nothing has come for longer than a lease."""
    end = time.monotonic() + _LEASE + 0.5
    while time.monotonic() < end:
        if await _work(lab, consumer, came, confirmed):
            return False
    return True
