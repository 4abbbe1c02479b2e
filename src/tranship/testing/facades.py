"""Both facades behind one adapter, so that every promise is written once and checked twice."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar

from tranship.checks import Duration
from tranship.client import AsyncClient
from tranship.client._link import ClientLink
from tranship.envelope import TaskResult, TaskState
from tranship.sync import Client

__all__ = ["FacadeClient", "FacadeHandle", "in_thread", "raised"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


async def raised(call: Awaitable[object], kind: type[E]) -> E:
    """Insist that awaiting ``call`` raises ``kind``; return the error."""
    try:
        found = await call
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {found!r}")


async def in_thread(call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run ``call`` in a thread of its own, however many there are, and return what it gives.

    Cancelling the caller does not reach the thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def serve() -> None:
        try:
            value = context.run(functools.partial(call, *args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            _tell(loop, future, future.set_exception, error)
        else:
            _tell(loop, future, future.set_result, value)

    threading.Thread(target=serve, name="kit-caller", daemon=True).start()
    return await future


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], tell: Callable[[Any], None], what: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if future.done() else tell(what))


class FacadeHandle:
    """A handle of either facade; every call is awaited."""

    def __init__(self, handle: Any, call: Callable[..., Awaitable[Any]]) -> None:
        self.native = handle
        self._call = call

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self.native.id)

    @property
    def duplicate(self) -> bool:
        """Whether the task was there already."""
        return bool(self.native.duplicate)

    async def result(self, timeout: Duration | None = None) -> Any:
        """As the handle's."""
        return await self._call(self.native.result, timeout)

    async def wait(self, timeout: Duration | None = None) -> TaskResult:
        """As the handle's."""
        result: TaskResult = await self._call(self.native.wait, timeout)
        return result

    async def state(self) -> TaskState:
        """As the handle's."""
        state: TaskState = await self._call(self.native.state)
        return state

    async def info(self) -> TaskResult:
        """As the handle's."""
        result: TaskResult = await self._call(self.native.info)
        return result

    async def stream(self, timeout: Duration | None = None) -> AsyncIterator[Any]:
        """As the handle's."""
        parts = self.native.stream(timeout)
        if hasattr(parts, "__aiter__"):
            async with contextlib.aclosing(parts):
                async for part in parts:
                    yield part
            return
        over = object()
        try:
            while (part := await self._call(next, parts, over)) is not over:
                yield part
        finally:
            await self._call(parts.close)

    async def ready(self) -> bool:
        """As the handle's."""
        return bool(await self._call(self.native.ready))

    async def cancel(self) -> None:
        """As the handle's."""
        await self._call(self.native.cancel)

    async def send_event(self, name: str, value: Any = None) -> bool:
        """As the handle's."""
        return bool(await self._call(self.native.send_event, name, value))

    async def forget(self) -> None:
        """As the handle's."""
        await self._call(self.native.forget)


class FacadeClient:
    """A client of either facade; every call is awaited, those of the blocking one in a thread each."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.native: Any = client
        self.blocking: bool = isinstance(client, Client)

    async def open(self) -> Self:
        """As the client's."""
        await self.call(self.native.open)
        return self

    async def close(self) -> None:
        """As ``close()`` or ``aclose()``."""
        await self.call(self.native.close if self.blocking else self.native.aclose)

    async def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> FacadeHandle:
        """As the client's."""
        return self._wrap(await self.call(self.native.submit, task, *args, **kwargs))

    async def submit_many(self, calls: Iterable[Any]) -> list[FacadeHandle]:
        """As the client's."""
        return [self._wrap(handle) for handle in await self.call(self.native.submit_many, calls)]

    def handle(self, task_id: str, task: Any = None) -> FacadeHandle:
        """As the client's."""
        return self._wrap(self.native.handle(task_id, task))

    async def collect(self, handles: Iterable[FacadeHandle], timeout: Duration | None = None) -> list[TaskResult]:
        """As the client's."""
        found: list[TaskResult] = await self.call(self.native.collect, [one.native for one in handles], timeout)
        return found

    async def as_completed(
        self, handles: Iterable[FacadeHandle], timeout: Duration | None = None
    ) -> AsyncIterator[FacadeHandle]:
        """As the client's."""
        natives = [one.native for one in handles]
        if not self.blocking:
            async for native in self.native.as_completed(natives, timeout):
                yield self._wrap(native)
            return
        iterator = self.native.as_completed(natives, timeout)
        while (native := await in_thread(next, iterator, None)) is not None:
            yield self._wrap(native)

    async def forget(self, tasks: Iterable[FacadeHandle | str]) -> None:
        """As the client's."""
        await self.call(self.native.forget, [one if isinstance(one, str) else one.native for one in tasks])

    async def cancel(self, *args: Any, **kwargs: Any) -> list[str]:
        """As the client's."""
        removed: list[str] = await self.call(self.native.cancel, *args, **kwargs)
        return removed

    async def ping(self) -> float:
        """As the client's."""
        return float(await self.call(self.native.ping))

    async def probe(self, queue: str, timeout: float) -> Any:
        """As the client's."""
        return await self.call(self.native.probe, queue, timeout)

    async def waited_for(self) -> int:
        """How many results are waited for on the client's link."""

        async def count(link: ClientLink) -> int:
            return len(link.waiting)

        return int(await self.call(self.native._on_link, count))  # noqa: SLF001 - nothing public shows it

    async def call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the native object, or of one of its handles."""
        if self.blocking:
            return await in_thread(method, *args, **kwargs)
        return await method(*args, **kwargs)

    def _wrap(self, handle: Any) -> FacadeHandle:
        return FacadeHandle(handle, self.call)
