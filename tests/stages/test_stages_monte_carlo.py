"""Random plans beside the model, and random plans cancelled at every turn of the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_invariants import Story
from stage_model import World, predict
from stage_scripts import JITTER, Again, Boom, Bytes, Job, Log, build, make_plan
from virtual_loop import VirtualLoop

from tranship.stages import _call

PLANS = int(os.environ.get("TRANSHIP_TEST_PLANS", "5000"))
"""How many random plans; the nox session ``plans`` asks for 100,000."""
PARTS = 10
FACTORIES = ["lazy_tasks", *(name for name in ("eager_task_factory",) if hasattr(asyncio, name))]
"""What makes asyncio tasks: the default, and where asyncio has it the one that takes their first step at once."""

thorough = settings(
    max_examples=PLANS // PARTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualLoop]:
    monkeypatch.setattr(_call, "uniform", lambda low, high: JITTER)
    loop = VirtualLoop()
    yield loop
    loop.close()


def kind(error: BaseException) -> str:
    return {Boom: "boom", Again: "again", TimeoutError: "timeout"}[type(error)]


def outcome(loop: VirtualLoop, jobs: Sequence[Job], cancel: float) -> World:
    """Run ``jobs``; return what happened."""
    log, world = Log(), World()

    async def main() -> None:
        task = asyncio.ensure_future(build(jobs, log).process_tasks(None))
        timer = loop.call_at(cancel, task.cancel) if cancel < float("inf") else None
        await asyncio.wait({task})
        if timer is not None:
            timer.cancel()
        world.cancelled = task.cancelled()
        world.end = loop.time()
        group = None
        try:
            task.result()
        except asyncio.CancelledError as error:
            group = error.__cause__
        except ExceptionGroup as error:
            group = error
        for error in () if group is None else group.exceptions:
            (note,) = error.__notes__
            world.errors.append((kind(error), *_where(note)))

    loop.run(main())
    world.lines = sorted(log.lines)
    return world


def _where(note: str) -> tuple[str, str]:
    _, phase, _, _, name = note.split()
    return name.strip("'"), phase


def check(loop: VirtualLoop, data: bytes) -> None:
    choose = Bytes(data)
    share = choose.below(256)
    jobs = make_plan(choose)
    horizon = predict(jobs, float("inf")).end
    cancel = float(int(horizon * share / 128) | 1) if share else float("inf")
    expected, found = predict(jobs, cancel), outcome(loop, jobs, cancel)
    assert found.lines == expected.lines
    assert sorted(found.errors) == sorted(expected.errors)
    when = [expected.when[error] for error in found.errors]
    assert when == sorted(when), found.errors
    assert (found.cancelled, found.end) == (expected.cancelled, expected.end)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_plan_runs_as_the_model_says(loop: VirtualLoop, part: int) -> None:
    """Order, retries, timeouts, cleanup, errors and the cancellation, to the second."""

    @thorough
    @given(st.binary(min_size=8, max_size=160))
    def run(data: bytes) -> None:
        check(loop, data)

    run()


def tell(loop: VirtualLoop, jobs: Sequence[Job], turn: int) -> tuple[Story, int]:
    """Run ``jobs``, cancel the caller before the given turn of the loop, and again two turns later."""
    log = Log(turns=True)
    turns = 0
    cancelled = False

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(build(jobs, log).process_tasks(None))

        def each_turn() -> None:
            nonlocal turns, cancelled
            turns += 1
            if turns in (turn, turn + 2):
                cancelled |= task.cancel()

        loop.each_turn = each_turn
        await asyncio.wait({task})
        loop.each_turn = None
        return task

    task = loop.run(main())
    return Story(jobs, log, task, cancelled=cancelled), turns


def check_turns(loop: VirtualLoop, data: bytes) -> None:
    jobs = make_plan(Bytes(data), ties=True)
    story, turns = tell(loop, jobs, 0)
    story.check()
    for turn in range(1, turns + 1):
        story, _ = tell(loop, jobs, turn)
        story.check()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("factory", FACTORIES)
def test_cancelled_at_any_turn_of_the_loop_it_cleans_up_what_it_began(loop: VirtualLoop, factory: str) -> None:
    """Functions that end together, or at once, with a cancellation before every single turn."""
    loop.set_task_factory(getattr(asyncio, factory, None))

    @settings(thorough, max_examples=max(100, 1500 * PLANS // 100_000))
    @given(st.binary(min_size=8, max_size=120))
    def run(data: bytes) -> None:
        check_turns(loop, data)

    run()
