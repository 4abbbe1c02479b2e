"""A workflow as a drawing: its tasks in columns, each behind those that it follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from markupsafe import Markup

from tranship.operations import Finished
from tranship_dashboard._format import line, seconds

__all__ = ["Graph", "Node", "drawing", "graph_of", "nodes_of"]

_WIDTH: Final = 176
_HEIGHT: Final = 46
_ACROSS: Final = 56
_DOWN: Final = 16
MOST: Final = 200
"""Tasks that are drawn."""


@dataclass(slots=True)
class Node:
    """One task."""

    id: str
    task: str
    state: str = "pending"
    """``pending``, or the outcome of its latest attempt, or ``running``."""
    note: str = ""
    after: set[str] = field(default_factory=set)
    column: int = 0


@dataclass(slots=True)
class Graph:
    """The tasks of a workflow by id, in columns."""

    nodes: dict[str, Node]
    left_out: int = 0


def graph_of(attempts: Sequence[Finished], running: Collection[str]) -> Graph:
    """Return the workflow that ``attempts`` tell of, as far as it is drawn; the arguments are those of `nodes_of`."""
    nodes = nodes_of(attempts, running)
    kept = dict(list(nodes.items())[:MOST])
    for node in kept.values():
        node.after &= kept.keys() - {node.id}
    _arrange(kept)
    return Graph(kept, len(nodes) - len(kept))


def nodes_of(attempts: Sequence[Finished], running: Collection[str]) -> dict[str, Node]:
    """Return all tasks of a workflow by id: what has ended, and what was to follow.

    Args:
        attempts: of its tasks, in order.
        running: the ids of the tasks that run.
    """
    nodes: dict[str, Node] = {}
    for one in attempts:
        node = nodes.setdefault(one.id, Node(one.id, one.task))
        node.state, node.note = one.outcome, seconds(one.seconds) if one.seconds is not None else one.outcome
        if one.parent_id and one.parent_id != one.id:
            node.after.add(one.parent_id)
    for one in attempts:
        for later in one.later:
            node = nodes.setdefault(later.id, Node(later.id, later.task))
            node.after.update(later.after)
    for task_id in nodes.keys() & set(running):
        nodes[task_id].state, nodes[task_id].note = "running", "running"
    return nodes


def _arrange(nodes: Mapping[str, Node]) -> None:
    """Put each task behind all that it follows; a circle, which only nonsense has, ends somewhere."""
    for _ in range(len(nodes)):
        moved = False
        for node in nodes.values():
            column = max((nodes[one].column + 1 for one in node.after), default=0)
            if column != node.column and column < len(nodes):
                node.column, moved = column, True
        if not moved:
            return


def drawing(graph: Graph, href: Callable[[str], str], current: str = "") -> Markup:
    """Return it as SVG; each task is a link to its page."""
    columns: dict[int, list[Node]] = {}
    for node in graph.nodes.values():
        columns.setdefault(node.column, []).append(node)
    places: dict[str, tuple[int, int]] = {}
    tallest = max((len(one) for one in columns.values()), default=0)
    for column, members in columns.items():
        offset = (tallest - len(members)) * (_HEIGHT + _DOWN) // 2
        for row, node in enumerate(members):
            places[node.id] = (column * (_WIDTH + _ACROSS) + 4, offset + row * (_HEIGHT + _DOWN) + 4)
    width = len(columns) * (_WIDTH + _ACROSS) - _ACROSS + 8 if columns else 0
    height = tallest * (_HEIGHT + _DOWN) - _DOWN + 8 if columns else 0
    edges = [
        _edge(places[before], places[node.id])
        for node in graph.nodes.values()
        for before in sorted(node.after)
        if before in places
    ]
    boxes = [_box(node, *places[node.id], href(node.id), here=node.id == current) for node in graph.nodes.values()]
    return Markup(
        '<svg class="graph" width="{}" height="{}" viewBox="0 0 {} {}" role="group" aria-label="Workflow of {} tasks">'
        "{}{}</svg>"
    ).format(width, height, width, height, len(graph.nodes), Markup("").join(edges), Markup("").join(boxes))


def _edge(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = max(20, (x2 - x1) // 2)
    return Markup('<path class="edge" d="M{} {}C{} {} {} {} {} {}"/>').format(
        x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )


def _box(node: Node, x: int, y: int, href: str, *, here: bool) -> Markup:
    name = line(node.task)
    shown = name if len(name) <= 22 else "\N{HORIZONTAL ELLIPSIS}" + name[-21:]
    return Markup(
        '<a href="{}" aria-label="{}, {}"{}><g class="node {}"><rect x="{}" y="{}" width="{}" height="{}" rx="8"/>'
        '<circle cx="{}" cy="{}" r="5"/><text x="{}" y="{}">{}</text><text class="note" x="{}" y="{}">{}</text></g></a>'
    ).format(
        *(href, name, node.state, Markup(' aria-current="true"') if here else "", node.state),
        *(x, y, _WIDTH, _HEIGHT, x + 15, y + 18, x + 28, y + 22, shown, x + 28, y + 37, f"{node.state} {_note(node)}"),
    )


def _note(node: Node) -> str:
    return "" if node.note == node.state else node.note
