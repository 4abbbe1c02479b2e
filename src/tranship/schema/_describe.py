"""A task as data: its name, its queue, its options, and the JSON Schemas of its arguments and its result."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from inspect import Parameter, cleandoc
from typing import Any, Final

from tranship.errors import ConfigurationError
from tranship.retry import RetryPolicy
from tranship.task import FunctionArguments, ModelArguments, Task, TaskOptions, understood

__all__ = ["VERSION", "describe", "document"]

VERSION: Final = 1
"""Of the document's form."""

_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN: Final = (str, int, float, bool)


def document(tasks: Iterable[Task[..., Any]]) -> dict[str, Any]:
    """Return the descriptions of ``tasks`` as one document, ordered by name.

    Raises:
        ConfigurationError: pydantic, which makes JSON Schemas, is not installed; or two tasks have one name.
    """
    described: dict[str, Any] = {}
    for task in tasks:
        one = describe(task)
        if described.setdefault(task.name, one) != one:
            raise ConfigurationError(f"two tasks are named {task.name!r}; give one of them another name")
    return {"tranship_schema": VERSION, "tasks": dict(sorted(described.items()))}


def describe(task: Task[..., Any]) -> dict[str, Any]:
    """Return what is known of ``task``: ``name``, ``queue``, ``doc``, ``options`` that are not the default, ``args``
    (the JSON Schema of an object with the arguments by name), ``positional`` (the names of those that may be given by
    position, in order) and ``result`` (the JSON Schema of the result).

    Raises:
        ConfigurationError: pydantic, which makes JSON Schemas, is not installed.
    """
    args, positional, result = _schemas(task)
    return {
        "name": task.name,
        "queue": task.options_set.queue,
        "doc": cleandoc(task.function.__doc__ or "") if task.function is not None else "",
        "options": {**_options(task.options_set), **_of_workers(task)},
        "args": args,
        "positional": positional,
        "result": result,
    }


def _schemas(task: Task[..., Any]) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    arguments = task.arguments
    if isinstance(arguments, ModelArguments):
        return _schema(arguments.model), list(arguments.fields), _schema(arguments.result_hint, result=True)
    if isinstance(arguments, FunctionArguments):
        return _of_function(arguments)
    return {"type": "object"}, [], {}


def _of_function(arguments: FunctionArguments) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    parameters, hints = arguments.signature.parameters, arguments.hints
    properties: dict[str, Any] = {}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    required, positional = [], []
    definitions: dict[str, Any] = {}
    for name, parameter in parameters.items():
        one = _hoisted(_schema(hints.get(name, Parameter.empty)), definitions)
        if parameter.kind is Parameter.VAR_KEYWORD:
            schema["additionalProperties"] = one or True
        elif parameter.kind is Parameter.VAR_POSITIONAL:
            schema["x-more-positional"] = one or True
        else:
            properties[name] = _with_default(one, parameter.default)
            required += [name] if parameter.default is Parameter.empty else []
            positional += [name] if parameter.kind in _BY_POSITION else []
    if required:
        schema["required"] = required
    if definitions:
        schema["$defs"] = definitions
    return schema, positional, _schema(hints.get("return", Parameter.empty), result=True)


def _hoisted(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Move the definitions of a part to those of the whole, which references are looked up in."""
    own = schema.pop("$defs", {})
    free = {name: _free(name, own[name], definitions) for name in own}
    text = json.dumps([schema, {free[name]: one for name, one in own.items()}])
    for name, other in free.items():
        text = text.replace(f'"#/$defs/{name}"', f'"#/$defs/{other}"')
    schema, own = json.loads(text)
    definitions.update(own)
    return schema


def _free(name: str, definition: Any, taken: dict[str, Any]) -> str:
    while name in taken and taken[name] != definition:
        name += "_"
    return name


def _with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    # A secret of the code's is nobody's business: only what is plainly data is shown.
    return {**schema, "default": default} if default is None or type(default) in _PLAIN else schema


def _schema(hint: Any, *, result: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of ``hint``; nothing, where there is none."""
    if hint is Parameter.empty:
        return {}
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError:
        raise ConfigurationError(
            "JSON Schemas are made by pydantic, which is not installed: pip install 'tranship[pydantic]'"
        ) from None
    mode: Any = "serialization" if result else "validation"
    try:
        return TypeAdapter(understood(hint)).json_schema(by_alias=False, mode=mode)
    except PydanticUserError:
        return {}  # a type that JSON Schema has no words for


def _options(options: TaskOptions) -> Mapping[str, Any]:
    """Those that differ from the default, as data."""
    default = TaskOptions()
    found = {}
    for part in fields(options):
        value = getattr(options, part.name)
        if part.name not in ("queue", "headers") and value != getattr(default, part.name):
            found[part.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, RetryPolicy):
        return value.to_dict()
    return value if type(value) in _PLAIN else getattr(value, "label", None) or repr(value)


def _of_workers(task: Task[..., Any]) -> Mapping[str, Any]:
    """Options that stay with the worker, where they are set."""
    found: dict[str, Any] = {"task_type": task.task_type, "isolation": task.isolation}
    if (batching := task.batching) is not None:
        found |= {"batch": batching.size, "within": batching.within}
    if (prefers := task.prefers) is not None and not callable(prefers.what):
        found |= {"prefers": list(prefers.what), "prefers_within": prefers.within}
    return {name: value for name, value in found.items() if value is not None}
