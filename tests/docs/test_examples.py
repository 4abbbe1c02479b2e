"""The applications in ``examples`` run as their READMEs say, and the guides show the same code."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import nbformat
import pytest
from snippets import Reader, blocks
from test_snippets import environ

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GUIDES = ROOT / "docs" / "how-to"
PATIENCE = 30.0

CURL = """#!{python}
import sys, time
from urllib.request import Request, urlopen

assert sys.argv[1:-1] in ([], ["-sX", "POST"]), sys.argv
until = time.monotonic() + {patience}
while True:
    try:
        print(urlopen(Request(sys.argv[-1], method="POST" if sys.argv[2:] else "GET"), timeout=10).read().decode())
        break
    except OSError as error:
        if not isinstance(getattr(error, "reason", None), ConnectionRefusedError) or time.monotonic() > until:
            raise
        time.sleep(0.05)
"""
"""A curl, whether the machine has one or not, that waits until the server is there."""


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def fetch(url: str, method: str = "GET") -> dict:
    with urlopen(Request(url, method=method), timeout=10) as answer:
        return json.load(answer)


def becomes(read: Callable[[], dict], expected: dict) -> None:
    until = time.monotonic() + PATIENCE
    while (found := read()) != expected:
        assert time.monotonic() < until, found
        time.sleep(0.05)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        curl = tmp_path / ".bin" / "curl"
        curl.parent.mkdir()
        curl.write_text(CURL.format(python=sys.executable, patience=PATIENCE))
        curl.chmod(0o755)
        return shutil.copytree(EXAMPLES / name, tmp_path, dirs_exist_ok=True)

    return copy


def followed(reader: Reader, folder: Path, port: str) -> None:
    typed = list(blocks((folder / "README.md").read_text("utf-8").replace("8000", port)))
    assert typed
    for block in typed:
        reader.follow(block)


@pytest.mark.parametrize(
    ("name", "path", "key", "ends"),
    [
        ("fastapi", "thumbnails?photo=owl", "ticket", {"state": "SUCCESS", "value": "owl.128.png", "error": None}),
        ("litestar", "thumbnails?photo=owl", "id", {"state": "SUCCESS", "value": "owl.128.png"}),
        ("flask", "thumbnails?photo=owl", "id", {"state": "SUCCESS", "value": "owl.128.png"}),
        ("django", "receipts?order=8&to=bob", "id", {"state": "SUCCESSFUL", "value": "receipt 8 to bob"}),
    ],
)
def test_a_web_application_runs_as_its_readme_says(copied, name: str, path: str, key: str, ends: dict) -> None:
    folder, port = copied(name), free_port()
    site = f"http://localhost:{port}"
    with Reader(folder, environ(folder)) as reader:
        followed(reader, folder, port)
        created = fetch(f"{site}/{path}", "POST")
        becomes(lambda: fetch(f"{site}/{path.partition('?')[0]}/{created[key]}"), ends)


def test_the_script_runs_as_its_readme_says(copied) -> None:
    folder = copied("script")
    with Reader(folder, environ(folder)) as reader:
        followed(reader, folder, "")


def test_the_notebook_runs_as_its_readme_says(copied) -> None:
    folder = copied("notebook")
    with Reader(folder, environ(folder)) as reader:
        followed(reader, folder, "")
    notebook = nbformat.read(folder / "tasks.ipynb", 4)
    shown = [one.data for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs if "data" in one]
    html = "".join(one.get("text/html", "") for one in shown)
    assert "4 of 4 ended (3 SUCCESS, 1 FAILURE)" in html
    assert "'album of 2'" in [one["text/plain"] for one in shown]


def test_every_example_is_run_and_listed() -> None:
    folders = {one.name for one in EXAMPLES.iterdir() if one.is_dir()}
    assert folders == {"django", "fastapi", "flask", "litestar", "notebook", "script"}
    assert set(re.findall(r"\[\w+\]\((\w+)/README\.md\)", (EXAMPLES / "README.md").read_text("utf-8"))) == folders


@pytest.mark.parametrize(
    ("guide", "title", "files"),
    [
        (
            "web-application.md",
            "media.py",
            ["fastapi/media.py", "litestar/media.py", "flask/media.py", "script/media.py"],
        ),
        ("web-application.md", "app.py", ["fastapi/app.py"]),
        ("web-application.md", "light.py", ["litestar/app.py"]),
        ("web-application.md", "flask_app.py", ["flask/app.py"]),
        ("django.md", "manage.py", ["django/manage.py"]),
        ("django.md", "shop/tasks.py", ["django/shop/tasks.py"]),
        ("notebooks.md", "media.py", ["notebook/media.py"]),
    ],
)
def test_guide_and_example_are_the_same(guide: str, title: str, files: list[str]) -> None:
    """But for where imports stand: a guide brings them when they are needed."""
    shown = [block.text for block in blocks((GUIDES / guide).read_text("utf-8")) if block.title == title]
    for file in files:
        assert _sorted("\n".join(shown)) == _sorted((EXAMPLES / file).read_text("utf-8"))


def _sorted(code: str) -> tuple[set[str], list[str]]:
    """What is imported, module by module, and all other lines in order."""
    lines = [line for line in code.splitlines() if line.strip()]
    imports = re.compile(r"(?:from (\S+) )?import (.+)")
    names: set[str] = set()
    for found in filter(None, map(imports.fullmatch, lines)):
        names |= {f"{found[1] or ''}:{name}" for name in found[2].split(", ")}
    return names, [line for line in lines if not imports.fullmatch(line)]


def test_the_guide_shows_the_notebooks_cells() -> None:
    page = (GUIDES / "notebooks.md").read_text("utf-8")
    shown = [block.text.strip() for block in blocks(page) if block.language == "python" and not block.title]
    notebook = nbformat.read(EXAMPLES / "notebook" / "tasks.ipynb", 4)
    assert shown == [cell.source for cell in notebook.cells if cell.cell_type == "code"]
