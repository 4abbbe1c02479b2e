"""Tasks whose handler takes many calls at once: each caller submits one, and has an outcome of its own."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from inspect import Parameter, Signature
from operator import or_
from typing import Any, Final, Generic, ParamSpec, TypeVar, Union, get_args, get_origin

from tranship.checks import Duration, duration, whole
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError, TaskError
from tranship.task._arguments import Args, FunctionArguments, Kwargs
from tranship.task._context import TaskContext
from tranship.task._options import Validation
from tranship.task._returns import value_hint
from tranship.task._task import Isolation, Task, is_coroutine_function, is_generator_function

__all__ = ["BatchArguments", "BatchCall", "BatchTask", "Batching"]

WITHIN: Final = 0.05
"""Seconds that the first call of a batch waits for others, where the task does not say."""
_RETURN: Final = "return"
_LISTS: Final = (list, Sequence, MutableSequence, Iterable, Collection, tuple)
_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

P = ParamSpec("P")
R = TypeVar("R")
X = TypeVar("X")


@dataclass(frozen=True, slots=True)
class Batching:
    """How calls are gathered.

    Args:
        size: how many at most.
        within: seconds that the first one waits for the others.
    """

    size: int
    within: float

    @classmethod
    def checked(cls, size: Any, within: Duration | None) -> Batching:
        """Return it.

        Raises:
            InvalidOptionError: no whole number from 1 on, or a negative time; or a time and no number.
        """
        if size is None:
            raise InvalidOptionError(
                f"within is {within!r}, and there is no batch; say how many calls are handled at once, as in "
                "@task(batch=100, within=0.05)",
                option="within",
            )
        return cls(whole("batch", size), WITHIN if within is None else duration("within", within))


class BatchCall(Generic[X]):
    """One of the calls that a batch handler is given, where its parameter is annotated ``list[BatchCall[X]]``.

    Attributes:
        context: the context of this call, as :func:`~tranship.current` is that of a handler of one: its id, its
            headers, whether it has been cancelled.
        args, kwargs: its arguments.
    """

    __slots__ = ("args", "context", "kwargs")

    def __init__(self, context: TaskContext, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.context: TaskContext = context
        self.args: Sequence[Any] = args
        self.kwargs: Mapping[str, Any] = kwargs

    @property
    def argument(self) -> X:
        """The only argument."""
        value: X = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return value

    def __repr__(self) -> str:
        # Arguments may hold secrets.
        return f"<BatchCall {self.context.id}>"


class BatchArguments(FunctionArguments):
    """Of one call of a batch: what the handler's parameter is a list of.

    Args:
        name: the task's.
        function: takes the list.
        signature: its.
        validation: as for any task.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], signature: Signature, validation: Validation = "lax"
    ) -> None:
        super().__init__(name, function, signature, validation)
        first = next(iter(signature.parameters.values()), None)
        if first is None or first.kind not in _BY_POSITION:
            raise ConfigurationError(f"task {name!r} handles a batch, so it takes a list of calls: {_EXAMPLE}")
        self._list = first

    @cached_property
    def gives_calls(self) -> bool:
        """Whether the handler is given each call as a :class:`BatchCall`, and not only its argument."""
        item = item_of(super()._resolved(self._list.name, self._list.annotation)) if self._is_annotated else None
        return item is BatchCall or get_origin(item) is BatchCall

    @cached_property
    def signature(self) -> Signature:
        """What callers give.

        Raises:
            ConfigurationError: the handler takes more than the list and what the worker provides.
        """
        whole_signature = super().signature
        others = [name for name in whole_signature.parameters if name != self._list.name]
        if others:
            raise ConfigurationError(
                f"task {self._name!r} handles a batch and takes {', '.join(others)} besides the list of calls; what "
                "differs from call to call belongs into what the list is of, such as a dataclass"
            )
        if self._is_free:
            parameters = [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
            return Signature(parameters, return_annotation=whole_signature.return_annotation)
        return whole_signature.replace(parameters=[self._list.replace(default=Parameter.empty)])

    def misfit(self, args: Args, kwargs: Kwargs, error: TypeError) -> InvalidArgumentsError:
        """Return the error that says what is wrong with the arguments."""
        return InvalidArgumentsError(f"{super().misfit(args, kwargs, error)}; a call is one of that list")

    @property
    def _is_annotated(self) -> bool:
        return self._list.annotation is not Parameter.empty

    @property
    def _is_free(self) -> bool:
        """Whether calls may have any arguments: ``list[BatchCall]`` does not say which."""
        if not self._is_annotated:
            return False
        return item_of(super()._resolved(self._list.name, self._list.annotation)) is BatchCall

    def _resolved(self, name: str, annotation: Any) -> Any:
        hint = super()._resolved(name, annotation)
        if hint is Parameter.empty:
            return hint
        item = item_of(hint)
        if name == _RETURN:
            return Parameter.empty if item is None and hint is not None else result_of(item)
        if item is None:
            raise ConfigurationError(
                f"task {self._name!r} handles a batch, and its parameter {name!r} is annotated with {hint!r}, which is "
                f"no list: {_EXAMPLE}"
            )
        return get_args(item)[0] if get_origin(item) is BatchCall else item


_EXAMPLE: Final = "async def index(pages: list[str]) -> list[int]"


def item_of(hint: Any) -> Any:
    """Return what ``hint`` is a list of, ``Parameter.empty`` where it does not say; None: it is no list."""
    if hint in _LISTS:
        return Parameter.empty
    return get_args(hint)[0] if get_origin(hint) in _LISTS else None


def result_of(hint: Any) -> Any:
    """Return the annotation of what one caller gets, of what a handler may put into the list for it."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    values = [one for one in parts if not (isinstance(one, type) and issubclass(one, BaseException))]
    return value_hint(reduce(or_, values)) if values else None


class BatchTask(Task[P, R]):
    """A task whose handler takes many calls at once. Clients submit, and wait for, one."""

    # A call waits on the worker's event loop for the batch, wherever that runs.
    is_async = True

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function here and now, with a list; no broker is involved."""
        return self.function(*args, **kwargs)

    @property
    def gives_calls(self) -> bool:
        """Whether the handler is given each call as a :class:`BatchCall`."""
        return isinstance(self._arguments, BatchArguments) and self._arguments.gives_calls

    @property
    def is_coroutine(self) -> bool:
        """Whether the handler itself is an ``async def``."""
        return is_coroutine_function(self.function)

    def gathered(self, calls: Sequence[BatchCall[Any]]) -> list[Any]:
        """Return what the handler is given for ``calls``."""
        return list(calls) if self.gives_calls else [one.argument for one in calls]

    def one_each(self, returned: Any, count: int) -> Sequence[Any]:
        """Return one result per call, of what the handler has returned for ``count`` of them.

        Raises:
            TaskError: it is something else.
        """
        if returned is None:
            return [None] * count
        listed = isinstance(returned, list | tuple)
        if listed and len(returned) == count:
            return list(returned)
        what = f"{len(returned)} results" if listed else f"something of type {type(returned).__name__}"
        message = (
            f"the handler of {self.name!r} returned {what} for a batch of {count} calls; it has to return a list with "
            "one result, or one exception, per call in their order, or None"
        )
        raise TaskError(message, code="BATCH_RESULTS", retryable=False)

    def calling(self, function: Callable[..., Any]) -> BatchTask[P, R]:
        """Return the same task for one call, which ``function`` handles."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.function = function
        return other


def batch_kind(
    function: Callable[..., Any], isolation: Isolation | None
) -> tuple[type[Task[..., Any]], Callable[..., Any]]:
    """Return which kind of task a batch handler makes, and what a worker calls.

    Raises:
        ConfigurationError: a generator, or one that is to run in a process of its own.
    """
    if is_generator_function(function):
        raise ConfigurationError(f"{function!r} cannot be a batch handler: it is a generator; return a list")
    if isolation is not None:
        raise ConfigurationError(
            f"{function!r} has batch and isolation={isolation!r}, and a batch runs in the worker's own process; "
            "leave one of them out"
        )
    return BatchTask, function
