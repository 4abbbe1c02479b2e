"""The table, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Outcome, spread


def write(where: Path, name: str, about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Write ``name``.md and ``name``.json; return the former's text."""
    where.mkdir(parents=True, exist_ok=True)
    text = markdown(about, outcomes)
    (where / f"{name}.md").write_text(text)
    (where / f"{name}.json").write_text(json.dumps(document(about, outcomes), indent=1) + "\n")
    return text


def markdown(about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    lines = ["# Benchmark results", "", f"`{about['command']}`, {about['when']}", ""]
    lines += ["| what | figure: median (min-max) | floor | goal | meets |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        lines += [target_line(outcome, target) for target in outcome.row.targets]
    for outcome in outcomes:
        lines += ["", *section(outcome)]
    lines += ["", "## Measured with", ""]
    lines += [f"- {key}: {value}" for key, value in about.items() if key not in {"command", "when"}]
    return "\n".join(lines) + "\n"


def section(outcome: Outcome) -> list[str]:
    lines = [f"## {outcome.row.title}", "", "| candidate | median (min-max) |", "|---|---|"]
    for candidate in outcome.row.candidates:
        cells = []
        for metric, unit in candidate.show:
            found = spread(outcome.of(candidate.name, metric))
            cells.append("-" if found is None else f"{ranged(found)} {unit}")
        lines.append(f"| {candidate.name} | {', '.join(cells)} |")
    lines += [line for note in outcome.row.notes for line in ("", note)]
    if outcome.problem:
        lines += ["", "Not measured:", "", "```", outcome.problem, "```"]
    return lines


def target_line(outcome: Outcome, target) -> str:
    found = spread(outcome.figures(target))
    if found is None:
        return f"| {target.text} | - | | | not measured |"
    unit = "" if target.unit in {"x", ""} else f" {target.unit}"
    floor, goal = ("" if math.isinf(bound) else f"{bound:g}{unit}" for bound in (target.floor, target.goal))
    return f"| {target.text} | {ranged(found)}{unit} | {floor} | {goal} | {target.verdict(found[0])} |"


def ranged(found: tuple[float, float, float]) -> str:
    median, least, most = found
    return f"**{figure(median)}** ({figure(least)}-{figure(most)})"


def figure(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:.1f}k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def document(about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"about": dict(about), "rows": [row_document(outcome) for outcome in outcomes]}


def row_document(outcome: Outcome) -> dict[str, Any]:
    targets = []
    for target in outcome.row.targets:
        figures = outcome.figures(target)
        found = spread(figures)
        targets.append(
            {
                "text": target.text,
                "unit": target.unit,
                "floor": None if math.isinf(target.floor) else target.floor,
                "goal": None if math.isinf(target.goal) else target.goal,
                "lower_is_better": target.lower,
                "median": found and found[0],
                "figures": figures,
                "meets": found and target.verdict(found[0]).strip("*"),
            }
        )
    return {
        "key": outcome.row.key,
        "title": outcome.row.title,
        "targets": targets,
        "rounds": outcome.rounds,
        "problem": outcome.problem,
    }
