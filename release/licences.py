"""Say under which licence each part of a bill of materials is: ``python release/licences.py sbom.json``.

It fails on a part that says none, and on one whose licence would bind what is built with it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

BINDING = re.compile(r"\b(?:A?GPL|GNU (?:Affero )?General Public)", re.IGNORECASE)
"""The lesser ones do not bind who imports, and are fine."""

TOLD_ELSEWHERE = {"protobuf": "BSD-3-Clause"}
"""What a licence file says, where the metadata say nothing."""


def licences(component: dict[str, Any]) -> str:
    """What a component says of its licence: one, or several to choose from."""
    said = component.get("licenses", [])
    names = [
        one.get("expression") or one.get("license", {}).get("id") or one.get("license", {}).get("name") for one in said
    ]
    # A whole text of a licence is named by its first line.
    return (
        TOLD_ELSEWHERE.get(component["name"], "")
        if not names
        else "; ".join(dict.fromkeys(str(name).strip().splitlines()[0] for name in names if name))
    )


def trouble(said: str) -> str:
    if not said:
        return "says no licence"
    choices = re.split(r";| OR ", said)
    return "binds what is built with it" if all(BINDING.search(one) for one in choices) else ""


def main(path: Path) -> int:
    found = 0
    for component in sorted(json.loads(path.read_text("utf-8"))["components"], key=lambda one: one["name"].lower()):
        said = licences(component)
        wrong = trouble(said)
        found += bool(wrong)
        print(f"{component['name']} {component.get('version', '')}: {said}{f'  <- {wrong}' if wrong else ''}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
