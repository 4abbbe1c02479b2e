"""Who waits for results or cancels, and does not know that the broker was away."""

from __future__ import annotations

import time

from tranship.ports import Capability, Tombstone
from tranship.testing.case import case
from tranship.testing.lab import Lab
from tranship.testing.suites.control import Feed
from tranship.testing.suites.inbox import Inbox
from tranship.testing.suites.recovery import Events, need_restart, store_again

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
    async def test_waiters_survive_restart(self, lab: Lab) -> None:
        """Expected before, stored as soon as the server is back: each result is pushed, or read after RESTORED."""
        need_restart(lab)
        backend, worker = await lab.open(), await lab.open()
        inbox, events = Inbox(backend.results(), lab), Events(backend)
        ids = [f"over-{number}" for number in range(20)]
        inbox.store.expect(ids)
        await inbox.store.get_many(ids)
        await lab.harness.restart()
        for task_id in ids[:10]:
            await store_again(lab, worker, task_id)
        await events.restored(lab)
        found = {one.id for one in await inbox.store.get_many(ids[:10]) if one.state.terminal}
        assert found | inbox.ids() >= set(ids[:10])
        for task_id in ids[10:]:
            await store_again(lab, worker, task_id)
            await inbox.get(task_id)

    @case(
        "control_feed_survives_cut",
        level="capability",
        needs={Capability.CONTROL},
        rationale="a cancel said while a worker was cut off must reach it afterwards",
    )
    async def test_control_feed_survives_cut(self, lab: Lab) -> None:
        """Cut off while a cancel is said: told when the connection is back, and of later ones at once."""
        proxy = lab.proxy()
        backend, other = await lab.open(via=proxy), await lab.open()
        events = Events(backend)
        feed = await Feed.open(backend, "w-1")
        proxy.refuse()
        proxy.reset()
        await events.lost(lab)
        await other.control().cancel([_tombstone("meanwhile")])
        proxy.refuse(False)
        await events.restored(lab)
        await feed.until("meanwhile")
        await other.control().cancel([_tombstone("later")])
        await feed.until("later")


def _tombstone(value: str) -> Tombstone:
    return Tombstone(kind="key", value=value, expires=time.time() + 600)
