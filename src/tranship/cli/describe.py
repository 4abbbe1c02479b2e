"""``tranship describe``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tranship.cli._invocation import Invocation, command
from tranship.cli.schema import Targets, document_of

__all__ = ["run"]


@command()
def run(call: Invocation, targets: Targets) -> None:
    """Show the tasks of modules: their names, queues, arguments and results. With --json their JSON Schemas."""
    tasks = document_of(targets)["tasks"]
    if call.json:
        call.output.json(list(tasks.values()))
        return
    columns = ["task", "queue", "arguments", "result", "options"]
    call.output.table(columns, map(_row, tasks.values()))


def _row(task: Mapping[str, Any]) -> list[str]:
    options = ", ".join(f"{name}={_option(value)}" for name, value in task["options"].items())
    return [task["name"], task["queue"], ", ".join(_arguments(task["args"])), _type(task["result"]), options]


def _option(value: Any) -> str:
    # A retry policy, of which the table says how often.
    return f"{value['max_attempts']} attempts" if isinstance(value, Mapping) else str(value)


def _arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    for name, one in schema.get("properties", {}).items():
        default = f" = {one['default']!r}" if "default" in one else "" if name in required else " = ..."
        yield f"{name}: {_type(one)}{default}"
    if more := schema.get("x-more-positional"):
        yield f"*: {_type(more)}"
    if schema.get("additionalProperties", False) is not False:
        yield f"**: {_type(schema['additionalProperties'])}"


def _type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(map(_type, branches))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema or "const" in schema:
        return " | ".join(map(repr, schema.get("enum") or [schema["const"]]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    kind = schema.get("type")
    return str(schema.get("format") or (schema.get("title") if kind == "object" else kind) or kind or "any")
