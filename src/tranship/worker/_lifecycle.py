"""What a worker's owner has done around its work: opened before the first task, closed after the last."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from tranship.errors import InvalidOptionError
from tranship.task import name_of

if TYPE_CHECKING:
    from tranship.worker._worker import Worker

__all__ = ["Hook", "Lifecycle", "Lifespan"]

Hook = Callable[[], Awaitable[Any] | None]
Lifespan = Callable[["Worker"], AbstractAsyncContextManager[Any]]


class Lifecycle:
    """Runs on the loop of the handlers, so that what it opens is theirs.

    Args:
        lifespan: makes the context manager that all the work is inside of; None: none.
        on_startup, on_shutdown: called in order, ``def`` or ``async def``.

    Raises:
        InvalidOptionError: something that cannot be called, or not with what it is called with.
    """

    def __init__(self, lifespan: Lifespan | None, on_startup: Iterable[Hook], on_shutdown: Iterable[Hook]) -> None:
        if lifespan is not None and not (callable(lifespan) and _takes(lifespan, 1)):
            raise InvalidOptionError(
                f"lifespan is {lifespan!r}; expected a function of the worker, decorated with @asynccontextmanager"
            )
        self.lifespan = lifespan
        self.on_startup = _hooks("on_startup", on_startup)
        self.on_shutdown = _hooks("on_shutdown", on_shutdown)

    @asynccontextmanager
    async def around(self, worker: Worker) -> AsyncIterator[None]:
        """Start up, and shut down at the end: also what was opened before a start-up that failed.

        Raises:
            InvalidOptionError: what ``lifespan`` returns is no async context manager.
            Whatever they raise; each of ``on_shutdown`` is called all the same.
        """
        async with AsyncExitStack() as stack:
            if self.lifespan is not None:
                await stack.enter_async_context(_context_manager(self.lifespan, worker))
            for hook in self.on_startup:
                await _call(hook)
            for hook in reversed(self.on_shutdown):
                stack.push_async_callback(_call, hook)
            yield


def _hooks(name: str, given: Any) -> Sequence[Hook]:
    if callable(given) or not isinstance(given, Iterable):
        raise InvalidOptionError(f"{name} is {given!r}; expected a list of functions without arguments")
    hooks = tuple(given)
    for one in hooks:
        if not callable(one) or not _takes(one, 0):
            raise InvalidOptionError(f"{name} has {one!r}; expected functions without arguments")
    return hooks


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments, as far as anybody can tell."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _context_manager(lifespan: Lifespan, worker: Worker) -> AbstractAsyncContextManager[Any]:
    made: Any = lifespan(worker)
    if hasattr(type(made), "__aenter__"):
        return made  # type: ignore[no-any-return]
    if inspect.iscoroutine(made):
        made.close()  # or Python complains that nobody has awaited it
    raise InvalidOptionError(
        f"lifespan {name_of(lifespan)} returned a {type(made).__name__}; "
        "expected an async context manager: decorate an async generator with @asynccontextmanager"
    )


async def _call(hook: Hook) -> None:
    done = hook()
    if inspect.isawaitable(done):
        await done
