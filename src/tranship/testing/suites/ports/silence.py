"""Connections on which nothing comes any more, without a word."""

from __future__ import annotations

import asyncio
import time

from tranship.errors import BrokerUnreachable
from tranship.ports import Capability, Consumer
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.ports.pushed_results import PushedResults
from tranship.testing.suites.ports.recovery import (
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
    async def test_half_open_connection(self, context: CaseContext) -> None:
        """Frozen: ping fails by itself within a minute, and works again afterwards."""
        if not context.harness.can("pause"):
            context.lack("the harness cannot pause the broker")
        backend = await context.open(**context.harness.impatient)
        await backend.ping()
        await context.harness.pause()
        try:
            noticed = await unreachable(backend, 60.0)
        finally:
            await context.harness.resume()
        assert noticed, "ping() did not notice a broker that answers nothing"
        await submit_again(context, backend)

    @case("black_hole_submitter", level="core", rationale="a firewall that forgot us says nothing, for ever", limit=150)
    async def test_black_hole_submitter(self, context: CaseContext) -> None:
        """Everything is swallowed: noticed within the bound; what hung is answered afterwards, truthfully."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy), await context.open()
        ledger = Ledger()
        await context.submit(backend, context.message(queue="before"))
        proxy.blackhole()
        call = context.start(ledger.submit(backend, *context.messages(5)))
        noticed = await unreachable(backend, context.harness.notice)
        proxy.blackhole(False)
        assert noticed, f"ping() did not notice within {context.harness.notice} s that nothing is answered"
        await context.wait_for(call, back(context))
        assert call.done(), "submit() still waits although the broker is there again"
        last = await submit_again(context, backend)
        await ledger.take(context, other.consumer(["q"]))
        assert set(last) <= set(ledger.came)
        assert not ledger.lies(), ledger.lies()

    @case(
        "black_hole_consumer",
        level="core",
        rationale="a worker that takes silence for an empty queue is dead",
        limit=150,
    )
    async def test_black_hole_consumer(self, context: CaseContext) -> None:
        """Silence is not reported as an empty queue for longer than the bound; consumption goes on afterwards."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy), await context.open()
        consumer = backend.consumer(["q"])
        await context.quiet(consumer, 0.1)
        proxy.blackhole()
        noticed = await _deaf(consumer, context)
        proxy.blackhole(False)
        assert noticed, f"after {context.harness.notice} s of silence receive() still says that the queue is empty"
        ids = await context.submit(other, context.message())
        assert await receive_again(context, consumer) == ids

    @case(
        "black_hole_waiter",
        level="capability",
        needs=_PUSH,
        rationale="who only waits says nothing, and must find out all the same that nobody listens",
        limit=150,
    )
    async def test_black_hole_waiter(self, context: CaseContext) -> None:
        """Idle but for an expectation: LOST within the bound; the result stored meanwhile is there after RESTORED."""
        proxy = context.proxy()
        backend, worker = await context.open(via=proxy), await context.open()
        inbox, events = PushedResults(backend.results(), context), Events(backend)
        inbox.store.expect(["meanwhile", "later"])
        await inbox.store.get_many(["meanwhile", "later"])
        proxy.blackhole()
        await store_again(context, worker, "meanwhile")
        await events.lost(context)
        proxy.blackhole(False)
        await events.restored(context)
        (read,) = await inbox.store.get_many(["meanwhile"])
        assert read.state.terminal
        await store_again(context, worker, "later")
        await inbox.get("later")


async def _deaf(consumer: Consumer, context: CaseContext) -> bool:
    """Whether receive() admits in time that it hears nothing."""
    end = time.monotonic() + context.harness.notice
    while time.monotonic() < end:
        try:
            received = await asyncio.wait_for(consumer.receive(1, 1.0), 1.0 + context.patience)
        except BrokerUnreachable:
            return True
        if not received.confirmed:
            return True
    return False
