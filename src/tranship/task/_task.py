"""The task: callable like its function, and everything needed to submit it."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, Unpack, cast

from tranship.checks import name_text
from tranship.envelope import Envelope, TaskResult
from tranship.errors import ConfigurationError, InvalidArgumentsError
from tranship.task._composing import Composable
from tranship.task._context import TaskContext
from tranship.task._oddities import SIMPLE
from tranship.task._options import DEFAULTS, OptionArguments, TaskOptions
from tranship.task._own import Fill, filler
from tranship.task._plan import Plan
from tranship.task._signature import signature_of

if TYPE_CHECKING:
    # Loaded when a task is made: a client that is only made costs little.
    from tranship.task._arguments import Arguments
    from tranship.task._batch import Batching
    from tranship.task._dependencies import Depends
    from tranship.task._dialect import Dialect
    from tranship.task._limits import Limits
    from tranship.task._prefers import Prefers
    from tranship.task._single import Single
    from tranship.task._workflow import Step
    from tranship.timetable import Timetable

__all__ = ["AsyncTask", "Isolation", "SyncTask", "Task", "TaskCall", "named"]

Isolation = Literal["process"]
"""Where a task runs, if not in the worker's own process."""
LONGEST_TASK: Final = 1024
"""Bytes of a task's name: what every decoder reads."""

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
X = TypeVar("X")
X_contra = TypeVar("X_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


def _take_anything(*_args: Any, **_kwargs: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class TaskCall(Composable[R_co]):
    """A task with its arguments, checked and ready to be submitted or followed by others. Made by :meth:`Task.call`."""

    task: Task[..., R_co]
    args: tuple[Any, ...] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)


def _arguments_of(name: str, function: Callable[..., Any]) -> Arguments:
    from tranship.task._arguments import FunctionArguments

    return FunctionArguments(name, function, signature_of(function))


def _single_of(name: str, options: TaskOptions) -> Single | None:
    # Loaded by such tasks alone.
    from tranship.task._single import single_of

    return single_of(name, options)


class _CallDraft(Composable[R_co]):
    """A call that can still be written, see :class:`tranship.envelope.Draft`: a third of what the constructor costs."""

    __slots__ = ("args", "kwargs", "task")


class _TakesFirst(Protocol[X_contra, Q, R_co]):
    """A task by its first argument and the others."""

    def call(self, first: X_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> TaskCall[R_co]:
        """As :meth:`Task.call`."""


class Task(Generic[P, R_co]):
    """What a client submits and a worker runs. ``P``: the parameters; ``R_co``: the type of the result.

    Made by :func:`~tranship.task.task` (an :class:`AsyncTask` or a :class:`SyncTask`) or by :func:`named`.

    Attributes:
        name: under which workers know it.
        function: what was decorated; None for a task that is defined elsewhere.
        is_async: whether the function is a coroutine function.
        yields_parts: whether it was made of a generator.
        options_set: how it is submitted.
        dialect: how it is answered where its clients expect other words than ours; None: as usual.
        task_type: what workers limit it by, together with others of that type; None: nothing.
        isolation: ``"process"``: it runs in a process of its own; None: in the worker's.
        timetable: when a scheduler runs it; None: only who submits it does.
        prefers: what it would like to find ready in the worker that runs it; None: nothing.
        single: how there is one of it at a time; None: each submit is a task.
        batching: how its calls are gathered for a handler that takes many; None: it takes one.
        limits: what limits it in the whole fleet; None: nothing.
    """

    is_async = False
    yields_parts = False
    task_type: str | None = None
    isolation: Isolation | None = None
    dialect: Dialect | None = None
    timetable: Timetable | None = None
    batching: Batching | None = None
    prefers: Prefers | None = None
    single: Single | None = None
    limits: Limits | None = None

    def __init__(
        self, name: str, options: TaskOptions, *, function: Any = None, arguments: Arguments | None = None
    ) -> None:
        self.name: str = name_text("name", name, LONGEST_TASK)
        self.options_set = options
        self.function = function
        self._plan = Plan(self.name, options)
        if options.unique or options.debounce is not None or options.debounce_by is not None:
            self.single = _single_of(self.name, options)
        self._arguments: Arguments | None = None
        self._sends: Callable[..., bool] = _take_anything
        if function is None:
            return
        # Attributes of the function stay where they are: one named "call" would hide ours.
        update_wrapper(self, function, updated=())
        self._arguments = arguments or _arguments_of(self.name, function)
        self._sends = self._arguments.sends

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function here and now; no broker is involved.

        Raises:
            ConfigurationError: the task is defined elsewhere.
        """
        if self.function is None:
            raise ConfigurationError(f"task {self.name} is defined elsewhere and cannot be called here; submit it")
        return self.function(*args, **kwargs)

    @cached_property
    def fill(self) -> Fill | None:
        """What gives the envelope of a message the options that it does not set; None: this task has none to give.

        Made where it is asked for: submitters, who make options for single calls, have no use for it.
        """
        return filler(self.options_set)

    def options(self, **changes: Unpack[OptionArguments]) -> Self:
        """Return the same task with other options; this one stays as it is.

        Raises:
            InvalidOptionError: an unknown option, or a value outside what is allowed.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.options_set = self.options_set.merged(**changes)
        options = other.options_set
        if options.unique or options.debounce is not None or options.debounce_by is not None:
            other.single = _single_of(self.name, options)
        else:
            other.__dict__.pop("single", None)
        other._plan = self._plan_for(other.options_set)
        other.__dict__.pop("fill", None)
        return other

    def limit_by(self, limits: Limits) -> None:
        """Have ``limits`` from now on: for who makes the task."""
        self.limits = limits
        self._plan = self._plan_for(self.options_set)

    def _plan_for(self, options: TaskOptions) -> Plan:
        if self.limits is None:
            return Plan(self.name, options)
        # Loaded by tasks that have some.
        from tranship.task._limits import LimitedPlan

        return LimitedPlan(self.name, options, self.limits)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> TaskCall[R_co]:
        """Return the task with its arguments, for ``submit`` and ``submit_many``: checked, and models as data.

        A task defined elsewhere takes anything.

        Raises:
            InvalidArgumentsError: they do not fit the signature, or an annotation; or a model that a worker would not
                read as it is written.
        """
        sent: tuple[Any, Mapping[str, Any]] = args, kwargs
        try:
            needs_more = self._sends(*args, **kwargs)
        except TypeError as error:
            raise self._misfit(args, kwargs, error) from None
        if needs_more:
            sent = self._written(args, kwargs)
        draft: Any = _CallDraft()
        draft.task = self
        draft.args, draft.kwargs = sent
        draft.__class__ = TaskCall
        call: TaskCall[R_co] = draft
        return call

    def step(self: _TakesFirst[X, Q, R], /, *args: Q.args, **kwargs: Q.kwargs) -> Step[X, R]:
        """Return the task with all its arguments but the first, which is the result of what runs before it.

        For ``then`` and ``gather``; the arguments are checked as by :meth:`call`.

        Raises:
            InvalidArgumentsError: they do not fit the signature, or an annotation; or the task takes none.
        """
        from tranship.task._workflow import CallNode, Step

        task = cast("Task[..., R]", self)
        sent: tuple[Any, Mapping[str, Any]] = args, kwargs
        if task.arguments is not None:
            sent = task.arguments.written_after(args, kwargs)
        return Step(CallNode(task, sent[0], sent[1], takes=True))

    def envelope(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        now: float,
        options: TaskOptions | None = None,
        reply_to: str | None = None,
        parent: TaskContext | None = None,
        fresh_id: str | None = None,
    ) -> Envelope:
        """Return the envelope of one call, with what :meth:`check` has returned for its arguments.

        Args:
            args, kwargs: the task's own arguments.
            now: the epoch seconds that relative options count from.
            options: instead of the task's own.
            reply_to: the backend's address for results.
            parent: the task that submits this one; its deadline and its root are handed down.
            fresh_id: the id, unless the options name one; None: a new one.
        """
        plan = self._plan if options is None else Plan(self.name, options)
        return plan.envelope(args, kwargs, now, reply_to, parent, fresh_id=fresh_id)

    @property
    def arguments(self) -> Arguments | None:
        """How its arguments travel; None: it is defined elsewhere."""
        return self._arguments

    @property
    def dependencies(self) -> Mapping[str, Depends]:
        """What a worker provides to it, by parameter.

        Raises:
            ConfigurationError: one that is not declared as it has to be.
        """
        return self._arguments.dependencies if self._arguments else {}

    @property
    def places(self) -> tuple[int, Sequence[str]]:
        """How many of its arguments come before the first dependency, and the names of those that have a place."""
        return self._arguments.places if self._arguments else (0, ())

    @property
    def kind(self) -> object:
        """What the envelopes of this task with these options have in common, where they differ in nothing but id and
        arguments; None: they may differ in more. It holds for envelopes without a parent.
        """
        return self._plan if self._plan.is_uniform else None

    def coerce(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return decoded arguments as what the function is annotated to take.

        Raises:
            InvalidArgumentsError: they do not fit the signature, or an annotation.
        """
        arguments = self._arguments
        if arguments is None:
            return args, kwargs
        try:
            needs_more = arguments.takes(*args, **kwargs)
        except TypeError as error:
            raise arguments.misfit(args, kwargs, error) from None
        return arguments.made(args, kwargs) if needs_more else (args, kwargs)

    def coerce_result(self, value: Any) -> Any:
        """Return a decoded result as what the function is annotated to return.

        Raises:
            InvalidArgumentsError: data that is no such model.
        """
        return self._arguments.result(value) if self._arguments else value

    def write_result(self, value: Any) -> Any:
        """Return what is stored of a result that the function has returned."""
        return self._arguments.result_written(value) if self._arguments and type(value) not in SIMPLE else value

    def typed(self, result: TaskResult[Any]) -> TaskResult[R_co]:
        """Return ``result`` with its value as the function is annotated to return it; as it came, where it is no such
        thing.
        """
        if result.success and self._arguments is not None and type(result.value) not in SIMPLE:
            with contextlib.suppress(InvalidArgumentsError):
                return replace(result, value=self._arguments.result(result.value))
        return result

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any], error: TypeError) -> Exception:
        return error if self._arguments is None else self._arguments.misfit(args, kwargs, error)

    def _written(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        arguments = self._arguments
        if arguments is None:
            return args, kwargs
        sent = arguments.written(args, kwargs)
        # A copy, to look it up once a call: what it has been before asks for a closer look more often, no more.
        self._sends = arguments.sends
        return sent


class AsyncTask(Task[P, R]):
    """A task made of an ``async def``: it runs on the worker's event loop."""

    is_async = True

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function here and now; no broker is involved."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class SyncTask(Task[P, R]):
    """A task made of a ``def``: it runs in a thread of the worker."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now; no broker is involved."""
        result: R = self.function(*args, **kwargs)
        return result


def named(name: str, **options: Unpack[OptionArguments]) -> Task[..., Any]:
    """Return the task of that name at workers elsewhere, whatever language or library they are written in.

    Raises:
        InvalidOptionError: an empty name, an unknown option, or a value outside what is allowed.
    """
    return Task(name, DEFAULTS.merged(**options))


def is_generator_function(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a generator, of either kind; an object with such a ``__call__`` counts."""
    called = (function, type(function).__call__)
    return any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in called)


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine; an object with an ``async def __call__`` counts."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
