"""Work that no cancel of who waits for it reaches, without a task of its own as long as nobody cancels."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["Left", "Shielded"]

T = TypeVar("T")
Spawn = Callable[[Coroutine[Any, Any, T]], asyncio.Task[T]]


class Left(Exception):
    """Who waited for work waits no longer; the work itself goes on, or has ended with the backend."""


class Shielded(Generic[T]):
    """Work for one who awaits it, at a time; what becomes of him is nothing to it.

    It runs in his task, as whatever is awaited does. Only when he is cancelled, or is to wait no longer, it goes on in
    a task of its own, from where it was. Nearly always nobody is: a task for each verb, and the turns of the loop until
    its end is known, would be a good part of what a short task costs.

    Args:
        work: what is done. It asks neither for the task that it runs in nor for one of asyncio's time limits, which do.
        spawn: makes a task.
        in_task: it does ask, and has a task of its own from the beginning.

    Attributes:
        task: where it runs, unless that is the task of who awaits it.
    """

    __slots__ = ("_is_over", "_spawn", "_stand_in", "_waits_for", "_work", "task")

    def __init__(self, work: Coroutine[Any, Any, T], spawn: Spawn[T], *, in_task: bool) -> None:
        self._work, self._spawn = work, spawn
        self.task: asyncio.Task[T] | None = spawn(work) if in_task else None
        self._waits_for: Any = None
        self._stand_in: _StandIn | None = None
        self._is_over = False

    def done(self) -> bool:
        """Whether it has ended."""
        return self._is_over if self.task is None else self.task.done()

    def leave(self) -> None:
        """Have who awaits it wait no longer: he gets :class:`Left`."""
        stand_in = self._stand_in
        # In a forked child, what its parent has left behind waits on a loop that never runs.
        if stand_in is not None and stand_in.get_loop() is asyncio.get_running_loop():
            stand_in.end(Left())

    async def gone(self, timeout: float | None = None) -> None:
        """Wait until its own task has ended, if it has one, whoever else awaits it."""
        if self.task is not None:
            await asyncio.wait({self.task}, timeout=timeout)

    def __await__(self) -> Generator[Any, Any, T]:
        """Return what it brings.

        Raises:
            Left: nobody is to wait any longer, or it was cancelled itself, with the backend.
        """
        return self._here() if self.task is None else self._there(self.task)

    def _here(self) -> Generator[Any, Any, T]:
        work, error = self._work, None
        try:
            while True:
                try:
                    waits_for = work.send(None) if error is None else work.throw(error)
                except StopIteration as done:
                    value: T = done.value
                    return value
                except asyncio.CancelledError:
                    if _is_cancelled():
                        raise
                    raise Left from None
                stand_in = self._stand_in = _StandIn(waits_for or _next_turn(), self._go_on)
                self._waits_for = waits_for
                try:
                    yield stand_in
                    error = None
                except BaseException as thrown:
                    if self._is_his(thrown, stand_in):
                        raise
                    # Whatever it is, it is the work's to hear.
                    error = thrown
                finally:
                    self._stand_in = None
        finally:
            self._is_over = True

    def _there(self, task: asyncio.Task[T]) -> Generator[Any, Any, T]:
        if not task.done():
            stand_in = self._stand_in = _StandIn(task)
            try:
                yield stand_in
            except asyncio.CancelledError:
                if _is_cancelled() or not task.cancelled():
                    raise
            finally:
                self._stand_in = None
        if task.cancelled():
            raise Left
        return task.result()

    def _is_his(self, thrown: BaseException, stand_in: _StandIn) -> bool:
        """Whether it is he who is cancelled or told, and not what is waited for."""
        if stand_in.why is not None:
            return True
        if not isinstance(thrown, asyncio.CancelledError) or stand_in.future.cancelled():
            return False
        # Cancelled when what was waited for had come, and he had not heard of it.
        self._go_on()
        return True

    def _go_on(self) -> None:
        self.task = self._spawn(_Rest(self._work, self._waits_for))


class _StandIn:
    """What a task waits for in the place of a future, which it would cancel with itself.

    Args:
        future: in whose place.
        left: called when the task does not wait for it any more.

    Attributes:
        why: the reason, then.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_left", "_wake", "future", "why")

    def __init__(self, future: Any, left: Callable[[], None] = lambda: None) -> None:
        self.future, self._left = future, left
        self.why: BaseException | None = None
        self._asyncio_future_blocking = True

    # What asyncio asks of what a task waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = self.future.get_loop()
        return loop

    def add_done_callback(self, wake: Callable[[Any], object], *, context: contextvars.Context | None = None) -> None:
        self._wake, self._context = wake, context
        self.future.add_done_callback(wake, context=context)

    def remove_done_callback(self, wake: Callable[[Any], object]) -> int:
        removed: int = self.future.remove_done_callback(wake)
        return removed

    def done(self) -> bool:
        return self.why is not None or bool(self.future.done())

    def cancelled(self) -> bool:
        return isinstance(self.why, asyncio.CancelledError) or bool(self.why is None and self.future.cancelled())

    def cancel(self, msg: str | None = None) -> bool:
        if not self.get_loop().is_running():
            # It has ended, and with it whatever is on it.
            cancelled: bool = self.future.cancel(msg)
            return cancelled
        return self.end(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))

    def result(self) -> Any:
        if self.why is not None:
            raise self.why
        return self.future.result()

    def end(self, why: BaseException) -> bool:
        """Wake the task with ``why``; False: it is being woken already."""
        if self.done():
            return False
        self.why = why
        self.future.remove_done_callback(self._wake)
        self.get_loop().call_soon(self._wake, self, context=self._context)
        self._left()
        return True


class _Rest(Coroutine[Any, Any, T]):
    """The rest of work that waits for something already, for a task.

    The coroutine of a function would not have the work hear of a cancel that comes before the task has begun.
    """

    __slots__ = ("_has_begun", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._work, self._waits_for, self._has_begun = work, waits_for, False

    def send(self, value: Any) -> Any:
        if self._has_begun:
            return self._work.send(value)
        self._has_begun = True
        return self._waits_for

    def throw(self, *error: Any) -> Any:
        if not self._has_begun and self._waits_for is not None:
            # As a task does that is cancelled once it waits.
            self._waits_for.cancel()
        self._has_begun = True
        return self._work.throw(*error)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return (yield from self._work.__await__())


def _is_cancelled() -> bool:
    """Whether it is the current task that is cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _next_turn() -> asyncio.Future[None]:
    """Return what is done in the next turn of the loop, for who waits for nothing but that."""
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    loop.call_soon(turn.set_result, None)
    return turn
