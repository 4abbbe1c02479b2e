"""Tasks that prefer a worker which holds something ready: there first, and after a while anywhere."""

from __future__ import annotations

import asyncio
from typing import Final

from tranship.ports import Capability
from tranship.task import current, task
from tranship.testing.facade_context import FacadeContext, worker_case

__all__ = ["AffinityCases"]

_NEEDS: Final = {Capability.DELAY, Capability.CONTROL, Capability.RESULTS}


class AffinityCases:
    """Part of the worker's suite."""

    @worker_case(
        "prefers_what_is_ready",
        level="capability",
        needs=_NEEDS,
        rationale="a model takes a minute to load, and an idle machine is still better than a queue",
    )
    async def test_prefers_what_is_ready(self, facade: FacadeContext) -> None:
        """Of two workers the one that has the model gets the task, as its first attempt and first delivery; while that
        one is busy, a task that does not wait for long runs at the other.
        """
        gate = asyncio.Event()
        seen: list[tuple[int, int]] = []

        @task(name="kit.draw", queue="q", prefers="draw", prefers_within=600)
        async def draw() -> None:
            seen.append((current().attempt, current().delivery_count))
            await gate.wait()

        @task(name="kit.sketch", queue="q", prefers=lambda model: ["draw", model], prefers_within=0.3)
        async def sketch(model: str) -> str:
            return model

        client, patience = await facade.client(), facade.context.patience
        skills = {"draw": ["brush"]}
        hot = await facade.work(
            draw, sketch, name="hot", max_concurrent_tasks=1, heartbeat_interval=0.1, skill_dependencies=skills
        )
        for name in ("brush", "model-7"):
            hot.hot_cache.add(name)
        inspector = (await facade.context.open()).inspector()

        async def told() -> bool:
            return any("draw" in beat.hot_skills and "model-7" in beat.hot_cache for beat in await inspector.workers())

        await facade.context.eventually(told, "it says what it holds ready")
        await facade.work(draw, sketch, name="cold", skill_dependencies=skills)
        long = await client.submit(draw)
        await facade.until(lambda: hot.status().running == [long.id], "it runs where the model is")
        busy = await client.submit(sketch, "model-7")
        assert (await busy.wait(patience)).worker == "cold"
        other = await client.submit(sketch, "model-8")
        assert (await other.wait(patience)).worker == "cold"
        gate.set()
        assert (await long.wait(patience)).worker == "hot"
        assert seen == [(0, 1)]
