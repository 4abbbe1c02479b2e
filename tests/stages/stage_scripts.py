"""Random plans: what each function does, and the plan of tranship.stages that does it and keeps a log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tranship.stages import AsyncTask, AsyncTaskProcessor, Phase, TaskFunction

DURATIONS = random.Random(20261121).sample(range(10**3, 10**9), 4096)
"""Distinct, so that (almost) nothing happens at the same time; times 16, so that all times are even, while those of cancellations are odd."""

JITTER = 0.75

SECONDS = 3
"""How long a function with ties runs when it runs for a time, and until it is timed out: the same."""


class Located(Exception):
    """What functions fail with; says where: task, phase, attempt."""

    def __init__(self, *where: object) -> None:
        super().__init__(repr(where))
        self.where = where


class Boom(Located):
    """The end."""


class Again(Located, ConnectionError):
    """Worth another try."""


ERRORS: Mapping[str, type[Exception]] = {"boom": Boom, "again": Again}


@dataclass(frozen=True)
class Script:
    """What one function does."""

    durations: Sequence[int]
    """Of each attempt, in seconds (or turns of the loop); 0: it does not even await."""
    ends: Sequence[str]
    """Of each attempt: ``ok``, ``boom`` or ``again``."""
    on_cancel: str
    """``pass`` it on, ``boom`` or ``again`` instead, ``swallow`` it, or be ``slow`` and then pass it on."""
    slow: int
    timeout: int | None
    retries: int
    delay: int


@dataclass(frozen=True)
class Job:
    """One task of a plan."""

    name: str
    level: int | None
    after: tuple[str, ...]
    scripts: dict[Phase, Script] = field(default_factory=dict)


class Bytes:
    """Choices, from bytes: cheap to draw, and they shrink well. Zeros for ever after the end."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, limit: int) -> int:
        return next(self._data, 0) % limit

    def chance(self, of: int) -> bool:
        """True about once in ``of`` times; False when the bytes have run out."""
        return self.below(of) == of - 1


def make_plan(choose: Bytes, *, ties: bool = False) -> list[Job]:
    """A plan of one to eight tasks, in an order in which each comes after what it waits for.

    Args:
        choose: the choices.
        ties: many functions end at the same time, or at once.
    """
    jobs: list[Job] = []
    shape = choose.below(3)  # levels, names, both
    level = 0
    for number in range(1 + choose.below(8)):
        level += choose.below(3) == 2
        has_level = shape == 0 or (shape == 2 and choose.below(2) == 0)
        mask = 0 if shape == 0 else choose.below(256) & choose.below(256)
        after = tuple(job.name for bit, job in enumerate(jobs) if mask >> bit & 1)
        scripts = _scripts(choose, number, ties)
        jobs.append(Job(f"t{number}", level if has_level else None, after, scripts))
    return jobs


def _scripts(choose: Bytes, number: int, ties: bool) -> dict[Phase, Script]:
    present = choose.below(8)
    wanted = [phase for bit, phase in enumerate(Phase) if not present >> bit & 1] or [Phase.PRE_EXECUTE]
    return {phase: _script(choose, number * 3 + list(Phase).index(phase), ties) for phase in wanted}


def _script(choose: Bytes, slot: int, ties: bool) -> Script:
    drawn = (16 * one for one in DURATIONS[slot * 16 : slot * 16 + 16])
    retries = choose.below(3) if choose.chance(3) else 0
    ends = [("ok", "ok", "ok", "ok", "boom", "again")[choose.below(6)] for _ in range(retries + 1)]
    durations = [(0, 1, 2, SECONDS)[choose.below(4)] if ties else next(drawn) for _ in ends]
    limit = None
    if choose.chance(4):
        limit = SECONDS if ties else next(drawn)
    on_cancel = ("pass", "pass", "boom", "swallow", "slow", "again")[choose.below(6)]
    return Script(durations, ends, on_cancel, 1 if ties else next(drawn), limit, retries, 1 if ties else next(drawn))


@dataclass
class Log:
    """What happened: ``(time, what, task, phase, attempt)``."""

    lines: list[tuple[float, str, str, str, int]] = field(default_factory=list)
    raised: list[Located] = field(default_factory=list)
    turns: bool = False
    """Whether a duration is turns of the loop rather than seconds; one of ``SECONDS`` is seconds all the same."""


def make_function(log: Log, job: Job, phase: Phase, script: Script):
    attempts = iter(range(1000))

    async def nap(length: int) -> None:
        if not log.turns or length == SECONDS:
            await asyncio.sleep(length)
            return
        for _ in range(length):
            await asyncio.sleep(0)

    def note(what: str, number: int) -> None:
        log.lines.append((asyncio.get_running_loop().time(), what, job.name, phase.value, number))

    async def work(number: int) -> None:
        if script.durations[number]:
            try:
                await nap(script.durations[number])
            except asyncio.CancelledError:
                if script.on_cancel in ERRORS:
                    raise ERRORS[script.on_cancel](job.name, phase.value, number) from None
                if script.on_cancel == "swallow":
                    return
                if script.on_cancel == "slow":
                    await nap(script.slow)
                raise
        if script.ends[number] != "ok":
            raise ERRORS[script.ends[number]](job.name, phase.value, number)

    async def function(ctx: object) -> None:
        number = next(attempts)
        note("begin", number)
        try:
            await work(number)
        except asyncio.CancelledError:
            note("cancelled", number)
            raise
        except Located as error:
            note("error", number)
            log.raised.append(error)
            raise
        note("end", number)

    return function


def build(jobs: Sequence[Job], log: Log) -> AsyncTaskProcessor:
    """The processor of ``jobs``; each execution needs its own, for the log."""
    builder = AsyncTaskProcessor.builder()
    for job in jobs:
        functions = {
            phase.value: TaskFunction(
                make_function(log, job, phase, script),
                timeout=script.timeout,
                retries=script.retries,
                initial_delay=script.delay,
                backoff_factor=2.0,
            )
            for phase, script in job.scripts.items()
        }
        builder.add_task(AsyncTask(job.name, **functions), level=job.level, after=job.after)
    return builder.build()
