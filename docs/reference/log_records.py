"""Every log record of tranship and its plugins, read from their sources: logger, level, text and what goes with it.

A record is known by its text before the values are filled in, so each call of a logger has to name that text where it
can be read: a literal, or a name that stands for literals. What is computed has no row, and is an error here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = ("INFO", "WARNING", "ERROR")
"""Those that operators read; DEBUG is for who looks for a fault, and may change with any version."""
METHODS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
CALL = re.compile(r"log\w*\.(?:debug|info|warning|error|exception|log)\(", re.IGNORECASE)
WORDS = re.compile(r"[A-Za-z]{2,}")
PLACEHOLDER = re.compile(r"%[-+ #0-9.]*[a-zA-Z]")
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Record:
    """A call of a logger."""

    logger: str
    text: str
    levels: tuple[str, ...]
    traceback: bool = field(compare=False)
    of_task: bool = field(compare=False)
    """Whether it has fields of a task."""
    where: str = field(compare=False)


class Unreadable(Exception):
    """A record whose text, level or logger is computed."""


def records() -> list[Record]:
    """Return all of them, by logger and text; what several places say is one."""
    found = {one for path in sources() for one in _of(path)}
    return sorted(found)


def sources() -> Iterator[Path]:
    """Yield the modules that run in clients and workers; not those for tests."""
    core = ROOT / "src/tranship"
    yield from (path for path in core.rglob("*.py") if not path.is_relative_to(core / "testing"))
    yield from (path for path in ROOT.glob("plugins/*/src/**/*.py") if "tranship_example" not in path.parts)


def _of(path: Path) -> Iterator[Record]:
    source = path.read_text("utf-8")
    if not CALL.search(source):
        return
    tree = ast.parse(source)
    for scopes, call in _calls(tree):
        method, where = call.func.attr, f"{path.relative_to(ROOT)}:{call.lineno}"  # type: ignore[attr-defined]
        level, text = call.args[:2] if method == "log" else (ast.Constant(METHODS[method]), call.args[0])
        keywords = {one.arg for one in call.keywords}
        try:
            levels = tuple(one for one in LEVELS if one in set(_values(level, scopes)))
            for one in set(_values(text, scopes)) if levels else ():
                traceback = method == "exception" or "exc_info" in keywords
                yield Record(_logger(call, tree), one, levels, traceback, "extra" in keywords, where)
        except Unreadable as error:
            raise Unreadable(f"{where}: {error}; write it down literally, its values behind it") from None


def _calls(tree: ast.Module) -> Iterator[tuple[list[Scope], ast.Call]]:
    """Yield calls of loggers, each with what it stands in, the innermost first."""
    waiting: list[tuple[ast.AST, list[Scope]]] = [(tree, [tree])]
    while waiting:
        node, scopes = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scopes = [node, *scopes]
        elif isinstance(node, ast.Call) and _is_logging(node):
            yield scopes, node
        waiting.extend((child, scopes) for child in ast.iter_child_nodes(node))


def _is_logging(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in {*METHODS, "log"} or not call.args:
        return False
    owner = ast.unparse(call.func.value)
    # sandai's debugging output is DEBUG throughout.
    return "log" in owner.lower() and "getLogger" not in owner


def _logger(call: ast.Call, tree: ast.Module) -> str:
    name = ast.unparse(call.func.value)  # type: ignore[attr-defined]
    for value in _assigned(name, tree):
        if isinstance(value, ast.Call) and value.args and isinstance(value.args[0], ast.Constant):
            return str(value.args[0].value)
    for one in tree.body:
        if isinstance(one, ast.ImportFrom) and one.module and name in {alias.name for alias in one.names}:
            base = ROOT / "src" / one.module.replace(".", "/")
            return _logger(call, ast.parse(base.with_suffix(".py").read_text("utf-8")))
    raise Unreadable(f"which logger {name} is cannot be read")


def _values(node: ast.expr, scopes: Iterable[Scope]) -> Iterator[str]:
    """Yield the literals that an expression may be; of ``logging.INFO`` the last name."""
    scopes = list(scopes)
    match node:
        case ast.Constant(value=str() as text):
            if not WORDS.search(PLACEHOLDER.sub("", text)):
                raise Unreadable(f"{text!r} says nothing by itself")
            yield text
        case ast.Attribute(value=ast.Name(id="logging"), attr=level):
            yield level
        case ast.IfExp(body=one, orelse=other):
            yield from _values(one, scopes)
            yield from _values(other, scopes)
        case ast.Name(id=name):
            known = [value for scope in scopes for value in _given(name, scope)]
            if not known:
                raise Unreadable(f"{name} is computed")
            for value in known:
                yield from _values(value, scopes)
        case _:
            raise Unreadable(f"{ast.unparse(node)} is computed")


def _given(name: str, scope: Scope) -> Iterator[ast.expr]:
    """Yield what ``name`` is in ``scope``: of an argument, its default, and what the module's own calls give."""
    yield from _assigned(name, scope)
    if isinstance(scope, ast.Module):
        return
    arguments = scope.args
    for one, default in zip(reversed(arguments.args), reversed(arguments.defaults), strict=False):
        if one.arg == name:
            yield default


def _assigned(name: str, scope: Scope) -> Iterator[ast.expr]:
    # Of a module its own statements; of a function all that is in it.
    for one in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        targets = [one.target] if isinstance(one, ast.AnnAssign) else getattr(one, "targets", [])
        value = getattr(one, "value", None)
        if isinstance(value, ast.expr) and any(isinstance(to, ast.Name) and to.id == name for to in targets):
            yield value
