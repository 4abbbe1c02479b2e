"""The reference has the options and the mappings that there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tranship import TaskResult, TaskState
from tranship_django._backend import _level
from tranship_django._options import Options

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "django.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return found[2:]


def test_every_option_is_there() -> None:
    assert [row[0] for row in rows("Options")] == [f"`{one.name}`" for one in fields(Options)]


@pytest.mark.usefixtures("project")
def test_every_state_has_its_status() -> None:
    from shop.tasks import add

    from tranship_django._results import django_result

    said = {state: row[1].strip("`") for row in rows("Statuses") for state in re.findall(r"`(\w+)`", row[0])}
    assert said.pop("UNKNOWN").startswith("none")
    shown = {state: django_result(add, "default", TaskResult(id="1", state=TaskState(state))).status for state in said}
    assert {state: str(status) for state, status in shown.items()} == said
    assert set(said) == set(TaskState) - {TaskState.UNKNOWN}


def test_every_priority_has_its_level() -> None:
    said: dict[int, str] = {}
    for numbers, level in rows("Priorities"):
        low, _, high = numbers.partition(" to ")
        said |= dict.fromkeys(range(int(low), int(high or low) + 1), level.strip("`"))
    assert {priority: _level(priority).label for priority in range(-100, 101)} == said
