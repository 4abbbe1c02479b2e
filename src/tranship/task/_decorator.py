"""``@task``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, get_args, overload

from tranship.checks import Duration, name_text, one_of
from tranship.errors import ConfigurationError
from tranship.task._naming import default_name
from tranship.task._options import DEFAULTS, OptionArguments, Validation
from tranship.task._signature import signature_of
from tranship.task._task import AsyncTask, Isolation, SyncTask, Task, is_coroutine_function, is_generator_function

if TYPE_CHECKING:
    from tranship.task._batch import BatchCall, Batching, BatchTask
    from tranship.task._limits import KeyFunction, Limits
    from tranship.task._prefers import Prefers, PrefersLike
    from tranship.timetable import Missed, Timetable

__all__ = ["task"]

P = ParamSpec("P")
R = TypeVar("R")
X = TypeVar("X")


class TaskDecorator(Protocol):
    """What ``task(...)`` with options returns."""

    # Type checkers take the first that fits, so a coroutine function is never taken for a plain one.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class BatchDecorator(Protocol):
    """What ``task(batch=...)`` returns."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[list[BatchCall[X]], ...], Coroutine[Any, Any, None] | None], /
    ) -> BatchTask[[X], None]: ...
    @overload
    def __call__(
        self,
        function: Callable[Concatenate[list[BatchCall[X]], ...], Coroutine[Any, Any, Sequence[R]] | Sequence[R]],
        /,
    ) -> BatchTask[[X], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[list[X], ...], Coroutine[Any, Any, None] | None], /
    ) -> BatchTask[[X], None]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[list[X], ...], Coroutine[Any, Any, Sequence[R]] | Sequence[R]], /
    ) -> BatchTask[[X], R]: ...


@overload
def task(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(
    *,
    batch: int,
    within: Duration | None = None,
    name: str | None = None,
    task_type: str | None = None,
    validation: Validation = "lax",
    prefers: PrefersLike | None = None,
    prefers_within: Duration | None = None,
    limit: int | None = None,
    rate: float | str | None = None,
    burst: int | None = None,
    ordered: bool = False,
    key: KeyFunction | None = None,
    fair: KeyFunction | None = None,
    **options: Unpack[OptionArguments],
) -> BatchDecorator: ...
@overload
def task(
    *,
    name: str | None = None,
    task_type: str | None = None,
    isolation: Isolation | None = None,
    validation: Validation = "lax",
    prefers: PrefersLike | None = None,
    prefers_within: Duration | None = None,
    every: Duration | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    missed: Missed | None = None,
    grace: Duration | None = None,
    jitter: Duration | None = None,
    limit: int | None = None,
    rate: float | str | None = None,
    burst: int | None = None,
    ordered: bool = False,
    key: KeyFunction | None = None,
    fair: KeyFunction | None = None,
    **options: Unpack[OptionArguments],
) -> TaskDecorator: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    task_type: str | None = None,
    isolation: Isolation | None = None,
    validation: Validation = "lax",
    prefers: PrefersLike | None = None,
    prefers_within: Duration | None = None,
    batch: int | None = None,
    within: Duration | None = None,
    every: Duration | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    missed: Missed | None = None,
    grace: Duration | None = None,
    jitter: Duration | None = None,
    limit: int | None = None,
    rate: float | str | None = None,
    burst: int | None = None,
    ordered: bool = False,
    key: KeyFunction | None = None,
    fair: KeyFunction | None = None,
    **options: Unpack[OptionArguments],
) -> Any:
    """Make a task of a function: ``@task``, or ``@task(queue="media", run_timeout=30)``.

    The function stays callable as before. ``async def`` runs on the worker's event loop, ``def`` in a thread. What a
    generator yields are parts of its result, see :meth:`TaskHandle.stream`; what it returns is the result.

    Args:
        function: a function, or an object that can be called (it needs a ``name``).
        name: under which workers know it; None: ``module.qualname``, where the module ``__main__`` is named
            as others import it: what ``python -m`` was given, else the stem of the script's file.
        task_type: what workers limit it by (``Worker(task_type_limits={"video": 2})``), together with the others of
            that type; None: by nothing but ``max_concurrent_tasks``.
        isolation: ``"process"``: workers run it in a process of its own, where ``run_timeout`` and a cancel end it for
            certain, whatever it does; None: on their event loop or in a thread.
        validation: how arguments are held to their annotations. Callers get an error for a value that is not of the
            annotated type. What arrives from elsewhere is converted where it can be (``"lax"``), or refused
            (``"strict"``); ``"off"``: only the signature counts, and models arrive as dicts.
        prefers: the name of a skill, or of something in a worker's hot cache, several of them, or a function that is
            called with the task's arguments and returns them: a worker which has that ready gets the task first. None:
            any worker is as good.
        prefers_within: seconds, or a timedelta, after which any worker runs it all the same; None: 5.
        batch: the function takes a list of up to so many calls at once, and returns a list with one result for each;
            each is submitted by itself, with one of the list as its argument. None: it takes one call.
        within: seconds, or a timedelta, that the first call of a batch waits for others; None: 0.05.
        every: seconds, or a timedelta: a scheduler runs it at the multiples of that since 1970 in UTC.
        cron: five fields, such as ``"30 2 * * mon-fri"``, or ``@daily`` and its like: a scheduler runs it then.
        timezone: of ``cron``, such as ``"Europe/Berlin"``; None: UTC.
        missed: what to do about ticks that nobody sent within ``grace``: ``"skip"`` them (None), make up for all of
            them ``"once"``, or run ``"all"``.
        grace: seconds by which a tick may be late without being missed; None: 60.
        jitter: each tick is late by up to this long; None: it is not.
        limit: how many of it have a slot at once in the whole fleet; None: any number.
        rate: how many of it start in the whole fleet, as a number per second or a text such as ``"100/m"``; None: any
            number.
        burst: how many may start at once after a pause; None: one.
        ordered: each starts when the one before it has ended, in the order in which they were submitted.
        key: what these limits are counted by, such as ``lambda account: account``: a function whose parameters are
            named as those of the task that it wants to see, and which returns a text; None: all of the task together.
        fair: who shares the slots of ``limit`` in turn, likewise; None: the first come are the first served.
        **options: the fields of :class:`TaskOptions`.

    Raises:
        ConfigurationError: something that cannot be a task: a class, a method, a lambda or nested
            function without a ``name``.
        InvalidOptionError: an unknown option, or a value outside what is allowed.
    """
    chosen = DEFAULTS.merged(**options)
    if task_type is not None:
        name_text("task_type", task_type)
    if isolation is not None:
        one_of("isolation", isolation, get_args(Isolation))
    one_of("validation", validation, get_args(Validation))
    batching = None if batch is None and within is None else _batching(batch, within)
    preferred = None if prefers is None and prefers_within is None else _prefers(prefers, prefers_within)
    times = {"every": every, "cron": cron, "timezone": timezone, "missed": missed, "grace": grace, "jitter": jitter}
    timetable = _timetable({name: value for name, value in times.items() if value is not None})
    limited = {"limit": limit, "rate": rate, "burst": burst, "ordered": ordered, "key": key, "fair": fair}
    limited = {name: value for name, value in limited.items() if value is not None and value is not False}
    # Loaded when a task is made: a client that is only made costs little.
    from tranship.task._arguments import FunctionArguments

    def decorate(decorated: Callable[..., Any]) -> Task[..., Any]:
        _refuse(decorated)
        named = default_name(decorated) if name is None else name
        how: type[FunctionArguments] = FunctionArguments
        if batching is None:
            kind, called = _kind(decorated)
        else:
            from tranship.task._batch import BatchArguments, batch_kind

            kind, called = batch_kind(decorated, isolation)
            how = BatchArguments
        arguments = how(named, decorated, signature_of(decorated), validation)
        made: Task[..., Any] = kind(named, chosen, function=called, arguments=arguments)
        made.batching = batching
        made.prefers = preferred
        made.task_type = task_type
        made.isolation = isolation
        made.timetable = timetable
        if limited:
            signature = arguments.signature if batching is not None else signature_of(decorated)
            made.limit_by(limits_of(limited, signature, named))
        return made

    return decorate if function is None else decorate(function)


def limits_of(given: Mapping[str, Any], signature: inspect.Signature, name: str) -> Limits:
    """Return the limits of the task ``name``.

    Raises:
        InvalidOptionError, ConfigurationError: as :meth:`tranship.task._limits.Limits.of`.
    """
    # Loaded by tasks that have some.
    from tranship.task._limits import Limits

    return Limits.of(given, signature, name)


def _timetable(times: Mapping[str, Any]) -> Timetable | None:
    if not times:
        return None
    # Loaded by periodic tasks alone.
    from tranship.timetable import Timetable

    return Timetable.of(**times)


def _batching(batch: int | None, within: Duration | None) -> Batching:
    # Loaded by such tasks alone.
    from tranship.task._batch import Batching

    return Batching.checked(batch, within)


def _prefers(prefers: PrefersLike | None, within: Duration | None) -> Prefers:
    # Likewise.
    from tranship.task._prefers import Prefers

    return Prefers.checked(prefers, within)


def _kind(decorated: Callable[..., Any]) -> tuple[type[Task[..., Any]], Callable[..., Any]]:
    """Return which kind of task it makes, and what a worker calls."""
    if is_coroutine_function(decorated):
        return AsyncTask, decorated
    if not is_generator_function(decorated):
        return SyncTask, decorated
    from tranship.task._generators import generator_kind

    return generator_kind(decorated)


def _refuse(decorated: Any) -> None:
    why = _problem(decorated)
    if why:
        raise ConfigurationError(f"{decorated!r} cannot be a task: {why}")


def _problem(decorated: Any) -> str | None:
    if isinstance(decorated, Task):
        return "it is one already; use .options(...) to change how it is submitted"
    if isinstance(decorated, type):
        return "it is a class; derive it from TaskClass, or decorate a function"
    if isinstance(decorated, staticmethod | classmethod):
        return "put @task below @staticmethod, next to the function"
    if not callable(decorated):
        return "it cannot be called; decorate a function"
    return _method_problem(decorated)


def _method_problem(decorated: Any) -> str | None:
    is_builtin_method = inspect.isbuiltin(decorated) and not isinstance(decorated.__self__, ModuleType | None)
    if inspect.ismethod(decorated) or is_builtin_method:
        return "it is a method, bound to an object that other processes do not have; decorate a function that finds it"
    return None
