"""Whatever the doctor says, a runbook tells what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOKS = (ROOT / "docs" / "operate" / "runbooks.md").read_text("utf-8")
FINDINGS = ROOT / "src" / "tranship" / "operations" / "_findings.py"


def findings() -> Iterator[tuple[str, str]]:
    """What each finding is about, and how bad it may be."""
    for node in ast.walk(ast.parse(FINDINGS.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            given = {one.arg: one.value for one in node.keywords}
            about, severity = given["about"], given["severity"]
            assert isinstance(about, ast.Constant)
            assert isinstance(severity, ast.Attribute)
            yield str(about.value), severity.attr.lower()


def test_each_finding_has_a_runbook_and_no_runbook_is_left_over() -> None:
    told = re.findall(r"^## (\S+)\n\n\*\*(\w+)\*\* ", RUNBOOKS, re.MULTILINE)
    assert sorted(told) == sorted(set(findings()))


def said(text: str) -> str:
    """What a warning says before the first thing that is not always the same, as far as it goes."""
    return re.split(r"\{|[:;]", text)[0].strip()


def server_warnings() -> Iterator[str]:
    """The first words of what backends say of their servers."""
    for path in ("redis/src/tranship_redis/_server.py", "nats/src/tranship_nats/_backend.py"):
        text = (ROOT / "plugins" / f"tranship-{path}").read_text("utf-8")
        yield from re.findall(r"found\.append\(\s*f?\"([^\"]+)\"", text)
    text = (ROOT / "plugins/tranship-rabbitmq/src/tranship_rabbitmq/_backend.py").read_text("utf-8")
    yield from re.findall(r"yield \(?\s*f?\"([^\"]+)\"", text)


@pytest.mark.parametrize("warning", sorted(server_warnings()))
def test_each_warning_of_a_server_has_its_row(warning: str) -> None:
    begins = [row.replace("...", "\0") for row in re.findall(r"^\| ([a-z][^|]+) \|", RUNBOOKS, re.MULTILINE)]
    patterns = [re.compile(re.escape(row).replace("\0", ".+").replace("\\\0", ".+")) for row in begins]
    assert any(pattern.match(warning) for pattern in patterns), warning


def test_there_are_warnings_of_three_servers() -> None:
    assert len(list(server_warnings())) >= 12
