"""Typed arguments: JSON-like data into the pydantic models and dataclasses that a handler is annotated with.

pydantic is imported on the first call of a task that needs it, never before.
"""

from __future__ import annotations

import dataclasses
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Final, get_args, get_origin, get_type_hints

from tranship.errors import ConfigurationError, InvalidArgumentsError

__all__ = ["Models"]

log = logging.getLogger("tranship.task")

_RETURN: Final = "return"

Read = Callable[[Any], Any]


class Models:
    """Which of a function's parameters are models, and how they are made from data.

    Raises:
        ConfigurationError: a parameter is a model and pydantic is not installed.
    """

    def __init__(self, name: str, function: Callable[..., Any], signature: Signature) -> None:
        self._name = name
        self._signature = signature
        self._namespace = getattr(function, "__globals__", {})
        self._annotations = _annotations(signature)
        for parameter in self._annotations:
            if parameter != _RETURN and self._model(parameter) is not None and find_spec("pydantic") is None:
                raise ConfigurationError(
                    f"parameter {parameter!r} of task {name} is annotated with "
                    f"{_shown(self._annotations[parameter])}, which pydantic makes from data: "
                    "pip install 'tranship[pydantic]', or annotate it with dict"
                )

    def coerce(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments with models made of data where models are expected.

        Raises:
            InvalidArgumentsError: data that is no such model; the message names the parameter and the field.
        """
        if not self._readers:
            return args, kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(f"the arguments do not fit task {self._name}: {error}") from None
        for name in self._readers.keys() & bound.arguments.keys():
            bound.arguments[name] = self._read_parameter(name, bound)
        return bound.args, bound.kwargs

    def coerce_result(self, value: Any) -> Any:
        """Return ``value`` as what the function is annotated to return.

        Raises:
            InvalidArgumentsError: data that is no such model.
        """
        return self._result_reader(value) if self._result_reader else value

    @cached_property
    def _readers(self) -> Mapping[str, Read]:
        return {
            name: self._reader(f"argument {name!r}", model)
            for name in self._annotations
            if name != _RETURN and (model := self._model(name, last=True)) is not None
        }

    @cached_property
    def _result_reader(self) -> Read | None:
        model = self._model(_RETURN, last=True)
        if model is None or find_spec("pydantic") is None:
            return None
        return self._reader("the result", model)

    def _model(self, parameter: str, *, last: bool = False) -> Any:
        """Return the parameter's annotation if models are in it."""
        annotation = self._annotations.get(parameter)
        holder = types.SimpleNamespace(__annotations__={parameter: annotation})
        try:
            hint = get_type_hints(holder, globalns=self._namespace, include_extras=True)[parameter]
        except Exception as error:  # noqa: BLE001 - an annotation may be any expression
            # Perhaps declared later in the module: looked at again when it is needed. Then it has to be known.
            if last:
                log.warning("task %s: annotation %r of %s is not known: %s", self._name, annotation, parameter, error)
            return None
        return hint if _mentions_model(hint) else None

    def _reader(self, what: str, model: Any) -> Read:
        what = f"{what} of task {self._name}"
        try:
            from pydantic import TypeAdapter

            adapter = TypeAdapter(model)
        except Exception as error:
            raise InvalidArgumentsError(f"{what} cannot be made of data by pydantic: {error}") from error

        def read(value: Any) -> Any:
            try:
                return adapter.validate_python(value)
            except Exception as error:  # a validator of the user's own may raise anything
                raise InvalidArgumentsError(f"{what}: {_reasons(error)}") from error

        return read

    def _read_parameter(self, name: str, bound: BoundArguments) -> Any:
        read, value = self._readers[name], bound.arguments[name]
        kind = self._signature.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            return tuple(map(read, value))
        if kind is Parameter.VAR_KEYWORD:
            return {key: read(item) for key, item in value.items()}
        return read(value)


def _annotations(signature: Signature) -> dict[str, Any]:
    given = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    given[_RETURN] = signature.return_annotation
    return {name: annotation for name, annotation in given.items() if annotation is not Parameter.empty}


def _mentions_model(hint: Any) -> bool:
    if isinstance(hint, list):  # the parameters of a Callable
        return any(map(_mentions_model, hint))
    return _is_model(hint) or _is_model(get_origin(hint)) or any(map(_mentions_model, get_args(hint)))


def _is_model(hint: Any) -> bool:
    # A pydantic model is recognised by what pydantic writes into it, without importing pydantic.
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "__pydantic_core_schema__"))


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _reasons(error: Exception) -> str:
    """The field and the reason of each error, without the values: they may be secret."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in found)
