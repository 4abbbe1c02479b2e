"""Every page and every public name has its place on the site."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import tranship

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation_once() -> None:
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    listed = re.findall(r"^ +- (?:[^#\n]*: )?([\w/.-]+\.md)$", settings.partition("\nnav:\n")[2], re.MULTILINE)
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    decisions = {page for page in written if re.match(r"explanation/decisions/0", page)}  # listed on their index
    assert sorted(listed) == sorted((written - decisions) | {"changelog.md"})


def test_every_public_name_is_in_the_api_reference_once() -> None:
    pages = "".join(page.read_text("utf-8") for page in (DOCS / "reference" / "api").glob("*.md"))
    # The decorator has the name of its module, which is what the shorter name would show.
    shown = re.findall(r"^::: (tranship[\w.]*)$", pages.replace("tranship.task.task", "tranship.task"), re.MULTILINE)
    assert len(shown) == len(set(shown))
    modules = {name for name in shown if name.partition(".")[2] not in tranship.__all__}
    for module in modules:
        assert importlib.import_module(module).__all__, "what it has is shown because it says what is public"
    of_modules = {name for module in modules for name in importlib.import_module(module).__all__}
    alone = {name.partition(".")[2] for name in shown if name not in modules}
    assert set(tranship.__all__) - {"__version__"} == alone | (of_modules & set(tranship.__all__))
