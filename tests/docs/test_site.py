"""The site is built, and what people look for is found by its search."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
WANTED: Final = {
    "install": {"", "tutorial/"},
    "cron": {"how-to/run-on-a-schedule/"},
    "metrics": {"how-to/observe/", "reference/opentelemetry/"},
    "prometheus": {"how-to/observe/"},
    "middleware": {"how-to/middleware/"},
    "security": {"operate/security/"},
    "progress": {"how-to/progress/"},
    "flower": {"how-to/flower/"},
    "beat": {"how-to/run-on-a-schedule/", "how-to/celery-to-tranship/"},
}
"""What is typed, and where one of the first answers has to lead."""
FIRST: Final = 5

pytestmark = pytest.mark.campaign  # needs the dependency group docs, and builds all pages


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return built


@pytest.fixture(scope="module")
def search(site: Path) -> Any:
    """The index as the reader's browser makes it: the same words, and the same weights, by lunr."""
    from lunr import lunr

    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    plain = [{**one, "text": re.sub(r"<[^>]+>", " ", one["text"])} for one in index["docs"]]
    fields = ({"field_name": "title", "boost": 1000}, {"field_name": "text", "boost": 1})
    return lunr(ref="location", fields=fields, documents=plain)


@pytest.mark.parametrize("word", WANTED)
def test_what_people_look_for_is_among_the_first_answers(search: Any, word: str) -> None:
    pages = dict.fromkeys(found["ref"].partition("#")[0] for found in search.search(word))
    assert WANTED[word] & set(list(pages)[:FIRST]), f"{word!r} is answered with {list(pages)[:FIRST]}"


def test_programs_find_every_page(site: Path) -> None:
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", (site / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert len(listed) > 70
    for address in listed:
        assert (site / address / "index.html").is_file() or (site / address).is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\s\">]+)", page.read_text("utf-8"))
        loaded += re.findall(
            r"<link\b[^>]*\brel=\"?(?:stylesheet|icon)\b[^>]*\bhref=\"?([^\s\">]+)", page.read_text("utf-8")
        )
        assert not [one for one in loaded if re.match(r"(https?:)?//", one)], page
