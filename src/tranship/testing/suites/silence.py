"""Connections on which nothing comes any more, without a word."""

from __future__ import annotations

import asyncio
import time

from tranship.errors import BrokerUnreachable
from tranship.ports import Capability, Consumer
from tranship.testing.case import case
from tranship.testing.lab import Lab
from tranship.testing.suites.inbox import Inbox
from tranship.testing.suites.recovery import (
    Events,
    Ledger,
    back,
    receive_again,
    store_again,
    submit_again,
    unreachable,
)

__all__ = ["SilenceCases"]

_PUSH = frozenset({Capability.RESULTS, Capability.RESULT_PUSH})


class SilenceCases:
    """Part of the lifecycle's suite."""

    @case("half_open_connection", level="core", rationale="a dead peer sends no goodbye", limit=120)
    async def test_half_open_connection(self, lab: Lab) -> None:
        """Frozen: ping fails by itself within a minute, and works again afterwards."""
        if not lab.harness.can("pause"):
            lab.skip("the harness cannot pause the broker")
        backend = await lab.open(**lab.harness.impatient)
        await backend.ping()
        await lab.harness.pause()
        try:
            noticed = await unreachable(backend, 60.0)
        finally:
            await lab.harness.resume()
        assert noticed, "ping() did not notice a broker that answers nothing"
        await submit_again(lab, backend)

    @case("black_hole_submitter", level="core", rationale="a firewall that forgot us says nothing, for ever", limit=150)
    async def test_black_hole_submitter(self, lab: Lab) -> None:
        """Everything is swallowed: noticed within the bound; what hung is answered afterwards, truthfully."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy), await lab.open()
        ledger = Ledger()
        await lab.submit(backend, lab.message(queue="before"))
        proxy.blackhole()
        call = lab.start(ledger.submit(backend, *lab.messages(5)))
        noticed = await unreachable(backend, lab.harness.notice)
        proxy.blackhole(False)
        assert noticed, f"ping() did not notice within {lab.harness.notice} s that nothing is answered"
        await lab.wait_for(call, back(lab))
        assert call.done(), "submit() still waits although the broker is there again"
        last = await submit_again(lab, backend)
        await ledger.take(lab, other.consumer(["q"]))
        assert set(last) <= set(ledger.came)
        assert not ledger.lies(), ledger.lies()

    @case(
        "black_hole_consumer",
        level="core",
        rationale="a worker that takes silence for an empty queue is dead",
        limit=150,
    )
    async def test_black_hole_consumer(self, lab: Lab) -> None:
        """Silence is not reported as an empty queue for longer than the bound; consumption goes on afterwards."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy), await lab.open()
        consumer = backend.consumer(["q"])
        await lab.quiet(consumer, 0.1)
        proxy.blackhole()
        noticed = await _deaf(consumer, lab)
        proxy.blackhole(False)
        assert noticed, f"after {lab.harness.notice} s of silence receive() still says that the queue is empty"
        ids = await lab.submit(other, lab.message())
        assert await receive_again(lab, consumer) == ids

    @case(
        "black_hole_waiter",
        level="capability",
        needs=_PUSH,
        rationale="who only waits says nothing, and must find out all the same that nobody listens",
        limit=150,
    )
    async def test_black_hole_waiter(self, lab: Lab) -> None:
        """Idle but for an expectation: LOST within the bound; the result stored meanwhile is there after RESTORED."""
        proxy = lab.proxy()
        backend, worker = await lab.open(via=proxy), await lab.open()
        inbox, events = Inbox(backend.results(), lab), Events(backend)
        inbox.store.expect(["meanwhile", "later"])
        await inbox.store.get_many(["meanwhile", "later"])
        proxy.blackhole()
        await store_again(lab, worker, "meanwhile")
        await events.lost(lab)
        proxy.blackhole(False)
        await events.restored(lab)
        (read,) = await inbox.store.get_many(["meanwhile"])
        assert read.state.terminal
        await store_again(lab, worker, "later")
        await inbox.get("later")


async def _deaf(consumer: Consumer, lab: Lab) -> bool:
    """Whether receive() admits in time that it hears nothing."""
    end = time.monotonic() + lab.harness.notice
    while time.monotonic() < end:
        try:
            received = await asyncio.wait_for(consumer.receive(1, 1.0), 1.0 + lab.patience)
        except BrokerUnreachable:
            return True
        if not received.confirmed:
            return True
    return False
