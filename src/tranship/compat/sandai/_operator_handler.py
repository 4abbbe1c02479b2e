"""The user's function: what it is called with, and what its return value means."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Final, get_args, get_origin, get_type_hints

from tranship.compat.sandai._operator_answers import succeeded
from tranship.compat.sandai._operator_call import OperatorCall
from tranship.compat.sandai._operator_errors import ArtifactsError, OptionsError, ResultsError
from tranship.compat.sandai._operator_shape import Shape
from tranship.errors import ConfigurationError

__all__ = ["Handler"]

_KNOWN: Final = ("artifacts", "options", "call")
_NAMED: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Handler:
    """A function of ``artifacts``, ``options`` and ``call``, of those that it names.

    Args:
        function: ``def`` or ``async def``; returns ``(artifacts, results)``, only the results, or None.
        options: what the options are made into; None: the annotation of that parameter.
        results: what the results have to be; None: as the function is annotated.

    Raises:
        ConfigurationError: a function that cannot be a handler, or annotations that cannot be used.
    """

    def __init__(self, function: Callable[..., Any], *, options: Any = None, results: Any = None) -> None:
        self.function: Callable[..., Any] = function
        self.is_async = _is_async(function)
        self._wanted = _wanted(function)
        hints = _hints(function, given=options is not None and results is not None)
        out = _returned(hints.get("return"))
        self.options = Shape("options", options if options is not None else hints.get("options"), OptionsError)
        self.results = Shape("results", results if results is not None else out[1], ResultsError)
        self._sent = Shape("artifacts", hints.get("artifacts"), ArtifactsError)
        self._returned = Shape("returned artifacts", out[0], ArtifactsError)

    def __call__(self, call: OperatorCall) -> Any:
        """Call the function; what it returns may have to be awaited.

        Raises:
            OptionsError, ArtifactsError: what was sent does not fit.
        """
        given = {
            "artifacts": self._sent.read(call.artifacts),
            "options": self.options.read(call.options),
            "call": call,
        }
        return self.function(**{name: given[name] for name in self._wanted})

    def answer(self, value: Any) -> dict[str, Any]:
        """Return the envelope of what the function returned.

        Raises:
            ResultsError, ArtifactsError: it returned something else than it promised.
        """
        artifacts, results = value if type(value) is tuple and len(value) == 2 else ([], value)
        artifacts = [] if artifacts is None else self._returned.write(artifacts)
        if not isinstance(artifacts, list | tuple):
            raise ArtifactsError(f"the handler returned artifacts of type {type(artifacts).__name__}; expected a list")
        return succeeded(artifacts, self._results(results))

    def _results(self, results: Any) -> Any:
        if results is None and self.results.is_free:
            return {}
        written = self.results.write(results)
        if isinstance(written, list | tuple | str | bytes | bool | int | float):
            raise ResultsError(
                f"the handler returned results of type {type(results).__name__}; expected a map or a model, or "
                "(artifacts, results)"
            )
        return written

    async def finish(self, value: Awaitable[Any]) -> dict[str, Any]:
        """The same, for what has to be awaited."""
        return self.answer(await value)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _wanted(function: Any) -> Sequence[str]:
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(f"{function!r} cannot handle an operator's calls; expected a function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{function!r} is a generator, and a call has one answer; return the results")
    parameters = inspect.signature(function).parameters.values()
    wanted = [one.name for one in parameters if one.name in _KNOWN and one.kind in _NAMED]
    strange = [one.name for one in parameters if one.name not in wanted and _is_needed(one)]
    if strange:
        raise ConfigurationError(
            f"{function!r} wants {', '.join(strange)}; a handler is given those that it names of {', '.join(_KNOWN)}"
        )
    return wanted


def _is_needed(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty and parameter.kind not in (
        Parameter.VAR_POSITIONAL,
        Parameter.VAR_KEYWORD,
    )


def _hints(function: Any, *, given: bool) -> Mapping[str, Any]:
    try:
        return get_type_hints(function if inspect.isroutine(function) else type(function).__call__, include_extras=True)
    except Exception as error:  # an annotation may be any expression
        if given:
            return {}
        raise ConfigurationError(
            f"the annotations of {function!r} cannot be read: {error}; give the models as Operator(options=..., "
            "results=...)"
        ) from error


def _returned(hint: Any) -> tuple[Any, Any]:
    """What is annotated for the artifacts and for the results."""
    if hint is None or hint is type(None):
        return None, None
    if get_origin(hint) is tuple or hint is tuple:
        parts = get_args(hint)
        if len(parts) != 2 or parts[1] is Ellipsis:
            raise ConfigurationError(f"a handler is annotated to return {hint!r}; expected tuple[artifacts, results]")
        return parts[0], None if parts[1] is type(None) else parts[1]
    return None, hint
