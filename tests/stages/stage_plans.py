"""Plans for tests: each function logs where it is, and does what the test says."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from tranship.stages import AsyncTask, AsyncTaskProcessor, TaskFunction

PHASES = {"pre_execute": "pre", "execute": "run", "post_execute": "post"}


class Plan:
    """A plan that logs; ``act`` says what a function does, by ``name__phase``: an exception, or what to await."""

    def __init__(self, **act) -> None:
        self.log: list[str] = []
        self.reached: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.act = {key.replace("__", "."): value for key, value in act.items()}
        self.builder = AsyncTaskProcessor.builder()

    def add(self, name, phases=PHASES, *, level=None, after=(), **options) -> Plan:
        functions = {phase: TaskFunction(self._function(name, phase), **options) for phase in phases}
        self.builder.add_task(AsyncTask(name, **functions), level, after=after)
        return self

    def _function(self, name, phase):
        where = f"{name}.{PHASES[phase]}"

        async def function(ctx):
            self.log.append(where)
            self.reached[where].set()
            act = self.act.get(where)
            if isinstance(act, BaseException):
                raise act
            if act is not None:
                await act()

        return function

    async def run(self, ctx=None) -> list[str]:
        await self.builder.build().process_tasks(ctx)
        return self.log

    def index(self, *names) -> list[int]:
        return [self.log.index(name) for name in names]


def never():
    return asyncio.Event().wait()


async def cancel_at(plan: Plan, where: str) -> asyncio.Task:
    """Cancel an execution of ``plan`` once it is at ``where``, and wait for its end."""
    task = asyncio.ensure_future(plan.run())
    async with asyncio.timeout(10):
        await plan.reached[where].wait()
        task.cancel()
        await asyncio.wait({task})
    return task


async def fail_after(turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise ValueError("late")
