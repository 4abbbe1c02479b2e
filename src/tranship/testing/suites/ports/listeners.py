"""Who waits for results or cancels, and does not know that the broker was away."""

from __future__ import annotations

import time

from tranship.ports import Capability, Tombstone
from tranship.testing.case import case
from tranship.testing.context import CaseContext
from tranship.testing.suites.ports.control import Feed
from tranship.testing.suites.ports.pushed_results import PushedResults
from tranship.testing.suites.ports.recovery import Events, need_restart, store_again

__all__ = ["ListenerCases"]

_PUSH = frozenset({Capability.RESULTS, Capability.RESULT_PUSH})


class ListenerCases:
    """Part of the lifecycle's suite."""

    @case(
        "waiters_survive_restart",
        level="capability",
        needs=_PUSH,
        rationale="who waits for a result does not know that the server was away",
    )
    async def test_waiters_survive_restart(self, context: CaseContext) -> None:
        """Expected before, stored as soon as the server is back: each result is pushed, or read after RESTORED."""
        need_restart(context)
        backend, worker = await context.open(), await context.open()
        inbox, events = PushedResults(backend.results(), context), Events(backend)
        ids = [f"over-{number}" for number in range(20)]
        inbox.store.expect(ids)
        await inbox.store.get_many(ids)
        await context.harness.restart()
        for task_id in ids[:10]:
            await store_again(context, worker, task_id)
        await events.restored(context)
        found = {one.id for one in await inbox.store.get_many(ids[:10]) if one.state.terminal}
        assert found | inbox.ids() >= set(ids[:10])
        for task_id in ids[10:]:
            await store_again(context, worker, task_id)
            await inbox.get(task_id)

    @case(
        "control_feed_survives_cut",
        level="capability",
        needs={Capability.CONTROL},
        rationale="a cancel said while a worker was cut off must reach it afterwards",
    )
    async def test_control_feed_survives_cut(self, context: CaseContext) -> None:
        """Cut off while a cancel is said: told when the connection is back, and of later ones at once."""
        proxy = context.proxy()
        backend, other = await context.open(via=proxy), await context.open()
        events = Events(backend)
        feed = await Feed.open(backend, "w-1")
        proxy.refuse()
        proxy.reset()
        await events.lost(context)
        await other.control().cancel([_tombstone("meanwhile")])
        proxy.refuse(False)
        await events.restored(context)
        await feed.until("meanwhile")
        await other.control().cancel([_tombstone("later")])
        await feed.until("later")


def _tombstone(value: str) -> Tombstone:
    return Tombstone(kind="key", value=value, expires=time.time() + 600)
