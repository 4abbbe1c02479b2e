"""The arguments of one task: checked before they are sent, and made of data again before the handler runs.

Everything is worked out at the first call: a task whose arguments are simple then pays for a look at their types.
pydantic is imported when a value needs it, never before.
"""

from __future__ import annotations

import itertools
import logging
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, Signature
from typing import Any, Final, Protocol, get_type_hints

from tranship import codec
from tranship.errors import InvalidArgumentsError
from tranship.task._dependencies import Depends, dependencies_of, without
from tranship.task._hints import exact_types, holds_unwritten, is_container_of_anything, is_free, mentions_model
from tranship.task._oddities import SIMPLE, oddities
from tranship.task._options import Validation
from tranship.task._readers import Read, reader
from tranship.task._returns import generated_hint, value_hint
from tranship.task._signature import argument_error, make_stub
from tranship.task._task import is_generator_function
from tranship.task._written import plain_parts, written

__all__ = ["Arguments", "FunctionArguments"]

log = logging.getLogger("tranship.task")

_RETURN: Final = "return"
_LOOKS: Final = 64
"""Calls with values that are not simple, of which it is looked whether they arrive as they are."""
_CALLS: Final = 1000
"""Calls, whatever their values, after which nobody looks any more: it takes as long as the check of the signature."""
_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

Args = Sequence[Any]
Kwargs = Mapping[str, Any]


class Arguments(Protocol):
    """How arguments travel. Thread-safe.

    Attributes:
        sends: called with a caller's arguments: whether they have to go through :meth:`written`, which may put another
            in its place that asks for it less often.
        takes: called with arguments that have arrived: whether they have to go through :meth:`made`. Both raise
            TypeError for arguments that do not fit the signature.
    """

    sends: Callable[..., bool]
    takes: Callable[..., bool]

    @property
    def dependencies(self) -> Mapping[str, Depends]:
        """What the worker provides, by parameter.

        Raises:
            ConfigurationError: one that is not declared as it has to be.
        """

    @property
    def places(self) -> tuple[int, Sequence[str]]:
        """How many arguments come before the first dependency, and the names of those that have a place."""

    def misfit(self, args: Args, kwargs: Kwargs, error: TypeError) -> InvalidArgumentsError:
        """Return the error for what ``sends`` or ``takes`` refused with ``error``."""

    def written(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what is sent in place of a caller's arguments.

        Raises:
            InvalidArgumentsError: they do not fit; nothing has been sent.
        """

    def written_after(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what is sent in place of a caller's arguments that come after one that is not known yet.

        Raises:
            InvalidArgumentsError: they do not fit; nothing has been sent.
        """

    @property
    def first_hint(self) -> Any:
        """How the first argument is annotated; ``Parameter.empty``: not, or nobody is held to it."""

    @property
    def result_hint(self) -> Any:
        """How the result is annotated; ``Parameter.empty``: not, or nobody is held to it."""

    def made(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what the handler is called with.

        Raises:
            InvalidArgumentsError: they do not fit.
        """

    def result(self, value: Any) -> Any:
        """Return a result as the handler is annotated to return it.

        Raises:
            InvalidArgumentsError: data that is no such model.
        """

    def result_written(self, value: Any) -> Any:
        """Return what is stored of a result; warn of what arrives as something else."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """What is known of one parameter."""

    hint: Any
    sent: Read
    """Of what a caller gives: plain types are held to their annotation."""
    arrived: Read
    has_model: bool
    """Whether a model is anywhere in it."""
    unwritten: bool
    """Whether its values hold what the codec refuses, such as sets."""


class Result:
    """The result of a task: read as the handler is annotated to return it.

    Args:
        name: the task's.
        hint: the annotation.
        looks: whether it is looked for what arrives as something else.
    """

    def __init__(self, name: str, hint: Any, *, looks: bool) -> None:
        self._hint = hint
        self._name = name
        self._looks = _LOOKS if looks else 0

    def read(self, value: Any) -> Any:
        """Return ``value`` as annotated; a plain value that is no such thing as it came.

        Raises:
            InvalidArgumentsError: data that is no such model.
        """
        if self._reader is None:
            return value
        try:
            return self._reader(value)
        except InvalidArgumentsError:
            if mentions_model(self._hint):
                raise
            return value

    def written(self, value: Any) -> Any:
        """Return what is stored of ``value``; warn of what arrives as something else, of the first calls, and once."""
        if self._reader is not None:
            return plain_parts(codec.data_of(value)) if self._is_unwritten else value
        if self._looks > 0:
            self._looks -= 1
            if found := oddities(value, "the result"):
                self._looks = 0
                log.warning("task %s: %s; annotate it, if it is to arrive as it is", self._name, found[0])
        return value

    @cached_property
    def _is_unwritten(self) -> bool:
        return holds_unwritten(self._hint)

    @cached_property
    def _reader(self) -> Read | None:
        hint = self._hint
        if hint is Parameter.empty or is_free(hint) or exact_types(hint, sent=True) is not None:
            return None
        return made_reader(f"the result of task {self._name}", hint, strict=False)


class FunctionArguments:
    """Of a function: by its signature and its annotations.

    Args:
        name: the task's.
        function: whose they are.
        signature: its.
        validation: ``"off"``: only the signature counts.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], signature: Signature, validation: Validation = "lax"
    ) -> None:
        self._whole = signature
        self._function = function
        self._name = name
        self._namespace = getattr(function, "__globals__", {})
        self._validation = validation
        self._looks = _LOOKS if validation != "off" else 0
        self._calls = itertools.repeat(False, _CALLS)
        self._told: set[str | None] = set()
        self.sends: Callable[..., bool] = self._first_sent
        self.takes: Callable[..., bool] = self._first_taken

    def misfit(self, args: Args, kwargs: Kwargs, error: TypeError) -> InvalidArgumentsError:
        """Return the error that says what is wrong with the arguments."""
        for name in self.dependencies:
            if name in kwargs:
                return InvalidArgumentsError(
                    f"{name!r} is no argument of task {self._name}: the worker provides it; leave it out"
                )
        return argument_error(self._name, self.signature, args, kwargs, error)

    def written(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what is sent: models as data; warn of what arrives as something else."""
        sent = (
            tuple(self._write(self._at(index), value) for index, value in enumerate(args)),
            {name: self._write(self._named(name), value) for name, value in kwargs.items()},
        )
        if self._looks > 0:
            over = bool(self._told) or next(self._calls, True)
            self._looks = 0 if over else self._looks - 1
            if self._looks <= 0:
                # Whoever calls it has heard of it, or would have by now; from now on it costs nothing.
                self.sends = self._stub(sent=True)
        return sent

    def written_after(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what is sent behind an argument that is not known yet."""
        try:
            self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise self._misfit_after(args, kwargs, error) from None
        return (
            tuple(self._write(self._at(index), value) for index, value in enumerate(args, 1)),
            {name: self._write(self._named(name), value) for name, value in kwargs.items()},
        )

    @property
    def first_hint(self) -> Any:
        """How the first argument is annotated."""
        first = self._at(0)
        known = {} if self._validation == "off" else self._hints
        return Parameter.empty if first is None else known.get(first, Parameter.empty)

    @property
    def result_hint(self) -> Any:
        """How the result is annotated."""
        known = {} if self._validation == "off" else self._hints
        return known.get(_RETURN, Parameter.empty)

    def made(self, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return what the handler is called with."""
        return (
            tuple(self._make(self._at(index), value) for index, value in enumerate(args)),
            {name: self._make(self._named(name), value) for name, value in kwargs.items()},
        )

    def result(self, value: Any) -> Any:
        """Return a result as annotated."""
        return self._result.read(value)

    def result_written(self, value: Any) -> Any:
        """Return what is stored of a result."""
        return self._result.written(value)

    @cached_property
    def dependencies(self) -> Mapping[str, Depends]:
        """What the worker provides, by parameter."""
        return dependencies_of(f"task {self._name}", self._function, self._whole)

    @cached_property
    def signature(self) -> Signature:
        """What callers give."""
        return without(self._whole, self.dependencies)

    @property
    def places(self) -> tuple[int, Sequence[str]]:
        """How many arguments come before the first dependency, and the names of those that have a place."""
        before = itertools.takewhile(lambda name: name not in self.dependencies, self._whole.parameters)
        return len(list(before)), self._positional

    @property
    def hints(self) -> Mapping[str, Any]:
        """The annotations that are known, by parameter; ``return`` is the result's."""
        return self._hints

    # Steps.

    def _write(self, parameter: str | None, value: Any) -> Any:
        known = self._known.get(parameter) if parameter is not None else None
        if known is None or type(value) in self._exact.get(parameter or "", ()):
            return self._looked_at(parameter, value)
        if known.has_model and type(value) not in SIMPLE:
            value = written(value, known.arrived)
        else:
            value = written(value, known.sent)
        return plain_parts(value) if known.unwritten else value

    def _looked_at(self, parameter: str | None, value: Any) -> Any:
        if self._looks > 0 and type(value) not in SIMPLE:
            found = oddities(value, f"argument {parameter!r}")
            if found and parameter not in self._told:
                self._told.add(parameter)
                log.warning("task %s: %s; annotate it, if it is to arrive as it is", self._name, found[0])
        return value

    def _make(self, parameter: str | None, value: Any) -> Any:
        known = self._known.get(parameter) if parameter is not None else None
        return value if known is None else known.arrived(value)

    def _misfit_after(self, args: Args, kwargs: Kwargs, error: TypeError) -> InvalidArgumentsError:
        misfit = self.misfit((None, *args), kwargs, error)
        return InvalidArgumentsError(f"{misfit}; in step(...) the first one is the result of what runs before")

    def _first_sent(self, /, *args: Any, **kwargs: Any) -> bool:
        self.sends = self._stub(sent=True)
        self.sends(*args, **kwargs)
        return True  # so that the caller hears of the other one

    def _first_taken(self, /, *args: Any, **kwargs: Any) -> bool:
        self.takes = self._stub(sent=False)
        return self.takes(*args, **kwargs)

    def _stub(self, *, sent: bool) -> Callable[..., bool]:
        usual = self._usual(sent=sent)
        looked = self._looked(usual) if sent and self._looks > 0 else {}
        stub = make_stub(self.signature, usual | looked, self._calls if looked else None)
        if self.dependencies and self._extras:
            return _guarded(stub, self.dependencies)
        return stub

    def _usual(self, *, sent: bool) -> dict[str, frozenset[type] | None]:
        """By parameter with an annotation: the types of values that fit at first sight."""
        return {name: exact_types(one.hint, sent=sent) for name, one in self._known.items()}

    def _looked(self, usual: Mapping[str, Any]) -> dict[str, frozenset[type] | None]:
        """The same of those that are looked at for what would not arrive as it is."""
        free = {name: SIMPLE for name in self.signature.parameters if name not in usual}
        return free | {name: None for name, one in self._known.items() if is_container_of_anything(one.hint)}

    @cached_property
    def _exact(self) -> Mapping[str, frozenset[type]]:
        return {name: exact_types(one.hint, sent=True) or frozenset() for name, one in self._known.items()}

    @cached_property
    def _known(self) -> Mapping[str, _Parameter]:
        if self._validation == "off":
            return {}
        found = {name: self._parameter(name, hint) for name, hint in self._hints.items() if name != _RETURN}
        return {name: one for name, one in found.items() if one is not None}

    def _parameter(self, name: str, hint: Any) -> _Parameter | None:
        if is_free(hint):
            return None
        what, strict = f"argument {name!r} of task {self._name}", self._validation == "strict"
        arrived = made_reader(what, hint, strict=strict)
        has_model = mentions_model(hint)
        sent = arrived if strict or has_model else made_reader(what, hint, strict=True)
        if arrived is None or sent is None:
            return None
        return _Parameter(hint, sent, arrived, has_model, holds_unwritten(hint))

    @cached_property
    def _result(self) -> Result:
        off = self._validation == "off"
        hint = Parameter.empty if off else self._hints.get(_RETURN, Parameter.empty)
        return Result(self._name, hint, looks=not off)

    @cached_property
    def _hints(self) -> Mapping[str, Any]:
        given = {name: parameter.annotation for name, parameter in self.signature.parameters.items()}
        given[_RETURN] = self.signature.return_annotation
        return {
            name: hint
            for name, annotation in given.items()
            if annotation is not Parameter.empty and (hint := self._resolved(name, annotation)) is not Parameter.empty
        }

    def _resolved(self, name: str, annotation: Any) -> Any:
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hint = get_type_hints(holder, globalns=self._namespace, include_extras=True)[name]
        except Exception as error:  # noqa: BLE001 - an annotation may be any expression
            log.warning("task %s: annotation %r of %s is not known: %s", self._name, annotation, name, error)
            return Parameter.empty
        if name != _RETURN:
            return hint
        return generated_hint(hint) if is_generator_function(self._function) else value_hint(hint)

    def _at(self, index: int) -> str | None:
        return self._positional[index] if index < len(self._positional) else self._rest

    def _named(self, name: str) -> str | None:
        parameter = self.signature.parameters.get(name)
        return name if parameter is not None and parameter.kind in _BY_NAME else self._extras

    @cached_property
    def _positional(self) -> list[str]:
        return [one.name for one in self.signature.parameters.values() if one.kind in _BY_POSITION]

    @cached_property
    def _rest(self) -> str | None:
        return self._only(Parameter.VAR_POSITIONAL)

    @cached_property
    def _extras(self) -> str | None:
        return self._only(Parameter.VAR_KEYWORD)

    def _only(self, kind: Any) -> str | None:
        return next((one.name for one in self.signature.parameters.values() if one.kind is kind), None)


def _guarded(stub: Callable[..., bool], dependencies: Mapping[str, Depends]) -> Callable[..., bool]:
    """The same, of a function whose ``**kwargs`` would take what the worker provides."""

    def guarded(*args: Any, **kwargs: Any) -> bool:
        if not dependencies.keys().isdisjoint(kwargs):
            raise TypeError
        return stub(*args, **kwargs)

    return guarded


class _Late:
    """A reader that is made when a value needs it: most values of plain types do not."""

    def __init__(self, what: str, hint: Any, *, strict: bool) -> None:
        self.what = what
        self._hint = hint
        self._strict = strict

    def __call__(self, value: Any, /) -> Any:
        return self._reader(value)

    @cached_property
    def _reader(self) -> Read:
        return reader(self.what, self._hint, strict=self._strict)


def made_reader(what: str, hint: Any, *, strict: bool) -> Read | None:
    """Return the reader for ``hint``; None: values of it are nothing that a reader knows, and stay as they come."""
    if exact_types(hint, sent=True) is not None:
        return _Late(what, hint, strict=strict)
    try:
        return reader(what, hint, strict=strict)
    except InvalidArgumentsError:
        if mentions_model(hint):
            raise
        log.debug("%s is annotated with %r, which is not checked", what, hint)
        return None
