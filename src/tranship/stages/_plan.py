"""A plan, compiled: for each phase, which calls to begin when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tranship.stages._call import Call, make_call
from tranship.stages._check import cycle, entry_problems, observer_problems, plan_problems
from tranship.stages._declare import AsyncTask, Phase
from tranship.stages._errors import PlanError
from tranship.stages._graph import Graph, Needs, Order, order_of
from tranship.stages._observe import Observer

__all__ = ["Plan", "Sweep", "make_plan"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One phase: the calls of each unit, and the order of the units."""

    graph: Graph
    calls: tuple[tuple[Call, ...], ...]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to call."""
        return not any(self.calls)


@dataclass(frozen=True, slots=True)
class Plan:
    """Never changes, so any number of executions share it."""

    tasks: tuple[AsyncTask[Any], ...]
    needs: tuple[Needs, ...]
    order: Order
    pre: Sweep
    execute: Sweep
    post: Sweep


def make_plan(tasks: Sequence[AsyncTask[Any]], needs: Sequence[Needs], observers: Sequence[Observer]) -> Plan:
    """Check and compile.

    Raises:
        PlanError: with everything that is wrong.
    """
    order = _checked(tasks, needs, observers)

    def calls(members: Sequence[int], phase: Phase) -> tuple[Call, ...]:
        found = ((tasks[number].name, tasks[number].function(phase)) for number in members)
        return tuple(make_call(name, phase, what, observers) for name, what in found if what is not None)

    def by_unit(phase: Phase) -> tuple[tuple[Call, ...], ...]:
        return tuple(calls(members, phase) for members in order.members)

    return Plan(
        tuple(tasks),
        tuple(needs),
        order,
        Sweep(order.graph, by_unit(Phase.PRE_EXECUTE)),
        Sweep(Graph.of([()]), (calls(range(len(tasks)), Phase.EXECUTE),)),
        Sweep(order.graph.reversed(), by_unit(Phase.POST_EXECUTE)),
    )


def _checked(tasks: Sequence[AsyncTask[Any]], needs: Sequence[Needs], observers: Sequence[Observer]) -> Order:
    pairs = zip(tasks, needs, strict=True)
    problems = [line for task, need in pairs for line in entry_problems(task, need)]
    problems += observer_problems(observers)
    problems = problems or list(plan_problems(tasks, needs))
    if problems:
        raise PlanError(problems)
    order = order_of({task.name: number for number, task in enumerate(tasks)}, needs)
    ring = cycle(tasks, needs, order)
    if ring:
        raise PlanError([ring])
    return order
