"""Tasks that are classes: their arguments are one model, and :meth:`run` takes it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Unpack, cast, get_args, overload

from tranship.checks import name_text, one_of
from tranship.errors import ConfigurationError
from tranship.task._naming import default_name
from tranship.task._options import DEFAULTS, OptionArguments, TaskOptions, Validation
from tranship.task._task import AsyncTask, Isolation, SyncTask, Task, is_coroutine_function

__all__ = ["Runs", "TaskClass", "task_of"]

A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M")
V = TypeVar("V")


class Runs(Protocol[A_contra, R_co]):
    """A class with a method ``run``; of an ``async def`` the result is a coroutine."""

    def run(self, args: A_contra, /) -> R_co:
        """Run the task."""


class _TaskOf:
    """Gives the task of a class, or of an object of it."""

    @overload
    def __get__(self, instance: None, owner: type[Runs[M, Coroutine[Any, Any, V]]]) -> AsyncTask[[M], V]: ...
    @overload
    def __get__(self, instance: None, owner: type[Runs[M, V]]) -> SyncTask[[M], V]: ...
    @overload
    def __get__(self, instance: Runs[M, Coroutine[Any, Any, V]], owner: Any) -> AsyncTask[[M], V]: ...
    @overload
    def __get__(self, instance: Runs[M, V], owner: Any) -> SyncTask[[M], V]: ...

    def __get__(self, instance: Any, owner: Any) -> Any:
        place = owner if instance is None else instance
        made = vars(place).get("_made")
        if made is None:
            made = place._made = _make(owner, instance)  # noqa: SLF001 - the class and its task are one
        return made


class TaskClass:
    """A task whose arguments are a model: derive from it, with an inner class ``Args`` and a method ``run``.

    ::

        class Resize(TaskClass, queue="media", run_timeout=30):
            class Args(BaseModel):
                uri: str
                width: int = 640

            async def run(self, args: Args) -> str: ...

        client.submit(Resize.task, Resize.Args(uri="s3://a/b.png"))

    ``Args`` is a pydantic model or a dataclass. Its fields travel as keyword arguments, so others may submit the task
    by name. A worker makes one object of the class, with no arguments, when the task first runs, and calls its ``run``
    each time: what is costly to load may be kept in it. An object of yours is a task, too: ``Resize(model).task``.

    Options are given where the class is derived, and are those of ``@task``; with ``isolation="process"`` each process
    makes an object of its own. A class that is derived from it inherits them, but not the name.

    Attributes:
        task: what a client submits and a worker runs.
    """

    task: ClassVar[_TaskOf] = _TaskOf()

    _name: ClassVar[str | None] = None
    _options: ClassVar[TaskOptions] = DEFAULTS
    _task_type: ClassVar[str | None] = None
    _isolation: ClassVar[Isolation | None] = None
    _validation: ClassVar[Validation] = "lax"

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        task_type: str | None = None,
        isolation: Isolation | None = None,
        validation: Validation | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        """Make a task of a class that has ``run``.

        Raises:
            ConfigurationError: ``run`` or ``Args`` is not as it has to be, or the class needs a name.
            InvalidOptionError: an unknown option, or a value outside what is allowed.
        """
        super().__init_subclass__()
        cls._name = name
        cls._options = cls._options.merged(**options)
        if task_type is not None:
            cls._task_type = name_text("task_type", task_type)
        if isolation is not None:
            cls._isolation = one_of("isolation", isolation, get_args(Isolation))
        if validation is not None:
            cls._validation = one_of("validation", validation, get_args(Validation))
        if hasattr(cls, "run"):
            cls._made = _make(cls, None)

    _made: ClassVar[Task[..., Any] | None] = None


def task_of(thing: Any) -> Any:
    """Return the task of a :class:`TaskClass` that has ``run``, or of an object of one; anything else as it is."""
    owner = thing if isinstance(thing, type) else type(thing)
    if not issubclass(owner, TaskClass) or not hasattr(owner, "run"):
        return thing
    return cast("Any", thing).task


def _make(owner: type[TaskClass], instance: TaskClass | None) -> Task[..., Any]:
    run = getattr(owner, "run", None)
    if not inspect.isfunction(run):
        raise ConfigurationError(f"{owner.__qualname__} is no task: it has no method run(self, args)")
    name = owner._name or default_name(owner)  # noqa: SLF001 - the class and its task are one
    model = getattr(owner, "Args", None)
    if not isinstance(model, type):
        raise ConfigurationError(
            f"{owner.__qualname__} has no class Args; give it one, a pydantic model or a dataclass with the arguments"
        )
    # Loaded when a task is made: a client that is only made costs little.
    from tranship.task._model_arguments import ModelArguments

    arguments = ModelArguments(name, model, run, owner._validation)  # noqa: SLF001
    kind = AsyncTask if is_coroutine_function(run) else SyncTask
    made: Task[..., Any] = kind(name, owner._options, function=_runner(owner, run, instance), arguments=arguments)  # noqa: SLF001
    made.task_type = owner._task_type  # noqa: SLF001
    made.isolation = owner._isolation  # noqa: SLF001
    return made


def _runner(owner: type[TaskClass], run: Callable[..., Any], instance: TaskClass | None) -> Callable[..., Any]:
    """Return the function that a worker calls with the model."""
    holder = _Object(owner, instance)

    async def call_async(args: Any, **provided: Any) -> Any:
        return await run(holder.get(), args, **provided)

    def call_sync(args: Any, **provided: Any) -> Any:
        return run(holder.get(), args, **provided)

    call = call_async if is_coroutine_function(run) else call_sync
    call.__name__, call.__qualname__, call.__module__ = owner.__name__, owner.__qualname__, owner.__module__
    call.__doc__ = owner.__doc__
    return call


class _Object(Generic[M]):
    """The object whose ``run`` is called: made once, when it is first needed."""

    def __init__(self, owner: Callable[[], M], instance: M | None) -> None:
        self._owner = owner
        self._instance = instance
        self._lock = threading.Lock()

    def get(self) -> M:
        """Return it."""
        if self._instance is None:
            with self._lock:
                if self._instance is None:
                    self._instance = self._owner()
        return self._instance
