"""Tasks made of generators: what they yield are parts of the result, what they return is the result."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from tranship.task._context import current
from tranship.task._task import AsyncTask, SyncTask, Task

__all__ = ["AsyncGeneratorTask", "GeneratorTask", "generator_kind"]

P = ParamSpec("P")
R = TypeVar("R")


class GeneratorTask(SyncTask[P, R]):
    """A task made of a generator of ``def``: it runs in a thread of the worker."""

    yields_parts = True

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the generator here and now; no broker is involved."""
        generator: R = self.function.__wrapped__(*args, **kwargs)
        return generator


class AsyncGeneratorTask(AsyncTask[P, R]):
    """A task made of a generator of ``async def``: it runs on the worker's event loop."""

    yields_parts = True

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the generator here and now; no broker is involved."""
        return self.function.__wrapped__(*args, **kwargs)


def generator_kind(function: Callable[..., Any]) -> tuple[type[Task[..., Any]], Callable[..., Any]]:
    """Return which kind of task a generator function makes, and what a worker calls: it emits what is yielded."""
    if any(map(inspect.isasyncgenfunction, (function, type(function).__call__))):
        return AsyncGeneratorTask, _draining_async(function)
    return GeneratorTask, _draining(function)


def _draining_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def drain(*args: Any, **kwargs: Any) -> None:
        context = current()
        async with contextlib.aclosing(function(*args, **kwargs)) as parts:
            async for part in parts:
                if (emitted := context.emit(part)) is not None:
                    await emitted

    return drain


def _draining(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def drain(*args: Any, **kwargs: Any) -> Any:
        context = current()
        with contextlib.closing(function(*args, **kwargs)) as parts:
            while True:
                try:
                    part = next(parts)
                except StopIteration as end:
                    return end.value
                context.emit(part)

    return drain
