"""The arguments of a task whose arguments are one model: its fields travel as keyword arguments."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from inspect import Parameter, signature
from typing import Any, get_type_hints

from tranship import codec
from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.task._arguments import Args, Kwargs, Result
from tranship.task._dependencies import Depends, dependencies_of
from tranship.task._options import Validation
from tranship.task._readers import Read, reader
from tranship.task._returns import value_hint
from tranship.task._written import plain_parts, written

__all__ = ["ModelArguments"]


class ModelArguments:
    """Of a class task.

    Args:
        name: the task's.
        model: a pydantic model or a dataclass.
        run: the method that takes it.
        validation: ``"strict"``: what arrives is not converted.

    Raises:
        ConfigurationError: ``model`` is neither, or ``run`` does not take just one argument and dependencies.
    """

    def __init__(self, name: str, model: type, run: Callable[..., Any], validation: Validation) -> None:
        self.model = model
        self._name = name
        self._validation = validation
        self._run = run
        self.fields: list[str] = _fields(name, model)
        self.sends: Callable[..., bool] = _always
        self.takes: Callable[..., bool] = _always
        self.dependencies: Mapping[str, Depends] = dependencies_of(f"task {name}", run, signature(run))
        """What the worker provides, by parameter of ``run``."""
        self.places: tuple[int, Sequence[str]] = (1, ())
        """The model comes first."""
        _check_run(name, run, self.dependencies)

    def misfit(self, _args: Args, _kwargs: Kwargs, error: TypeError) -> InvalidArgumentsError:
        """Return the error for a call that :meth:`sends` refused, which it never does."""
        return InvalidArgumentsError(f"the arguments do not fit task {self._name}: {error}")

    def written(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return the fields of the model as keyword arguments; the model, or its fields, may be given.

        Raises:
            InvalidArgumentsError: they do not make up the model, or it cannot be read back.
        """
        if len(args) == 1 and not kwargs and isinstance(args[0], self.model):
            data = written(args[0], self._read)
        else:
            given = self._by_field(args, kwargs)
            self._check_names(given)
            data = written(given, self._read)
        if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
            raise InvalidArgumentsError(
                f"{self.model.__qualname__} of task {self._name} is not written as an object with its fields, "
                "which travel as keyword arguments"
            )
        return (), plain_parts(data)

    def written_after(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return the fields behind the first one as keyword arguments; what they hold is checked when all are there."""
        given = self._by_field((None, *args), kwargs)
        self._check_names(given)
        del given[self.fields[0]]
        return (), plain_parts({name: codec.data_of(value) for name, value in given.items()})

    @property
    def first_hint(self) -> Any:
        """How the first field is annotated: nobody is held to it before all are there."""
        return Parameter.empty

    def made(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return the model that the handler is called with.

        Raises:
            InvalidArgumentsError: the arguments do not make it up.
        """
        return (self._read(self._by_field(args, kwargs)),), {}

    def result(self, value: Any) -> Any:
        """Return a result as ``run`` is annotated to return it."""
        return self._result.read(value)

    def result_written(self, value: Any) -> Any:
        """Return what is stored of a result."""
        return self._result.written(value)

    # Steps.

    def _by_field(self, args: Args, kwargs: Kwargs) -> dict[str, Any]:
        if len(args) > len(self.fields):
            raise InvalidArgumentsError(
                f"the arguments do not fit task {self._name}: it takes {len(self.fields)} "
                f"({', '.join(self.fields)}), {len(args)} were given"
            )
        given = dict(zip(self.fields, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise InvalidArgumentsError(
                f"the arguments do not fit task {self._name}: multiple values for {', '.join(sorted(twice))}"
            )
        return {**given, **kwargs}

    def _check_names(self, given: Mapping[str, Any]) -> None:
        """Refuse what the model would ignore: a caller means something by it."""
        unknown = [name for name in given if name not in self._names]
        if unknown and not self._takes_more:
            raise InvalidArgumentsError(
                f"the arguments do not fit task {self._name}: {self.model.__qualname__} has no "
                f"{', '.join(map(repr, unknown))}; it has {', '.join(self.fields) or 'no fields'}"
            )

    @cached_property
    def _names(self) -> frozenset[str]:
        found = getattr(self.model, "model_fields", {})
        aliases = [one for field in found.values() for one in (field.alias, field.validation_alias)]
        return frozenset([*self.fields, *(one for one in aliases if isinstance(one, str))])

    @cached_property
    def _takes_more(self) -> bool:
        found = getattr(self.model, "model_fields", {})
        complicated = any(not isinstance(one.validation_alias, str | None) for one in found.values())
        return complicated or getattr(self.model, "model_config", {}).get("extra") is not None

    @cached_property
    def _read(self) -> Read:
        return reader(f"the arguments of task {self._name}", self.model, strict=self._validation == "strict")

    @cached_property
    def result_hint(self) -> Any:
        """What ``run`` is annotated to return."""
        annotation = signature(self._run).return_annotation
        if annotation is Parameter.empty:
            return annotation
        holder = types.SimpleNamespace(__annotations__={"return": annotation})
        try:
            return value_hint(get_type_hints(holder, globalns=self._run.__globals__, include_extras=True)["return"])
        except Exception:  # noqa: BLE001 - an annotation may be any expression
            return Parameter.empty

    @cached_property
    def _result(self) -> Result:
        return Result(self._name, self.result_hint, looks=self._validation != "off")


def _always(*_args: Any, **_kwargs: Any) -> bool:
    return True


def _fields(name: str, model: Any) -> list[str]:
    if dataclasses.is_dataclass(model):
        return [one.name for one in dataclasses.fields(model) if one.init]
    fields = getattr(model, "model_fields", None)
    if fields is None or not hasattr(model, "__pydantic_serializer__"):
        raise ConfigurationError(f"Args of task {name} is {model!r}; expected a pydantic model or a dataclass")
    return list(fields)


def _check_run(name: str, run: Callable[..., Any], dependencies: Mapping[str, Depends]) -> None:
    problem = None
    try:
        signature(run).bind(object(), object(), **dependencies)
    except TypeError as error:
        problem = str(error)
    if problem:
        raise ConfigurationError(f"run of task {name} has to take self and args, and dependencies: {problem}")
