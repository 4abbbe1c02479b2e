"""The processor: a plan that can be run, any number of times, at the same time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TextIO, TypeVar

from tranship.stages._declare import AsyncTask
from tranship.stages._execution import Execution
from tranship.stages._explain import explain
from tranship.stages._graph import Needs
from tranship.stages._observe import Observer
from tranship.stages._plan import Plan, make_plan

__all__ = ["AsyncTaskProcessor", "AsyncTaskProcessorBuilder"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AsyncTaskProcessor(Generic[T]):
    """Runs its tasks with a context. Frozen: made by :meth:`builder`, used from any event loop, by many at once."""

    _plan: Plan

    @classmethod
    def builder(cls) -> AsyncTaskProcessorBuilder[T]:
        """Return a new builder. ``AsyncTaskProcessor[MyContext].builder()`` lets a type checker check the tasks."""
        return AsyncTaskProcessorBuilder()

    async def process_tasks(self, ctx: T) -> None:
        """Run every task once with ``ctx``.

        First every ``pre_execute``, each as soon as those of all tasks it waits for have succeeded; then every
        ``execute``, together. The first failure cancels what still runs. At the end, always, ``post_execute`` of
        every task whose ``pre_execute`` was started (of a task without one: whose turn had come), each after those
        of all tasks that waited for it, whatever becomes of the others.

        Cancelling the caller does the same as a failure; the cleanup itself is not cancelled and is limited by its
        functions' own timeouts.

        Raises:
            ExceptionGroup: with every failure, in the order in which they happened; each has a note that names its
                task and phase. (A BaseExceptionGroup when one of them is no Exception.)
            CancelledError: the caller was cancelled; its ``__cause__`` is the group of what failed meanwhile.
        """
        await Execution(self._plan, ctx).run()

    def __repr__(self) -> str:
        return f"<AsyncTaskProcessor of {len(self._plan.tasks)} tasks>"

    def explain(self, file: TextIO | None = None) -> str:
        """Print the plan, to ``file`` or the standard output, and return what was printed."""
        text = explain(self._plan)
        (file or sys.stdout).write(text + "\n")
        return text


@dataclass(slots=True)
class AsyncTaskProcessorBuilder(Generic[T]):
    """Collects tasks; nothing is checked before :meth:`build`."""

    _tasks: list[AsyncTask[T]] = field(default_factory=list)
    _needs: list[Needs] = field(default_factory=list)
    _observers: list[Observer] = field(default_factory=list)

    def add_task(self, task: AsyncTask[T], level: int | None = None, *, after: str | Iterable[str] = ()) -> Self:
        """Add a task; return the builder.

        Args:
            task: with a name that is unique in this plan.
            level: the task waits for all tasks of lower levels.
            after: names of tasks that it waits for (one name, or several), added before or later. With neither
                ``level`` nor ``after`` it waits for nothing.
        """
        self._tasks.append(task)
        self._needs.append(Needs(level, _names(after)))
        return self

    def observe(self, observer: Observer) -> Self:
        """Add an observer; return the builder. The first one added is the outermost."""
        self._observers.append(observer)
        return self

    def build(self) -> AsyncTaskProcessor[T]:
        """Return the processor of what has been added so far.

        Raises:
            PlanError: with everything that is wrong, each problem naming its task: a name that is used twice, a task
                without phases, a function or an observer that cannot be called, a number out of range, an unknown
                name in ``after``, tasks that wait for each other.
        """
        return AsyncTaskProcessor(make_plan(self._tasks, self._needs, self._observers))


def _names(after: Any) -> tuple[str, ...]:
    """What is no name is kept as it is, for :meth:`build` to complain about."""
    return (after,) if isinstance(after, str) or not isinstance(after, Iterable) else tuple(after)
