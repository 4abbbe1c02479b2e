"""``celery.map`` and ``celery.starmap``: one message in which a task of this worker is called for each of its items."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tranship.errors import InvalidArgumentsError, MalformedMessage, ProcessDied, UnknownTask
from tranship.outcomes import Outcome, Snooze
from tranship.protocol import decode_signature
from tranship.task import BatchCall, BatchTask, Task, current, task
from tranship.worker._dependencies import Dependencies, Given
from tranship.worker._threads import HandlerThreads

if TYPE_CHECKING:
    from tranship.worker._isolation import Isolation

__all__ = ["MAP", "STARMAP", "Each", "each_of"]

MAP: Final = "celery.map"
STARMAP: Final = "celery.starmap"


class Each:
    """Calls handlers within another task, on the handlers' loop: one call after the other, as Celery does.

    Limits, cancels and retries are those of the task around them: an item that asks to be run again has all of them
    run again. A handler in a thread, or in a process, is waited for before the task around it ends. One of batches gets
    each item as a batch of one.

    Args:
        tasks: the handlers by task name.
        threads: where ``def`` handlers run.
        dependencies: what handlers are given besides their arguments.
        isolation: the processes of isolated tasks; None: there are no such tasks.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task[..., Any]],
        threads: HandlerThreads,
        dependencies: Dependencies,
        isolation: Isolation | None,
    ) -> None:
        self._tasks, self._threads = tasks, threads
        self._dependencies, self._isolation = dependencies, isolation

    async def call(self, name: str, signature: Any, items: Iterable[Sequence[Any]]) -> list[Any]:
        """Return what the handler returns for the arguments in each of ``items``.

        Args:
            name: of the task around it, for errors.
            signature: of the task to call. As in Celery only its name counts.
            items: the arguments of each call.

        Raises:
            UnknownTask: this worker does not have it.
            InvalidArgumentsError: ``signature`` is none, or arguments do not fit.
            Whatever the handler raises: the items behind are not called.
        """
        handler = self._handler(name, signature)
        results = []
        for args in items:
            # Cancels and limits get their turn, also where a handler never waits.
            await asyncio.sleep(0)
            results.append(_written(handler, await self._one(handler, args)))
        return results

    def _handler(self, name: str, signature: Any) -> Task[..., Any]:
        try:
            wanted = decode_signature(signature, "task").task
        except MalformedMessage as error:
            raise InvalidArgumentsError(f"{name} takes the signature of a task: {error}") from None
        handler = self._tasks.get(wanted)
        if handler is None:
            raise UnknownTask(f"{name} is to call {wanted!r}, and no task of that name is registered in this worker")
        return handler

    async def _one(self, handler: Task[..., Any], args: Sequence[Any]) -> Any:
        coerced, named = handler.coerce(args, {})
        provides = handler in self._dependencies
        if isinstance(handler, BatchTask):
            coerced, named = [handler.gathered([BatchCall(current(), coerced, named)])], {}
            provides = self._dependencies.of_batch(handler)
        if not provides:
            return await self._handle(handler, coerced, named)
        given = Given(f"an item of task {current().id}", self._in_thread)
        try:
            provided, named = await self._dependencies.arguments(handler, given, coerced, named)
            return await self._handle(handler, provided, named)
        except BaseException as error:
            given.error = error
            raise
        finally:
            await given.close(given.error)

    async def _handle(self, handler: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if handler.isolation is not None:
            return await self._in_process(handler, args, kwargs)
        call = partial(handler.function, *args, **kwargs)
        is_coroutine = handler.is_coroutine if isinstance(handler, BatchTask) else handler.is_async
        value = await (call() if is_coroutine else self._in_thread(call))
        value = await value if inspect.isawaitable(value) else value
        return _of_one(handler, value) if isinstance(handler, BatchTask) else value

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await self._waited_for(call, lambda: None)

    async def _in_process(self, handler: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        assert self._isolation is not None
        call = self._isolation.call(current(), handler, args, kwargs, ahead=0.0)
        ended = await self._waited_for(partial(call.run, None), call.end)
        if ended.died:
            raise ProcessDied(f"the process of task {current().id} ended before its result was there: {ended.died}")
        if (error := ended.error()) is not None:
            raise error
        return ended.value

    async def _waited_for(self, call: Callable[[], Any], end: Callable[[], None]) -> Any:
        """Return or raise what ``call`` does in a thread, which nobody leaves behind; a cancel has it told to end."""
        thread, interrupted = self._threads.start(call), False
        while not thread.done():
            try:
                await thread.wait()
            except asyncio.CancelledError:
                interrupted = True
                end()
        if interrupted:
            raise asyncio.CancelledError
        return thread.result()


def _of_one(handler: BatchTask[..., Any], returned: Any) -> Any:
    """Return or raise what a handler of batches has for its only call."""
    (value,) = handler.one_each(returned, 1)
    if isinstance(value, BaseException):
        raise value
    return value


def _written(handler: Task[..., Any], value: Any) -> Any:
    if isinstance(value, Snooze):
        raise value
    return handler.write_result(value.data if isinstance(value, Outcome) else value)


def each_of(each: Each) -> list[Task[..., Any]]:
    """Return the two tasks.

    Args:
        each: calls the handlers.
    """

    @task(name=MAP)
    async def xmap(task: Any, it: Any) -> Any:
        return await each.call(MAP, task, ((item,) for item in _items(MAP, it)))

    @task(name=STARMAP)
    async def xstarmap(task: Any, it: Any) -> Any:
        return await each.call(STARMAP, task, [_arguments(at, item) for at, item in enumerate(_items(STARMAP, it))])

    return [xmap, xstarmap]


def _items(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidArgumentsError(f"{name} got 'it' of type {type(value).__name__}; expected a list of items")
    return value


def _arguments(at: int, item: Any) -> Sequence[Any]:
    if not isinstance(item, list | tuple):
        raise InvalidArgumentsError(
            f"{STARMAP} got item {at} of type {type(item).__name__}; expected a list of arguments for each call"
        )
    return item
