"""What is wrong with a plan: one line for each thing, with the names of those concerned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import dropwhile
from math import isfinite
from typing import Any, Final

from tranship.stages._declare import AsyncTask, Phase, TaskFunction
from tranship.stages._graph import Needs, Order

__all__ = ["cycle", "entry_problems", "observer_problems", "plan_problems"]

LONG: Final = 10
"""Names that a sentence has at most."""


def entry_problems(task: object, needs: Needs) -> Iterator[str]:
    """Yield what is wrong with one task by itself."""
    if not isinstance(task, AsyncTask):
        yield f"add_task() was given {task!r}; expected an AsyncTask"
        return
    if not _is_text(task.name):
        yield f"a task's name is {task.name!r}; expected a text that is not empty"
    if needs.level is not None and not _is_integer(needs.level):
        yield f"level of task {task.name!r} is {needs.level!r}; expected a whole number"
    yield from (
        f"after of task {task.name!r} has {name!r}; expected the name of a task"
        for name in needs.after
        if not _is_text(name)
    )
    if all(task.function(phase) is None for phase in Phase):
        yield f"task {task.name!r} has no phases; give it at least one of {', '.join(Phase)}"
    for phase in Phase:
        yield from _function_problems(f"{phase.value} of task {task.name!r}", task.function(phase))


def observer_problems(observers: Sequence[object]) -> Iterator[str]:
    """Yield what is wrong with the observers."""
    for one in observers:
        if not callable(one):
            yield f"observe() was given {one!r}; expected something callable with an Attempt"


def plan_problems(tasks: Sequence[AsyncTask[Any]], needs: Sequence[Needs]) -> Iterator[str]:
    """Yield what is wrong among tasks that are right by themselves."""
    counts = Counter(task.name for task in tasks)
    yield from (f"{count} tasks are named {name!r}; names are unique" for name, count in counts.items() if count > 1)
    for task, need in zip(tasks, needs, strict=True):
        for name in need.after:
            if name not in counts:
                yield f"task {task.name!r} is after {name!r}, but there is no task of that name{_known(counts)}"


def cycle(tasks: Sequence[AsyncTask[Any]], needs: Sequence[Needs], order: Order) -> str | None:
    """Return the sentence that names a cycle, or None."""
    reached = {task for unit in order.graph.reached() for task in order.members[unit]}
    stuck = {task.name: number for number, task in enumerate(tasks) if number not in reached}
    if not stuck:
        return None
    path = {next(iter(stuck)): None}  # a set that keeps its order
    while (needed := _stuck_need(needs[stuck[next(reversed(path))]], stuck, needs)) not in path:
        path[needed] = None
    ring = [*dropwhile(lambda name: name != needed, path), needed]
    shown = ring if len(ring) <= LONG else [*ring[: LONG // 2], "...", *ring[-LONG // 2 :]]
    said = [name if name == "..." else repr(name) + _level(needs[stuck[name]]) for name in shown]
    return f"tasks wait for each other: {' after '.join(said)}"


def _stuck_need(need: Needs, stuck: Mapping[str, int], needs: Sequence[Needs]) -> str:
    """Whoever is stuck waits for somebody who is."""
    named = next((name for name in need.after if name in stuck), None)
    if named is not None:
        return named
    assert need.level is not None
    levels = ((needs[number].level, name) for name, number in stuck.items())
    return max((level, name) for level, name in levels if level is not None and level < need.level)[1]


def _level(need: Needs) -> str:
    return "" if need.level is None else f" (level {need.level})"


def _known(names: Counter[str]) -> str:
    return f" (there are: {', '.join(sorted(names))})" if len(names) <= LONG else ""


def _function_problems(where: str, what: Any) -> Iterator[str]:
    if what is None:
        return
    if not isinstance(what, TaskFunction):
        yield f"{where} is {what!r}; expected a TaskFunction"
        return
    function: Any = what.function
    if not callable(function):
        yield f"function in {where} is {function!r}; expected something callable with the context"
    for option, is_right, expected in _OPTIONS:
        value = getattr(what, option)
        if not is_right(value):
            yield f"{option} in {where} is {value!r}; expected {expected}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_exceptions(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, type) and issubclass(one, BaseException) for one in value)


_OPTIONS: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("timeout", lambda value: value is None or (_is_number(value) and value > 0), "seconds above 0, or None: no limit"),
    ("retries", lambda value: _is_integer(value) and value >= 0, "a whole number of at least 0"),
    ("initial_delay", lambda value: _is_number(value) and value >= 0, "seconds of at least 0"),
    ("backoff_factor", lambda value: _is_number(value) and value > 0, "a number above 0"),
    ("retry_on", _are_exceptions, "a tuple of exception classes"),
)
