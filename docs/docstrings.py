"""Docstrings are written for Python's own tools; the site shows them as Markdown, and each parameter by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

ROLE = re.compile(r":\w+:`(?:[^`<]*<)?(~?)([^`>]+)>?`")
SEVERAL = re.compile(r"^(\s+)(\w+(?:, \w+)+): ")


def shown(found: re.Match[str]) -> str:
    short, name = found.groups()
    return f"`{name.rpartition('.')[2] if short else name}`"


def each_alone(text: str) -> str:
    """``args, kwargs: those of the task`` is told of each of them."""
    return "\n".join(line for entry in entries(text.split("\n")) for line in entry)


def entries(lines: list[str]) -> Iterator[list[str]]:
    while lines:
        first, lines = lines[0], lines[1:]
        found = SEVERAL.match(first)
        if not found:
            yield [first]
            continue
        indent, names = found.groups()
        more = 0
        while more < len(lines) and lines[more].startswith(indent + " "):
            more += 1
        for name in names.split(", "):
            stars = {"args": "*", "kwargs": "**"}.get(name, "")
            yield [f"{indent}{stars}{name}: {first[found.end() :]}", *lines[:more]]
        lines = lines[more:]


class Markdown(griffe.Extension):
    """Shows ``:class:`~tranship.errors.ClosedError``` as the name that it tells."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = each_alone(ROLE.sub(shown, obj.docstring.value))
