"""Hypothesis strategies for tasks: arguments from a task's signature, as its annotations and models allow them.

::

    @given(calls(resize))
    def test_whatever_is_submitted_runs(call): ...

    @given(arguments(total))
    def test_a_total_is_never_negative(given):
        args, kwargs = given
        assert total(*args, **kwargs) >= 0

It takes ``pip install 'tranship[testing]'``: hypothesis and pydantic.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from inspect import Parameter
from typing import Any, Final, TypeVar

import hypothesis
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.task import FunctionArguments, ModelArguments, Task, TaskCall, task_of, understood
from tranship.testing._from_schema import CHARACTERS, SCALARS, WHOLE, from_schema, matching

__all__ = ["arguments", "calls"]

R = TypeVar("R")

Given = tuple[tuple[Any, ...], dict[str, Any]]
_PLAIN: Final[Mapping[Any, st.SearchStrategy[Any]]] = {
    Parameter.empty: SCALARS,
    Any: SCALARS,
    int: WHOLE,
    # JSON of other languages has no NaN.
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(CHARACTERS),
    bytes: st.binary(),
}
_MOST: Final = 4
"""How many of ``*args`` and of ``**kwargs`` are made up at most."""


def arguments(task: Task[..., Any], /, **own: st.SearchStrategy[Any]) -> st.SearchStrategy[Given]:
    """Return a strategy of arguments that ``task`` takes: a tuple and a dict, to call it with.

    Arguments that have a default are sometimes left out. They keep to what annotations and pydantic's fields demand.

    Args:
        task: made of a function, or of a class.
        **own: strategies for single arguments, by name, instead of those that their annotation gives.

    Raises:
        ConfigurationError: the task is defined elsewhere, or has no such argument, or one that needs a strategy.
    """
    task = task_of(task)
    taken = task.arguments
    if isinstance(taken, ModelArguments):
        _check_names(task, own, ())
        return _of_hint(task, "its model", taken.model).map(lambda model: ((model,), {}))
    if not isinstance(taken, FunctionArguments):
        raise ConfigurationError(f"task {task.name} is defined elsewhere, and nothing is known of its arguments")
    _check_names(task, own, taken.signature.parameters)
    parts: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, parameter in taken.signature.parameters.items():
        strategy = own.get(name)
        if strategy is None:
            strategy = _several(parameter, _of_hint(task, name, taken.hints.get(name, Parameter.empty)))
        by_name = parameter.kind in (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        (optional if by_name and parameter.default is not Parameter.empty else parts)[name] = strategy
    return st.fixed_dictionaries(parts, optional=optional).map(lambda found: _given(taken, found))


@st.composite
def calls(draw: st.DrawFn, task: Task[..., R], /, **own: st.SearchStrategy[Any]) -> TaskCall[R]:
    """Return a strategy of calls for ``submit`` and ``submit_many``, as :meth:`Task.call` makes them.

    Args:
        draw: hypothesis gives it.
        task: made of a function, or of a class.
        **own: as for :func:`arguments`.
    """
    task = task_of(task)
    args, kwargs = draw(arguments(task, **own))
    try:
        return task.call(*args, **kwargs)
    except InvalidArgumentsError:
        # A validator of the task's own refuses it.
        hypothesis.reject()


def _of_hint(task: Task[..., Any], name: str, hint: Any) -> st.SearchStrategy[Any]:
    try:
        if hint in _PLAIN:
            return _PLAIN[hint]
    except TypeError:
        pass  # an annotation that cannot be looked up, as it has a list in it
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(understood(hint))
        schema = adapter.json_schema(by_alias=True)
    except PydanticUserError:
        return st.from_type(hint)
    if schema in ({}, {"type": "object"}):
        raise ConfigurationError(
            f"{name} of task {task.name} is annotated with {hint!r}, which says too little: give a strategy, {name}=..."
        )
    return _read(from_schema(schema), adapter)


def _read(data: st.SearchStrategy[Any], adapter: TypeAdapter[Any]) -> st.SearchStrategy[Any]:
    """Return what pydantic makes of ``data``, of which JSON Schema cannot say everything."""

    @st.composite
    def read(draw: st.DrawFn) -> Any:
        try:
            return adapter.validate_python(draw(data))
        except (ValidationError, OverflowError):
            hypothesis.reject()

    return read()


def _several(parameter: Parameter, one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return st.lists(one, max_size=_MOST)
    if parameter.kind is Parameter.VAR_KEYWORD:
        names = matching(r"more_[a-z0-9_]{1,10}").filter(lambda name: not keyword.iskeyword(name))
        return st.dictionaries(names, one, max_size=_MOST)
    return one


def _given(taken: FunctionArguments, found: Mapping[str, Any]) -> Given:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    parameters = taken.signature.parameters
    # What comes before *args goes by position, or they would be taken for it.
    before = any(one.kind is Parameter.VAR_POSITIONAL and found.get(name) for name, one in parameters.items())
    for name, parameter in parameters.items():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            args += found[name]
        elif parameter.kind is Parameter.VAR_KEYWORD:
            kwargs |= found[name]
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            args.append(found[name])
        elif parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and before:
            args.append(found.get(name, parameter.default))
        elif name in found:
            kwargs[name] = found[name]
    return tuple(args), kwargs


def _check_names(task: Task[..., Any], own: Mapping[str, Any], known: Any) -> None:
    if unknown := [name for name in own if name not in known]:
        raise ConfigurationError(
            f"task {task.name} has no argument {unknown[0]!r} to give a strategy for; "
            f"it has {', '.join(known) or 'none'}"
        )
