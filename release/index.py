"""Make a package index of a directory of distributions: ``python release/index.py DIST SIMPLE``.

It is the static kind (PEP 503): pip reads it from a web server or, as ``file://``, from where it is. ``python
release/index.py --extras`` prints the extras of the core, one a line.
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]


def normal(name: str) -> str:
    """A project's name as an index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def index(built: Path, simple: Path) -> list[str]:
    """Write the index; return the names of the projects in it."""
    files = defaultdict(list)
    for path in sorted([*built.glob("*.whl"), *built.glob("*.tar.gz")]):
        files[normal(path.name.split("-")[0])].append(path)
    shutil.rmtree(simple, ignore_errors=True)
    for name, paths in files.items():
        (simple / name).mkdir(parents=True)
        links = []
        for path in paths:
            shutil.copy2(path, simple / name)
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
            links.append(f'<a href="{path.name}#sha256={checksum}">{html.escape(path.name)}</a><br>')
        (simple / name / "index.html").write_text(page(links), encoding="utf-8")
    (simple / "index.html").write_text(page([f'<a href="{name}/">{name}</a><br>' for name in files]), encoding="utf-8")
    return list(files)


def page(lines: list[str]) -> str:
    return "\n".join(["<!DOCTYPE html>", '<meta name="pypi:repository-version" content="1.0">', *lines, ""])


def extras() -> list[str]:
    """The extras that users may ask for."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return list(tomllib.load(file)["project"]["optional-dependencies"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--extras"]:
        print(*extras(), sep="\n")
    else:
        print(*index(Path(sys.argv[1]), Path(sys.argv[2])), sep="\n")
