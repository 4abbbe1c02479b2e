"""The user's function: what it is called with."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, Final, get_args, get_origin, get_type_hints

from tranship.compat.avtomatika._files import TaskFiles
from tranship.compat.avtomatika._orchestrator import OrchestratorClient
from tranship.compat.avtomatika.types import ParamValidationError
from tranship.errors import ConfigurationError

__all__ = ["GIVEN", "Handler"]

GIVEN: Final = (
    "params",
    "task_id",
    "job_id",
    "priority",
    "deadline",
    "metadata",
    "tracing_context",
    "security",
    "send_progress",
    "send_event",
    "add_to_hot_cache",
    "remove_from_hot_cache",
    "add_to_hot_skills",
    "remove_from_hot_skills",
)
"""What a handler may name; one with ``**kwargs`` gets all of it."""
_INJECTED: Final = (TaskFiles, OrchestratorClient)
"""What it gets by annotation, whatever the parameter is called."""
_STARRED: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Handler:
    """A function of ``params`` and what else it names.

    Args:
        function: ``def`` or ``async def``.
        skill: the skill's name, for messages.

    Attributes:
        function: the same.
        is_async: whether its call has to be awaited.
        injected: parameters that are annotated with a class of ours, with that class.

    Raises:
        ConfigurationError: it cannot be a handler.
    """

    def __init__(self, function: Any, skill: str) -> None:
        if not callable(function) or isinstance(function, type):
            raise ConfigurationError(f"{function!r} cannot be the handler of skill {skill!r}; expected a function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(f"the handler of skill {skill!r} is a generator; return a dict")
        self.function: Callable[..., Any] = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        hints = _hints(function)
        self.injected = {name: kind for name, hint in hints.items() if (kind := _injected(hint))}
        self._params = hints.get("params")
        parameters = inspect.signature(function).parameters
        self._wanted = self._wanted_of(skill, parameters)

    def _wanted_of(self, skill: str, parameters: Mapping[str, Parameter]) -> tuple[str, ...]:
        known = (*GIVEN, *self.injected)
        strange = [
            name
            for name, one in parameters.items()
            if one.kind is Parameter.POSITIONAL_ONLY
            or (name not in known and one.default is Parameter.empty and one.kind not in _STARRED)
        ]
        if strange:
            raise ConfigurationError(
                f"the handler of skill {skill!r} wants {', '.join(strange)}; a handler is given by name what it names "
                f"of {', '.join(GIVEN)}, or all of it with **kwargs"
            )
        if any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values()):
            return known
        return tuple(name for name in parameters if name in known)

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of ``given`` that the function is called with."""
        return {name: given[name] for name in self._wanted if name in given}

    def read(self, params: Any) -> Any:
        """Return the parameters as the function is annotated to take them.

        Raises:
            ParamValidationError: they are no dict, or not what its pydantic model or dataclass needs.
        """
        params = {} if params is None else params
        if not isinstance(params, dict):
            raise ParamValidationError(f"the task was submitted with {_a(params)}; expected one dict, its params")
        kind = self._params
        if not isinstance(kind, type):
            return params
        if hasattr(kind, "model_validate"):
            return _made(kind.model_validate, params)
        if dataclasses.is_dataclass(kind):
            names = {one.name for one in dataclasses.fields(kind) if one.init}
            return _made(lambda data: kind(**{key: value for key, value in data.items() if key in names}), params)
        return params


def _made(make: Callable[[Any], Any], params: dict[str, Any]) -> Any:
    try:
        return make(params)
    except (TypeError, ValueError) as error:
        raise ParamValidationError(f"params do not fit: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Without the values, which may be secret: pydantic would show them."""
    found = getattr(error, "errors", None)
    if not callable(found):
        return str(error)
    rows = found(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in rows)


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except Exception:  # noqa: BLE001 - an annotation may be any expression; then nothing is known of it
        return {}


def _injected(hint: Any) -> type | None:
    kinds = get_args(hint) if get_origin(hint) else (hint,)
    return next((one for one in _INJECTED if one in kinds), None)


def _a(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
