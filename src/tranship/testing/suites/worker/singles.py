"""Tasks of which there is one at a time: until it has ended, or until it has been quiet."""

from __future__ import annotations

from typing import Final

from tranship.envelope import TaskState
from tranship.ports import Capability
from tranship.task import task
from tranship.testing.facade_context import FacadeContext, facade_case, worker_case

__all__ = ["SingleCases"]

_NEEDS: Final = {Capability.RECORDS, Capability.RESULTS}


class SingleCases:
    """Part of the worker's suite."""

    @facade_case(
        "unique_until_it_has_ended",
        level="capability",
        needs=_NEEDS,
        rationale="ten clicks are to refresh an account once, and the eleventh, a minute later, once more",
    )
    async def test_unique_until_it_has_ended(self, facade: FacadeContext) -> None:
        """The second of two submits is answered with the first one, also from another client; other arguments are
        another task; once it has ended, or was cancelled, there is the next one.
        """
        runs: list[str] = []

        @task(name="kit.refresh", unique=["user"])
        async def refresh(user: str, why: str = "") -> str:
            runs.append(f"{user} {why}".strip())
            return user

        client, other, patience = await facade.client(), await facade.client(), facade.context.patience
        first = await client.submit(refresh, "ann", "one")
        handles = [first, *await other.submit_many([refresh.call("ann", why="two"), refresh.call(user="ann")])]
        assert {one.id for one in handles} == {first.id}
        assert [one.duplicate for one in handles] == [False, True, True]
        second = await client.submit(refresh, "bob")
        assert not second.duplicate
        await facade.work(refresh)
        assert [await one.result(patience) for one in (*handles, second)] == ["ann", "ann", "ann", "bob"]
        again = await other.submit(refresh, "ann", "three")
        assert not again.duplicate
        assert await again.result(patience) == "ann"
        assert sorted(runs) == ["ann one", "ann three", "bob"]

    @worker_case(
        "debounce_runs_the_last",
        level="capability",
        needs={*_NEEDS, Capability.DELAY, Capability.CONTROL},
        rationale="a document that is saved every second is to be indexed once, as it was saved last",
    )
    async def test_debounce_runs_the_last(self, facade: FacadeContext) -> None:
        """Of submits that follow each other the last one runs, once it has been quiet; those before are CANCELLED."""
        runs: list[tuple[str, int]] = []

        @task(name="kit.save", debounce=0.2, debounce_by=["name"])
        async def save(name: str, version: int) -> int:
            runs.append((name, version))
            return version

        client, patience = await facade.client(), facade.context.patience
        await facade.work(save)
        # Whatever the first one takes: it is not due by then.
        handles = [await client.submit(save.options(debounce=600), "a", 1), await client.submit(save, "a", 2)]
        other = await client.submit(save, "b", 1)
        assert (await handles[0].wait(patience)).state is TaskState.CANCELLED
        assert await handles[1].result(patience) == 2
        assert await other.result(patience) == 1
        assert sorted(runs) == [("a", 2), ("b", 1)]
