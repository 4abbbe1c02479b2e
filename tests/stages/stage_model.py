"""What must happen, worked out without an event loop: longest paths, not callbacks.

A phase is first worked out as if nothing stopped it. It is stopped at its first failure, or by the cancellation of the
caller if that is sooner; what was begun by then is cut off there, what was not never begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stage_scripts import JITTER, Job, Phase, Script

Line = tuple[float, str, str, str, int]


@dataclass
class Course:
    """How one function ran: when it ended, how, and the log it left."""

    begun: float
    end: float = 0.0
    result: str = ""
    """``ok``, ``cancelled``, or the kind of error."""
    lines: list[tuple[float, str, int]] = field(default_factory=list)


def run_script(script: Script, begun: float, stop: float) -> Course:
    """Work out ``script``, asked to stop at ``stop`` (after ``begun``; infinity: never)."""
    course = Course(begun, end=begun)
    for number in range(script.retries + 1):
        course.lines.append((course.end, "begin", number))
        course.end, course.result = _attempt(script, number, course.end, stop)
        told = {"ok": "end", "cancelled": "cancelled", "timeout": "cancelled"}.get(course.result, "error")
        course.lines.append((course.end, told, number))
        asked = course.end >= stop
        if course.result not in ("timeout", "again") or number == script.retries or asked:
            return course
        course.end += script.delay * 2**number * JITTER
        if course.end > stop:
            course.end, course.result = stop, "cancelled"
            return course
    raise AssertionError


def _attempt(script: Script, number: int, begun: float, stop: float) -> tuple[float, str]:
    done = begun + script.durations[number]
    limit = begun + script.timeout if script.timeout is not None else float("inf")
    first = min(stop, limit)
    if done <= first:
        return done, script.ends[number]
    stopped = "cancelled" if stop < limit else "timeout"
    if script.on_cancel in ("boom", "again"):
        return first, script.on_cancel
    if script.on_cancel == "swallow":
        return first, "ok"
    if script.on_cancel == "slow":
        second = max(stop, limit)
        tidy = first + script.slow
        return (tidy, stopped) if tidy <= second else (second, "cancelled")
    return first, stopped


@dataclass
class World:
    """What an execution must come to."""

    lines: list[Line] = field(default_factory=list)
    errors: list[tuple[str, str, str]] = field(default_factory=list)
    """Kind, task, phase."""
    when: dict[tuple[str, str, str], tuple[float, bool]] = field(default_factory=dict)
    """Of each error: the time, and whether the function had been asked to stop: the cause comes before what it causes."""
    cancelled: bool = False
    end: float = 0.0


def predict(jobs: Sequence[Job], cancel: float) -> World:
    """Work out the execution of ``jobs`` whose caller is cancelled at ``cancel``."""
    world = World()
    waits = {job.name: waits_of(job, jobs) for job in jobs}
    turns, succeeded = _forward(world, jobs, Phase.PRE_EXECUTE, waits, cancel)
    if succeeded and world.end < cancel:
        _forward(world, jobs, Phase.EXECUTE, {job.name: () for job in jobs}, cancel)
    _back(world, [job for job in jobs if job.name in turns], waits)
    world.cancelled = cancel <= world.end  # equal: it ended all that ran
    world.lines.sort()
    return world


def waits_of(job: Job, jobs: Sequence[Job]) -> tuple[str, ...]:
    lower = (one.name for one in jobs if None not in (one.level, job.level) and one.level < job.level)
    return (*job.after, *lower)


def _forward(
    world: World, jobs: Sequence[Job], phase: Phase, waits: dict[str, tuple[str, ...]], cancel: float
) -> tuple[set[str], bool]:
    """Return whose turn came, and whether all succeeded."""
    begun = world.end
    natural = _courses(jobs, phase, waits, begun, float("inf"))
    # Of what comes after a failure nothing counts: it begins later than that.
    failures = [course.end for course in natural.values() if course.result != "ok"]
    stop = min([cancel, *failures])
    scripted = [job for job in jobs if phase in job.scripts]
    if not scripted:
        return {job.name for job in jobs}, True
    turns = {job.name for job in jobs if natural[job.name].begun < stop}
    for job in scripted:
        if job.name in turns:
            course = natural[job.name]
            cut = course.end > stop
            if cut:
                course = run_script(job.scripts[phase], course.begun, stop)
            _keep(world, job.name, phase, course, cut=cut)
    last = max((natural[job.name].end for job in scripted), default=begun)
    return turns, stop > last


def _back(world: World, jobs: Sequence[Job], waits: dict[str, tuple[str, ...]]) -> None:
    """Clean up: in reverse, and nothing stops it."""
    waiting = {job.name: tuple(one.name for one in jobs if job.name in waits[one.name]) for job in jobs}
    courses = _courses(jobs[::-1], Phase.POST_EXECUTE, waiting, world.end, float("inf"))
    for job in jobs:
        if Phase.POST_EXECUTE in job.scripts:
            _keep(world, job.name, Phase.POST_EXECUTE, courses[job.name])


def _courses(
    jobs: Sequence[Job], phase: Phase, waits: dict[str, tuple[str, ...]], begun: float, stop: float
) -> dict[str, Course]:
    courses: dict[str, Course] = {}
    for job in jobs:
        start = max([begun, *(courses[name].end for name in waits[job.name])])
        script = job.scripts.get(phase)
        courses[job.name] = Course(start, start, "ok") if script is None else run_script(script, start, stop)
    return courses


def _keep(world: World, name: str, phase: Phase, course: Course, *, cut: bool = False) -> None:
    world.lines += [(at, what, name, phase.value, number) for at, what, number in course.lines]
    world.end = max(world.end, course.end)
    if course.result not in ("ok", "cancelled"):
        error = (course.result, name, phase.value)
        world.errors.append(error)
        world.when[error] = (course.end, cut)
