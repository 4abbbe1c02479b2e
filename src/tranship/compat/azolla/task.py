"""``@azolla_task`` and :class:`Task`: tasks of the core, under the names that Azolla gives them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from tranship.checks import invalid
from tranship.errors import InvalidOptionError
from tranship.task import AsyncTask, TaskClass, task
from tranship.task import Task as CoreTask

__all__ = ["Task", "azolla_task", "core_task", "name_of"]

P = ParamSpec("P")
R = TypeVar("R")


def azolla_task(func: Callable[P, Coroutine[Any, Any, R]]) -> AsyncTask[P, R]:
    """Make a task of an ``async def``, under the function's own name. It stays callable as before.

    Raises:
        InvalidOptionError: it is no ``async def``.
    """
    if not inspect.iscoroutinefunction(func):
        raise invalid("func", func, "an async def function")
    return task(name=func.__name__)(func)


class Task(ABC):
    """A task that is a class: with ``execute``, and perhaps a model ``Args`` of its arguments.

    ``Args`` is a pydantic model or a dataclass, and ``execute`` gets one. Without it ``execute`` gets a list of what
    was submitted.
    """

    @abstractmethod
    async def execute(self, args: Any) -> Any:
        """Run the task."""

    def name(self) -> str:
        """Return the name that clients submit it by: the class's in lower case, without ``Task`` at its end."""
        return type(self).__name__.removesuffix("Task").lower()


def core_task(thing: Any) -> CoreTask[..., Any]:
    """Return the core's task of what ``register_task`` takes.

    Raises:
        InvalidOptionError: it is no task.
        ConfigurationError: its ``Args`` is no model.
    """
    if isinstance(thing, CoreTask):
        return thing
    if not isinstance(thing, Task):
        hint = f"; make an object of it: {thing.__name__}()" if isinstance(thing, type) else ""
        raise InvalidOptionError(
            f"task is {thing!r}; expected a function decorated with @azolla_task, or an object of a Task{hint}"
        )
    return _with_model(thing) if hasattr(thing, "Args") else _of_anything(thing)


def name_of(thing: Any) -> str:
    """Return the name that a task is submitted by; of a class as of its objects.

    Raises:
        InvalidOptionError: it is no task.
    """
    if isinstance(thing, str):
        return thing
    if isinstance(thing, type) and issubclass(thing, Task):
        thing = thing()
    return thing.name() if isinstance(thing, Task) else core_task(thing).name


def _with_model(thing: Any) -> CoreTask[..., Any]:
    class Execute(TaskClass, name=thing.name()):
        """What the core runs: ``run`` is Azolla's ``execute``."""

        Args = thing.Args

        async def run(self, args: Any) -> Any:
            return await thing.execute(args)

    return Execute.task


def _of_anything(thing: Task) -> CoreTask[..., Any]:
    @task(name=thing.name())
    async def execute(*args: Any, **kwargs: Any) -> Any:
        return await thing.execute([*args, kwargs] if kwargs else [*args])

    return execute
