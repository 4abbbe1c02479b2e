"""The code blocks of a document that users of another system know: taken out by number, changed, and run.

A document is a Markdown file beside the tests: its headings and its fenced blocks, as they stand. A test says what it
changes (``renamed`` for imports, ``replaced`` for settings), what names the block leaves undefined, and asserts what
the document promises of the outcome::

    BLOCKS = read_blocks(Path(__file__).parent / "document.md")

    def test_submit():
        block = BLOCKS[3].renamed("azolla", "tranship.compat.azolla").replaced({"http://localhost:52710": url})
        left = run_block(block, {"send_email": send_email})
        assert left["result"].success
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import re
import sys
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TOKEN = re.compile(
    r"^#{1,6}[ \t]+(?P<heading>[^\n]+?)[ \t]*$"
    r"|^(?P<indent>[ \t]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, its number in the document (from 1) and the heading above it."""

    document: str
    number: int
    heading: str
    language: str
    """As the fence says: ``python``, ``bash``; empty where it says none."""
    text: str

    def __str__(self) -> str:
        return f"{self.number}: {self.heading}"

    def renamed(self, package: str, ours: str) -> Block:
        """Return it with ``package`` and its modules imported from ``ours``: import lines change, nothing else."""
        line = re.compile(rf"^([ \t]*(?:from|import)[ \t]+){re.escape(package)}(?=[ \t.\n])", re.MULTILINE)
        return replace(self, text=line.sub(rf"\g<1>{ours}", self.text))

    def replaced(self, changes: Mapping[str, str]) -> Block:
        """Return it with every key of ``changes``, which has to be in it, replaced by its value."""
        text = self.text
        for old, new in changes.items():
            assert old in text, f"{self} has no {old!r}"
            text = text.replace(old, new)
        return replace(self, text=text)

    @property
    def module(self) -> str:
        """The name that :func:`run_block` gives to the module made of it."""
        return re.sub(r"\W", "_", f"{self.document}_{self.number}")


def read_blocks(document: Path) -> dict[int, Block]:
    """Return all blocks of a Markdown file by their numbers, which count from 1 in their order."""
    found: dict[int, Block] = {}
    heading = ""
    for token in TOKEN.finditer(document.read_text(encoding="utf-8")):
        if token["heading"] is not None:
            heading = token["heading"]
            continue
        number = len(found) + 1
        text = textwrap.dedent(token["text"])
        found[number] = Block(document.stem, number, heading, token["language"], text)
    return found


def run_block(block: Block, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run it in this process as a module of its own, and return what is in that module then.

    ``names`` are there before its first line: what the block uses and does not define. Where it awaits at the top
    level it has a running loop, which ends with it. ``__name__`` is not ``"__main__"``.
    """
    space, code = _prepared(block, names)
    waiting = eval(code, space)
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)
    return space


async def run_block_here(block: Block, names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Do as :func:`run_block` does, on the loop that runs already: for a block that does not call ``asyncio.run``."""
    space, code = _prepared(block, names)
    waiting = eval(code, space)
    if inspect.iscoroutine(waiting):
        await waiting
    return space


def write_script(block: Block, folder: Path, before: str = "", after: str = "") -> Path:
    """Write it to a file that Python runs as ``__main__``, with lines ``before`` and ``after`` it; return the path.

    For a block that ends in a loop of its own, such as ``worker.run()``, and for one that a command imports.
    """
    script = folder / f"{block.module}.py"
    script.write_text(f"{before}\n{block.text}\n{after}\n", encoding="utf-8")
    return script


def _prepared(block: Block, names: Mapping[str, Any] | None) -> tuple[dict[str, Any], types.CodeType]:
    # A real module, because type hints are looked up in it. Its source is kept for tracebacks and inspect.
    module = types.ModuleType(block.module)
    module.__file__ = f"<{block.document} block {block.number}>"
    linecache.cache[module.__file__] = (len(block.text), None, block.text.splitlines(keepends=True), module.__file__)
    sys.modules[block.module] = module
    vars(module).update(names or {})
    code = compile(block.text, module.__file__, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return vars(module), code
