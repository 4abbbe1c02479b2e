"""A worker's name is taken once."""

from __future__ import annotations

import os
import time
from typing import Final

from tranship.errors import WorkerNameTaken
from tranship.ports import Capability, NameHolder
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, worker_case
from tranship.testing.facades import raised
from tranship.testing.suites.ports.worker_names import name_keeper

__all__ = ["WorkerNameCases"]

NEEDS: Final = {Capability.UNIQUE_NAMES, Capability.RESULTS}


@task(name="kit.note", queue="q")
async def note() -> str:
    return "done"


class WorkerNameCases:
    """Part of the worker's suite: names."""

    @worker_case(
        "worker_name_taken_is_refused",
        level="capability",
        needs=NEEDS,
        rationale="two workers of one name hide each other, and both take what is for one",
    )
    async def test_worker_name_taken_is_refused(self, facade: FacadeContext) -> None:
        """Told at the start, soon, who has it and since when; nothing is taken by it. Free at once when that one
        stops; names that nobody has set never meet.
        """
        begun = time.time()
        first = await facade.work(note, name="twin")
        second = facade.make_worker(note, name="twin")
        error = await raised(second.serve(), WorkerNameTaken)
        assert (error.name, error.pid) == ("twin", os.getpid())
        assert error.host
        assert begun - 1 < error.since <= time.time() + 1
        assert "'twin'" in str(error)
        assert error.host in str(error)
        client = await facade.client()
        assert await (await client.submit(note)).result(facade.context.patience) == "done"
        for _ in range(2):
            await facade.work(note)
        await facade.stop(first)
        stopped = time.monotonic()
        again = await facade.work(note, name="twin")
        assert time.monotonic() - stopped < facade.context.patience
        await facade.stop(again)

    @worker_case(
        "worker_name_of_the_dead_is_taken",
        level="capability",
        needs=NEEDS,
        rationale="a worker that was killed comes back under its name without anybody's help",
    )
    async def test_worker_name_of_the_dead_is_taken(self, facade: FacadeContext) -> None:
        """It waits until the name of one that says nothing is free, and then works."""
        keeper = name_keeper(await facade.context.open())
        dead = NameHolder(name="w", instance="dead", host="there", pid=1, since=time.time(), at=time.time())
        assert await keeper.take_name(dead, 2.0) is None
        await facade.work(note, name="w")
        client = await facade.client()
        assert await (await client.submit(note)).result(facade.context.patience) == "done"
        other = await keeper.take_name(dead, 2.0)
        assert other is not None
        assert other.pid == os.getpid()

    @worker_case(
        "worker_name_survives_reconnect",
        level="capability",
        needs=NEEDS,
        rationale="a broker that was away for a moment is no reason to give up a name, or to be refused one's own",
    )
    async def test_worker_name_survives_reconnect(self, facade: FacadeContext) -> None:
        """It works on under its name after its connection was lost, and another one is still refused."""
        proxy = facade.context.proxy()
        worker = await facade.work(note, name="w", via=proxy, heartbeat_interval=0.5)
        client = await facade.client()
        assert await (await client.submit(note)).result(facade.context.patience) == "done"
        proxy.refuse()
        proxy.reset()
        await facade.until(lambda: not worker.status().connected, "it has noticed")
        proxy.heal()
        await facade.until(lambda: worker.status().ready, "it is there again")
        assert await (await client.submit(note)).result(facade.context.patience) == "done"
        await raised(facade.make_worker(note, name="w").serve(), WorkerNameTaken)
