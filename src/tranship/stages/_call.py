"""One phase function, made ready to run: its attempts, their timeout, the delays between them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import SystemRandom
from types import FunctionType, MethodType
from typing import Any, Final

from tranship.stages._declare import Phase, TaskFunction
from tranship.stages._observe import Attempt, Observer, Watch
from tranship.stages._threads import in_thread

__all__ = ["Call", "is_async", "make_call"]

uniform: Final = SystemRandom().uniform
"""Without a state that an application may have seeded: processes that were seeded alike must not retry in step."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function of the plan, as the engine starts it: ``begin(context)`` gives the coroutine of its asyncio task."""

    task: str
    phase: Phase
    begin: Callable[[Any], Coroutine[Any, Any, Any]]
    label: str
    """The name of the asyncio task."""


def make_call(task: str, phase: Phase, what: TaskFunction[Any], observers: Sequence[Observer]) -> Call:
    """Return the call of ``what``; an ``async def`` that needs nothing from us is started as it is."""
    label = f"{task}.{phase.value}"
    if not observers and what.timeout is None and not what.retries and _is_plain_coroutine(what.function):
        return Call(task, phase, what.function, label)
    runner = _on_loop if is_async(what.function) else in_thread
    return Call(task, phase, _Attempts(task, phase, what, runner, tuple(observers)), label)


@dataclass(frozen=True, slots=True, eq=False)
class _Attempts:
    """Runs one function until an attempt succeeds, or no other may follow."""

    task: str
    phase: Phase
    what: TaskFunction[Any]
    runner: Callable[[Callable[[Any], Any], Any], Coroutine[Any, Any, None]]
    observers: tuple[Observer, ...]

    async def __call__(self, ctx: Any) -> None:
        number = 0
        while True:
            try:
                return await self._once(ctx, number)
            except asyncio.CancelledError:
                raise
            except self.what.retry_on:
                if number >= self.what.retries or _asked_to_stop():
                    raise
            await asyncio.sleep(self._delay(number))
            number += 1

    async def _once(self, ctx: Any, number: int) -> None:
        if not self.observers:
            await self._limited(ctx)
            return
        with Watch(self.observers, Attempt(self.task, self.phase, number, ctx)):
            await self._limited(ctx)

    async def _limited(self, ctx: Any) -> None:
        limit = self.what.timeout
        if limit is None:
            await self.runner(self.what.function, ctx)
            return
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                await self.runner(self.what.function, ctx)
        except TimeoutError as error:
            if scope.expired() and not error.args:  # asyncio's has no text
                error.args = (f"no end after {limit:g} s",)
            raise

    def _delay(self, number: int) -> float:
        try:
            growth = self.what.backoff_factor**number
        except OverflowError:
            growth = float("inf")
        return self.what.initial_delay * growth * uniform(0.5, 1.0) if self.what.initial_delay else 0.0


def _asked_to_stop() -> bool:
    """A function may turn its cancellation into a ConnectionError; it is not run again for that."""
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


async def _on_loop(function: Callable[[Any], Any], ctx: Any) -> None:
    await function(ctx)


def is_async(function: Callable[[Any], Any]) -> bool:
    """Whether ``function`` runs on the event loop; any other runs in a thread."""
    kind: Any = type(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(kind.__call__)


def _is_plain_coroutine(function: Callable[[Any], Any]) -> bool:
    """Whether calling it certainly makes a coroutine; others may only claim to (``inspect.markcoroutinefunction``)."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    return isinstance(plain, FunctionType) and bool(plain.__code__.co_flags & inspect.CO_COROUTINE)
