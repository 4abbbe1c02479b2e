"""The table of the document's features names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs/reference/avtomatika.md"


def test_every_row_s_test_exists():
    rows = re.findall(r"`(test_\w+)::(test_\w+)`", PAGE.read_text("utf-8"))
    assert len(rows) > 25
    for module, name in rows:
        assert f"def {name}(" in (FOLDER / f"{module}.py").read_text("utf-8"), f"{module}::{name}"
