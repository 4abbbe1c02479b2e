"""What a handler is given by its worker instead of by its caller: parameters that are annotated with ``Depends``."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from tranship.checks import one_of
from tranship.errors import ConfigurationError, InvalidOptionError

__all__ = ["PROVIDED", "Depends", "dependencies_of", "name_of", "without"]

Scope = Literal["task", "worker"]
"""How long a value lives: for one attempt of a task, or as long as the worker works."""

_NO_NAME: Final = (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class _Provided:
    def __repr__(self) -> str:
        return "PROVIDED"


PROVIDED: Final[Any] = _Provided()
"""A default for parameters that the worker provides: type checkers then take calls without them."""


class Depends:
    """Says in an annotation where a value comes from: ``db: Annotated[Db, Depends(get_db)]``.

    Args:
        provider: what gives the value: a function, ``def`` or ``async def``, a generator of either kind that yields it
            once and cleans up after that, a class, or another callable. Its parameters are dependencies, too.
        scope: ``"task"``: one value for each attempt of a task; ``"worker"``: one for all that the worker does.

    Raises:
        InvalidOptionError: something that cannot be called, or has no hash, or another scope.
    """

    __slots__ = ("provider", "scope")

    def __init__(self, provider: Callable[..., Any], *, scope: Scope = "task") -> None:
        if not callable(provider):
            raise InvalidOptionError(f"Depends has {provider!r}; expected a function, a generator function or a class")
        try:
            hash(provider)
        except TypeError:
            raise InvalidOptionError(f"Depends has {name_of(provider)}, which has no hash to be known by") from None
        self.provider: Callable[..., Any] = provider
        self.scope: Scope = one_of("scope", scope, get_args(Scope))

    def __repr__(self) -> str:
        return f"Depends({name_of(self.provider)}, scope={self.scope!r})"


def name_of(function: Any) -> str:
    """Return ``module.qualname``; of an object its class's: what is in it may be secret."""
    while isinstance(function, functools.partial):
        function = function.func
    known = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(known, "__module__", None)
    return f"{module}.{known.__qualname__}" if module else str(known.__qualname__)


def dependencies_of(what: str, function: Callable[..., Any], signature: Signature) -> Mapping[str, Depends]:
    """Return the dependencies of a function by parameter.

    Args:
        what: says in errors whose they are.
        function: a task's function, or a provider.
        signature: its.

    Raises:
        ConfigurationError: one that is not annotated, whose annotation is not known, or that cannot be given by name.
    """
    found: dict[str, Depends] = {}
    rest = next((one.name for one in signature.parameters.values() if one.kind is Parameter.VAR_POSITIONAL), None)
    for name, parameter in signature.parameters.items():
        if isinstance(parameter.default, Depends):
            raise ConfigurationError(
                f"parameter {name!r} of {what} has {parameter.default!r} as its default; "
                f"annotate it instead: {name}: Annotated[..., Depends(...)]"
            )
        depends = _of(name, parameter.annotation, what, function)
        if depends is None and parameter.default is PROVIDED:
            raise ConfigurationError(
                f"parameter {name!r} of {what} has the default PROVIDED, and nothing says by what; "
                f"annotate it: {name}: Annotated[..., Depends(...)]"
            )
        if depends is None:
            continue
        if parameter.kind in _NO_NAME or (rest and parameter.kind is not Parameter.KEYWORD_ONLY):
            raise ConfigurationError(
                f"parameter {name!r} of {what} is a dependency, which is given by name, and it cannot be: "
                f"put it after a * or after *{rest or 'args'}"
            )
        found[name] = depends
    return found


def without(signature: Signature, names: Mapping[str, Any]) -> Signature:
    """Return the signature that callers see: without what the worker provides."""
    if not names:
        return signature
    return signature.replace(parameters=[one for name, one in signature.parameters.items() if name not in names])


def _of(name: str, annotation: Any, what: str, function: Any) -> Depends | None:
    if isinstance(annotation, str):
        annotation = _resolved(name, annotation, what, function)
    marks = [one for one in getattr(annotation, "__metadata__", ()) if _is_mark(one)]
    if get_origin(annotation) is not Annotated and _is_inside(annotation):
        raise ConfigurationError(
            f"parameter {name!r} of {what} has Depends inside of {annotation!r}; "
            "it has to be outermost: Annotated[..., Depends(...)]"
        )
    if not marks:
        return None
    if len(marks) > 1 or not isinstance(marks[0], Depends):
        raise ConfigurationError(
            f"parameter {name!r} of {what} is annotated with {marks}; expected one Depends, with a provider: Depends(f)"
        )
    return marks[0]


def _is_mark(one: Any) -> bool:
    return one is Depends or isinstance(one, Depends)


def _is_inside(annotation: Any) -> bool:
    return any(any(map(_is_mark, getattr(one, "__metadata__", ()))) or _is_inside(one) for one in get_args(annotation))


def _resolved(name: str, annotation: str, what: str, function: Any) -> Any:
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    try:
        return get_type_hints(holder, globalns=_globals_of(function), include_extras=True)[name]
    except Exception as error:
        if "Depends" not in annotation:
            # An argument, then; whoever checks arguments says that its annotation is not known.
            return None
        raise ConfigurationError(
            f"parameter {name!r} of {what} is annotated with {annotation!r}, which is not known: {error}; "
            "what a dependency is annotated with has to be at the top level of the module when it runs"
        ) from error


def _globals_of(function: Any) -> dict[str, Any]:
    """The names that its annotations are made of."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if isinstance(function, type):
        function = next(vars(one)["__init__"] for one in function.__mro__ if "__init__" in vars(one))
    elif not hasattr(function, "__globals__"):
        function = type(function).__call__
    found: dict[str, Any] = getattr(function, "__globals__", {})
    return found
