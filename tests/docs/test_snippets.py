"""Every page does what it says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from snippets import Reader, blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def environ(directory: Path) -> dict[str, str]:
    """The environment of a reader who has just installed tranship."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRANSHIP_", "PYTEST_", "COV_")) and name not in ("PYTHONWARNINGS", "NO_COLOR")
    }
    path = os.pathsep.join([str(directory / ".bin"), str(Path(sys.executable).parent), kept.get("PATH", "")])
    home = {"HOME": str(directory / ".home"), "XDG_STATE_HOME": str(directory / ".state")}
    return {**kept, **home, "PATH": path, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def follow(page: Path, directory: Path, redis: Callable[[], str]) -> int:
    found = list(blocks(page.read_text("utf-8")))
    with Reader(directory, environ(directory), redis) as reader:
        for block in found:
            reader.follow(block)
    return len(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_page_does_what_it_says(page: Path, tmp_path: Path, redis_of_the_page: Callable[[], str]) -> None:
    follow(page, tmp_path, redis_of_the_page)


def test_the_readmes_example_runs(tmp_path: Path, redis_of_the_page: Callable[[], str]) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    example = readme.partition("## An example")[2].partition("\n## ")[0]
    page = tmp_path / "page.md"
    page.write_text(example)
    assert follow(page, tmp_path, redis_of_the_page) >= 3
