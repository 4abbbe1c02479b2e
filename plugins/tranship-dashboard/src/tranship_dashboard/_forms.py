"""A form for a task, made of its JSON Schema, and the arguments out of what was filled in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tranship.errors import InvalidArgumentsError

__all__ = ["OPTIONS", "Field", "arguments", "fields_of", "options", "whole_json"]

PREFIX: Final = "arg:"
"""Before the names of fields for arguments."""
_TYPES: Final = {"integer": "number", "number": "number", "boolean": "boolean", "string": "text"}
LONG: Final = ("description", "text", "body", "content", "message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One argument."""

    name: str
    kind: str
    """``text``, ``long``, ``number``, ``boolean``, ``choice`` or ``json``."""
    step: str = "any"
    required: bool = False
    nullable: bool = False
    value: str = ""
    """What stands there at first."""
    choices: Sequence[tuple[str, str]] = ()
    """Each as JSON, and as it is shown."""
    hint: str = ""
    about: str = ""

    @property
    def field(self) -> str:
        """What it is called in the form."""
        return PREFIX + self.name


def fields_of(description: Mapping[str, Any]) -> list[Field]:
    """Return the fields of a task that is described."""
    schema = description.get("args") or {}
    required = set(schema.get("required", ()))
    definitions = schema.get("$defs", {})
    properties = schema.get("properties", {})
    return [_field(name, one, definitions, required=name in required) for name, one in properties.items()]


def _field(name: str, schema: Any, definitions: Mapping[str, Any], *, required: bool) -> Field:
    resolved = _resolved(schema, definitions)
    plain, nullable = _without_null(resolved, definitions)
    kind = _kind(name, plain)
    default = resolved.get("default", plain.get("default"))
    values = plain.get("enum", [plain["const"]] if "const" in plain else [])
    choices = [(json.dumps(one), one if isinstance(one, str) else json.dumps(one)) for one in values]
    return Field(
        name=name,
        kind=kind,
        step="1" if plain.get("type") == "integer" else "any",
        required=required,
        nullable=nullable,
        value=_shown(default, kind) if "default" in resolved or "default" in plain else "",
        choices=choices,
        hint=_hint(plain, nullable=nullable),
        about=str(resolved.get("description", plain.get("description", ""))),
    )


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "choice"
    kind = schema.get("type")
    found = _TYPES.get(kind) if isinstance(kind, str) else None
    if found == "text" and any(word in name.lower() for word in LONG):
        return "long"
    return found or "json"


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = definitions.get(reference.rpartition("/")[2], {})
        return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return dict(schema)


def _without_null(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    branches = schema.get("anyOf")
    if not isinstance(branches, list):
        return schema, schema.get("type") == "null"
    others = [one for one in branches if one != {"type": "null"}]
    if len(others) == 1:
        return _resolved(others[0], definitions), len(others) < len(branches)
    return {}, len(others) < len(branches)


def _hint(schema: Mapping[str, Any], *, nullable: bool) -> str:
    kind = schema.get("format") or schema.get("type") or "any JSON value"
    if kind == "array":
        kind = "a JSON array"
    elif kind == "object":
        kind = f"a JSON object ({schema['title']})" if isinstance(schema.get("title"), str) else "a JSON object"
    return f"{kind}, or empty for none" if nullable else str(kind)


def _shown(default: Any, kind: str) -> str:
    if default is None:
        return ""
    if kind in ("text", "long") and isinstance(default, str):
        return default
    return json.dumps(default)


def arguments(fields: Sequence[Field], form: Mapping[str, str]) -> dict[str, Any]:
    """Return the keyword arguments that were filled in; a field that was left empty is left out, unless it is required.

    Raises:
        InvalidArgumentsError: what was filled in is no such value; the text says in which field.
    """
    found: dict[str, Any] = {}
    for field in fields:
        text = form.get(field.field, "")
        if field.kind == "boolean":
            found[field.name] = text == "true"
        elif text.strip() or (field.required and field.kind in ("text", "long") and not field.nullable):
            found[field.name] = _value(field, text)
        elif field.required and field.nullable:
            found[field.name] = None
        elif field.required:
            raise InvalidArgumentsError(f"{field.name} is empty; expected {field.hint}")
    return found


def _value(field: Field, text: str) -> Any:
    if field.kind in ("text", "long"):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidArgumentsError(f"{field.name} is {text[:200]!r}; expected {field.hint}, as JSON") from None
    if field.kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InvalidArgumentsError(f"{field.name} is {text[:200]!r}; expected a number")
    return value


OPTIONS: Final = ("queue", "priority", "delay", "deadline_in", "cancel_key", "dedup_key")


def options(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that were filled in.

    Raises:
        InvalidArgumentsError: a time that is no number.
    """
    given: dict[str, Any] = {name: form[name].strip() for name in OPTIONS if form.get(name, "").strip()}
    for name in ("delay", "deadline_in"):
        if name in given:
            try:
                given[name] = float(given[name])
            except ValueError:
                raise InvalidArgumentsError(f"{name} is {given[name]!r}; expected seconds, as a number") from None
    return given


def whole_json(text: str, what: str, kind: type, empty: Any) -> Any:
    """Return the JSON value of a text area; raise InvalidArgumentsError where it is no ``kind``."""
    if not text.strip():
        return empty
    value: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
    if not isinstance(value, kind):
        noun = "array, such as [1, 2]" if kind is list else 'object, such as {"width": 640}'
        raise InvalidArgumentsError(f"{what} is {text[:200]!r}; expected a JSON {noun}")
    return value
