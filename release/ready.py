"""Say whether this checkout can be released: ``python release/ready.py CHANGELOG pyproject.toml PLUGIN... [--draft]``.

The changelog has a date for the version, the code says the same version, plugins ask for a core that there will be,
and nothing is uncommitted. A draft may lack the date.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def project(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return dict(tomllib.load(file)["project"])


def problems(changelog: Path, core: Path, plugins: list[Path], *, draft: bool) -> Iterator[str]:
    """Yield what stands in the way."""
    version = project(core)["version"]
    said = re.search(rf"^## {re.escape(version)} \((.+)\)$", changelog.read_text("utf-8"), re.MULTILINE)
    if not said:
        yield f"{changelog} has no '## {version} (date)'"
    elif not draft and not re.fullmatch(r"\d{4}-\d\d-\d\d", said[1]):
        yield f"{changelog} says '{version} ({said[1]})': expected a date, such as 2026-12-01"
    code = (core.parent / "src" / "tranship" / "__init__.py").read_text("utf-8")
    if f'__version__: Final = "{version}"' not in code:
        yield f"tranship.__version__ is not {version}, as {core} says"
    extras = " ".join(one for group in project(core)["optional-dependencies"].values() for one in group)
    for plugin in plugins:
        found = project(plugin / "pyproject.toml")
        if not any(re.match(r"tranship\b(?!-)", one) for one in found["dependencies"]):
            yield f"{found['name']} does not ask for tranship"
        if found["name"] not in extras and found["name"] != "tranship-example":
            yield f"{found['name']} is no extra of tranship: [project.optional-dependencies] of {core}"
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    if changed and not draft:
        yield f"not committed:\n{changed}"


def main(arguments: list[str]) -> int:
    draft = "--draft" in arguments
    changelog, core, *plugins = (Path(one) for one in arguments if one != "--draft")
    found = list(problems(changelog, core, plugins, draft=draft))
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
