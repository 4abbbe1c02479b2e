"""The reference knows everything there is, and nothing that is not."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import tranship
from tranship.backends.memory import MemoryOptions
from tranship.cli._app import app
from tranship.cli._errors import ExitCode
from tranship.envelope import TRANSITIONS
from tranship.operations import AsyncOperator, Operator
from tranship.protocol._headers import CELERY, OWN

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def codes(text: str) -> set[str]:
    """Every word that is shown as code."""
    shown = re.findall(r"`([^`\n]+)`", text) + re.findall(r"```\w* *\n(.*?)```", text, re.DOTALL)
    return {word for one in shown for word in re.findall(r"[\w.-]+", one)}


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.md")), ids=lambda path: path.name)
def test_generated_parts_are_current(generate: ModuleType, path: Path) -> None:
    text = path.read_text("utf-8")
    assert generate.filled(text) == text, "run: python docs/reference/generate.py"


def test_every_generated_part_is_used(generate: ModuleType) -> None:
    pages = "".join(path.read_text("utf-8") for path in REFERENCE.glob("*.md"))
    used = set(re.findall(r"<!-- generated: (\S+) -->", pages))
    assert used == set(generate.parts())


def test_every_public_name_is_mentioned() -> None:
    assert set(tranship.__all__) <= codes(page("index.md"))


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (tranship.Client, "client.md"),
        (tranship.AsyncClient, "client.md"),
        (tranship.Worker, "worker.md"),
        (tranship.RetryPolicy, "tasks.md"),
        (Operator, "operations.md"),
        (AsyncOperator, "operations.md"),
    ],
)
def test_every_parameter_of_a_constructor_is_mentioned(cls: type, name: str) -> None:
    assert set(inspect.signature(cls).parameters) <= codes(page(name))


@pytest.mark.parametrize(
    ("cls", "name"), [(tranship.AsyncClient, "client.md"), (tranship.AsyncTaskHandle, "client.md")]
)
def test_every_method_of_the_asynchronous_facade_is_mentioned(cls: type, name: str) -> None:
    """Its tables are those of the blocking one."""
    assert {one for one in vars(cls) if not one.startswith("_")} <= codes(page(name))


def test_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \|", page("cli.md"), re.MULTILINE)
    assert [int(row) for row in rows] == [code.value for code in ExitCode]


def test_every_option_of_the_command_line_is_mentioned() -> None:
    known = codes(page("cli.md"))

    def options(command: Any) -> set[str]:
        shown = [one for one in command.params if not getattr(one, "hidden", False)]
        own = {name for one in shown for name in one.opts if name.startswith("-")}
        return own.union(*(options(one) for one in getattr(command, "commands", {}).values()))

    assert options(typer.main.get_command(app)) <= known


def test_every_header_is_mentioned() -> None:
    assert codes(page("wire.md")) >= CELERY | OWN


def test_states_may_follow_each_other_as_the_page_says() -> None:
    text = (DOCS / "explanation" / "delivery.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*)\|$", text, re.MULTILINE)
    said = {state: sorted(re.findall(r"[A-Z_]+", following)) for state, following in rows}
    assert said == {state.value: sorted(one.value for one in following) for state, following in TRANSITIONS.items()}


def test_defaults_that_pages_mention() -> None:
    settings = tranship.Settings.load({}, directory=DOCS)
    assert (settings.max_deliveries, settings.max_concurrent_tasks) == (5, 10)
    assert (settings.submit_timeout, settings.shutdown_timeout) == (10.0, 30.0)
    options = MemoryOptions()
    assert (options.lease, options.result_ttl, options.dedup_window) == (30.0, 86400.0, 3600.0)


def test_every_decision_is_listed() -> None:
    listed = (DOCS / "explanation" / "decisions" / "index.md").read_text("utf-8")
    for path in (DOCS / "explanation" / "decisions").glob("0*.md"):
        assert path.name in listed
        headings = re.findall(r"^## (.*)$", path.read_text("utf-8"), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Rejected"]


def test_the_layers_of_the_architecture_page_are_those_that_are_checked() -> None:
    import tomllib

    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))
    layers = next(one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    text = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| \w+ \| (`[^|]*) \|", text, re.MULTILINE)
    assert [set(re.findall(r"\w+", row)) for row in rows] == [set(re.findall(r"\w+", layer)) for layer in layers]
