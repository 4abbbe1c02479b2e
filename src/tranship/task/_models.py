"""Typed arguments: JSON-like data into the pydantic models and dataclasses that a handler is annotated with.

pydantic is imported on the first call of a task that needs it, never before. Who submits a model has it already: what
is written of the model is read back then, before anything is sent.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from inspect import BoundArguments, Parameter, Signature
from typing import Any, Final, get_args, get_origin, get_type_hints

from tranship import codec
from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.task._readback import difference
from tranship.task._readers import Read, reader
from tranship.task._returns import value_hint

__all__ = ["Models"]

log = logging.getLogger("tranship.task")

_RETURN: Final = "return"
_UNKNOWN: Final = object()
_SIMPLE: Final = frozenset({str, int, float, bool, type(None)})


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
        self.is_needed = False
        """Whether a parameter may be a model; one whose annotation is not known yet may."""
        for parameter in self._annotations:
            model = None if parameter == _RETURN else self._model(parameter)
            self.is_needed |= model is not None
            if model not in (None, _UNKNOWN) and find_spec("pydantic") is None:
                raise ConfigurationError(
                    f"parameter {parameter!r} of task {name} is annotated with "
                    f"{_shown(self._annotations[parameter])}, which pydantic makes from data: "
                    "pip install pydantic, or annotate it with dict"
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

    def written(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments with data in place of models: data that the worker's reader makes the same models of.

        Raises:
            InvalidArgumentsError: a model that its own reader would refuse, or change; nothing has been sent.
        """
        if "pydantic" not in sys.modules or _SIMPLE.issuperset(map(type, (*args, *kwargs.values()))):
            return args, kwargs  # there is no model
        return (
            tuple(self._write(self._parameter_at(index), value) for index, value in enumerate(args)),
            {name: self._write(self._parameter_named(name), value) for name, value in kwargs.items()},
        )

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
        """Return the parameter's annotation if models are in it; None: there are none; a mark: it is not known yet."""
        annotation = self._annotations.get(parameter)
        holder = types.SimpleNamespace(__annotations__={parameter: annotation})
        try:
            hint = get_type_hints(holder, globalns=self._namespace, include_extras=True)[parameter]
        except Exception as error:  # noqa: BLE001 - an annotation may be any expression
            # Perhaps declared later in the module: looked at again when it is needed. Then it has to be known.
            if last:
                log.warning("task %s: annotation %r of %s is not known: %s", self._name, annotation, parameter, error)
                return None
            return _UNKNOWN
        if parameter == _RETURN:
            hint = value_hint(hint)
        return hint if _mentions_model(hint) else None

    def _reader(self, what: str, model: Any) -> Read:
        return reader(f"{what} of task {self._name}", model)

    def _write(self, parameter: str | None, value: Any) -> Any:
        read = self._readers.get(parameter) if parameter is not None else None
        if read is None or type(value) in _SIMPLE:
            return value
        problems = []
        for by_alias in (False, True):
            try:
                data = codec.data_of(value, by_alias=by_alias)
            except Exception:  # noqa: BLE001 - a serializer of the user's own may raise anything
                return value  # the codec meets it as well, and says which part it is
            if data is value:
                return value  # no model: the caller's own data
            problem = _problem(read, value, data)
            if problem is None:
                return data
            problems.append(problem)
        raise InvalidArgumentsError(f"{problems[0]}; nothing was sent. {_ADVICE}")

    def _parameter_at(self, index: int) -> str | None:
        return self._positional[index] if index < len(self._positional) else self._rest

    def _parameter_named(self, name: str) -> str | None:
        parameter = self._signature.parameters.get(name)
        return name if parameter is not None and parameter.kind in _BY_NAME else self._extras

    @cached_property
    def _positional(self) -> list[str]:
        return [one.name for one in self._signature.parameters.values() if one.kind in _BY_POSITION]

    @cached_property
    def _rest(self) -> str | None:
        return self._only(Parameter.VAR_POSITIONAL)

    @cached_property
    def _extras(self) -> str | None:
        return self._only(Parameter.VAR_KEYWORD)

    def _only(self, kind: Any) -> str | None:
        return next((one.name for one in self._signature.parameters.values() if one.kind is kind), None)

    def _read_parameter(self, name: str, bound: BoundArguments) -> Any:
        read, value = self._readers[name], bound.arguments[name]
        kind = self._signature.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            return tuple(map(read, value))
        if kind is Parameter.VAR_KEYWORD:
            return {key: read(item) for key, item in value.items()}
        return read(value)


_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_ADVICE: Final = (
    "Give the model a serializer and a validator that fit each other, or send plain data (model.model_dump(...))"
)


def _problem(read: Read, value: Any, data: Any) -> str | None:
    """Return why ``data``, written of ``value``, cannot be sent in its place, or None."""
    try:
        back = read(data)
    except InvalidArgumentsError as error:
        return f"{error}: so says its reader of what is written of a {type(value).__name__}"
    where = difference(value, back)
    return None if where is None else f"{read.what}: {where}"


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
    marks = ("__pydantic_core_schema__", "get_secret_value")
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or any(hasattr(hint, mark) for mark in marks))


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
