"""The order of a plan: tasks that wait for the same, and are waited for by the same, are one cohort.

A *unit* is a cohort or a gate. A gate is a cohort of nobody: it stands for "all of a level" or "all of these names",
so that edges grow with what was declared and not with its square. One level of a thousand tasks is one cohort.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Graph", "Needs", "Order", "order_of"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one task waits for: all lower levels, and the tasks named."""

    level: int | None
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Units and who waits for whom.

    ``opens[u]`` are the units that wait for ``u``; ``waits[u]`` is for how many ``u`` waits.
    """

    opens: tuple[tuple[int, ...], ...]
    waits: tuple[int, ...]
    roots: tuple[int, ...]

    @classmethod
    def of(cls, opens: Sequence[Sequence[int]]) -> Self:
        """Return the graph with these edges."""
        waits = [0] * len(opens)
        for followers in opens:
            for unit in followers:
                waits[unit] += 1
        roots = tuple(unit for unit, count in enumerate(waits) if not count)
        return cls(tuple(map(tuple, opens)), tuple(waits), roots)

    def reversed(self) -> Graph:
        """Return the same units with every edge turned round."""
        back: list[list[int]] = [[] for _ in self.opens]
        for unit, followers in enumerate(self.opens):
            for follower in followers:
                back[follower].append(unit)
        return Graph.of(back)

    def reached(self) -> list[int]:
        """Return the units in an order in which each comes after all it waits for; those on a cycle are missing."""
        waits, found = list(self.waits), list(self.roots)
        for unit in found:  # grows while it is read
            for follower in self.opens[unit]:
                waits[follower] -= 1
                if not waits[follower]:
                    found.append(follower)
        return found


@dataclass(frozen=True, slots=True)
class Order:
    """The graph of a plan, and the tasks (by number) of each of its units; a gate has none."""

    graph: Graph
    members: tuple[tuple[int, ...], ...]


def order_of(names: Mapping[str, int], needs: Sequence[Needs]) -> Order:
    """Return the order of tasks that are numbered as in ``needs``; every name in it must be known."""
    gates = _Gates()
    levels = sorted({need.level for need in needs if need.level is not None})
    before = dict(zip(levels[1:], levels, strict=False))
    for number, need in enumerate(needs):
        if need.level in before:
            gates.wait(number, before[need.level])
        if need.after:
            gates.wait(number, frozenset(need.after))
    for number, need in enumerate(needs):
        gates.feed(number, need.level)
    for after in gates.sets():
        for name in sorted(after, key=names.__getitem__):
            gates.feed(names[name], after)
    return _cohorts(len(needs), gates)


@dataclass(slots=True)
class _Gates:
    """What tasks wait for, by key: a level, or a set of names."""

    numbers: dict[Hashable, int] = field(default_factory=dict)
    waiting: dict[int, list[int]] = field(default_factory=dict)
    feeding: dict[int, list[int]] = field(default_factory=dict)

    def wait(self, task: int, key: Hashable) -> None:
        gate = self.numbers.setdefault(key, len(self.numbers))
        self.waiting.setdefault(task, []).append(gate)

    def feed(self, task: int, key: Hashable) -> None:
        gate = self.numbers.get(key)
        if gate is not None:
            self.feeding.setdefault(task, []).append(gate)

    def sets(self) -> list[frozenset[str]]:
        return [key for key in self.numbers if isinstance(key, frozenset)]


def _cohorts(count: int, gates: _Gates) -> Order:
    """Gates are the first units; each cohort becomes one when its first task is met."""
    members: list[list[int]] = [[] for _ in gates.numbers]
    opens: list[list[int]] = [[] for _ in gates.numbers]
    units: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for task in range(count):
        waiting, feeding = tuple(gates.waiting.get(task, ())), tuple(gates.feeding.get(task, ()))
        unit = units.get((waiting, feeding))
        if unit is None:
            unit = units[waiting, feeding] = len(members)
            members.append([])
            opens.append(list(feeding))
            for gate in waiting:
                opens[gate].append(unit)
        members[unit].append(task)
    return Order(Graph.of(opens), tuple(map(tuple, members)))
