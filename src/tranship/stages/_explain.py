"""A plan in words: each phase, in the order in which it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tranship.stages._call import is_async
from tranship.stages._declare import Phase, TaskFunction
from tranship.stages._graph import Needs
from tranship.stages._plan import Plan

__all__ = ["explain"]


def explain(plan: Plan) -> str:
    """Return ``plan`` as text."""
    return "\n".join([f"plan of {len(plan.tasks)} tasks", *_forward(plan), *_together(plan), *_back(plan)])


def _forward(plan: Plan) -> Iterator[str]:
    yield "pre_execute, in this order:"
    said = [_waits(need) for need in plan.needs]
    yield from _lines(plan, Phase.PRE_EXECUTE, plan.order.graph.reached(), said)


def _together(plan: Plan) -> Iterator[str]:
    yield "execute, after all of them and together:"
    yield from _lines(plan, Phase.EXECUTE, plan.order.graph.reached(), [""] * len(plan.tasks))


def _back(plan: Plan) -> Iterator[str]:
    yield "post_execute, at the end, in this order:"
    waiting: dict[str, list[str]] = {}
    for task, need in zip(plan.tasks, plan.needs, strict=True):
        for name in need.after:
            waiting.setdefault(name, []).append(task.name)
    said = [
        _waits(Needs(need.level, tuple(waiting.get(task.name, ()))))
        for task, need in zip(plan.tasks, plan.needs, strict=True)
    ]
    yield from _lines(plan, Phase.POST_EXECUTE, plan.order.graph.reversed().reached(), said)


def _waits(need: Needs) -> str:
    level = "" if need.level is None else f"level {need.level}"
    after = f"after {', '.join(need.after)}" if need.after else ""
    return " and ".join(filter(None, (level, after))) or "at once"


def _lines(plan: Plan, phase: Phase, units: Sequence[int], said: Sequence[str]) -> Iterator[str]:
    """One line for all that wait for the same."""
    lines: dict[str, list[str]] = {}
    for unit in units:
        for number in plan.order.members[unit]:
            what = plan.tasks[number].function(phase)
            if what is not None:
                lines.setdefault(said[number], []).append(plan.tasks[number].name + _settings(what))
    if not lines:
        yield "  nothing"
    for waits, names in lines.items():
        yield "  " + (f"{waits}: " if waits else "") + ", ".join(names)


def _settings(what: TaskFunction[Any]) -> str:
    parts = [] if is_async(what.function) else ["in a thread"]
    if what.timeout is not None:
        parts.append(f"timeout {what.timeout:g} s")
    if what.retries:
        kinds = " or ".join(kind.__name__ for kind in what.retry_on) or "nothing"
        parts.append(f"{what.retries} retries on {kinds}")
    return f" ({', '.join(parts)})" if parts else ""
