"""What is drawn is what its source says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

DIAGRAMS = Path(__file__).parents[2] / "docs" / "diagrams"
SOURCES = [*sorted(DIAGRAMS.glob("*.mmd")), DIAGRAMS / "traces.json"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_diagram_is_drawn_from_its_source(source: Path, theme: str) -> None:
    drawn = source.with_suffix(f".{theme}.svg").read_text("utf-8")
    said = re.match(r"<!-- of (\S+): (\w+) -->", drawn)
    how = f"python docs/diagrams/{'draw.py' if source.suffix == '.mmd' else 'trace.py'}"
    assert said, how
    assert said.groups() == (source.name, hashlib.sha256(source.read_bytes()).hexdigest()), how


def test_each_diagram_is_shown_in_both_themes() -> None:
    pages = "".join(page.read_text("utf-8") for page in DIAGRAMS.parent.rglob("*.md"))
    for source in SOURCES:
        assert re.search(rf"!\[\S[^\]]+\]\([./]*diagrams/{source.stem}\.light\.svg#only-light\)", pages)
        assert f"diagrams/{source.stem}.dark.svg#only-dark)" in pages
