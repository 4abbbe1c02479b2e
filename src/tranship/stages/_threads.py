"""Plain functions run in threads, which nobody can stop: they are asked to, and waited for."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Final

__all__ = ["cancelled", "in_thread", "wait_cancelled"]

_STOP: Final[ContextVar[threading.Event | None]] = ContextVar("tranship_stages_stop", default=None)


def cancelled() -> bool:
    """Whether the plain phase function that runs here has been asked to stop: timed out, cancelled, a sibling failed.

    Always False elsewhere: an ``async def`` function is cancelled as asyncio does it.
    """
    stop = _STOP.get()
    return stop is not None and stop.is_set()


def wait_cancelled(timeout: float) -> bool:
    """Block at most ``timeout`` seconds, until the function should stop; return :func:`cancelled`.

    For a plain phase function, in place of ``time.sleep``.

    Raises:
        RuntimeError: no plain phase function runs here.
    """
    stop = _STOP.get()
    if stop is None:
        raise RuntimeError("wait_cancelled() is for plain functions run by stages; no such function runs here")
    return stop.wait(timeout)


async def in_thread(function: Callable[[Any], Any], ctx: Any) -> None:
    """Call ``function`` in a thread of the loop's pool, in a copy of the current context.

    Returns only when the function has: what follows, a retry or the cleanup, must never run beside it.

    Raises:
        CancelledError: this was cancelled, and the function has returned.
    """
    stop = threading.Event()
    future = asyncio.get_running_loop().run_in_executor(None, _caller(function, ctx, stop))
    told: asyncio.CancelledError | None = None
    in_time = False
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            told, in_time = error, in_time or not future.done()
            stop.set()
        except BaseException:  # noqa: BLE001 - the function's own; read from the future below
            break
    value = future.result()
    if told is not None and (in_time or inspect.isawaitable(value)):
        if inspect.iscoroutine(value):
            value.close()
        raise told
    if inspect.isawaitable(value):
        # A plain wrapper around an async def.
        await value


def _caller(function: Callable[[Any], Any], ctx: Any, stop: threading.Event) -> Callable[[], Any]:
    context = copy_context()
    context.run(_STOP.set, stop)

    def call() -> Any:
        if stop.is_set():  # asked to stop while it waited for a thread
            return None
        try:
            return context.run(function, ctx)
        except StopIteration as error:
            raise RuntimeError(f"the function raised StopIteration: {error}") from error  # no future can hold it

    return call
