"""The asynchronous handle of one submitted task."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tranship.checks import Duration
from tranship.envelope import TaskResult, TaskState
from tranship.task import Task

if TYPE_CHECKING:
    from tranship.client._client import AsyncClient
    from tranship.client._shape import Shape

__all__ = ["AsyncTaskHandle"]

R = TypeVar("R")


class AsyncTaskHandle(Generic[R]):
    """One submitted task: ask for its state, wait for its result, cancel or forget it.

    Attributes:
        id: the task's id; :meth:`AsyncClient.handle` makes a handle from it anywhere.
        duplicate: the task was there already (dedup key, same id): nothing was queued, and this handle follows
            the one that was there first.
        stored: whether a result is kept.
        submitted: whether it comes from a submit; else from an id, see :meth:`AsyncClient.handle`.
        final: the terminal result, once this handle has seen it.
    """

    __slots__ = ("_client", "_task", "duplicate", "final", "id", "stored", "submitted")

    @property
    def _shape(self) -> Shape | None:
        """The workflow; None: it is a single task."""
        return None

    def __init__(
        self,
        client: AsyncClient,
        task_id: str,
        task: Task[..., R] | None = None,
        *,
        stored: bool = True,
        duplicate: bool = False,
        submitted: bool = True,
    ) -> None:
        self.id: str = task_id
        self._task = task
        self.duplicate: bool = duplicate
        self.submitted: bool = submitted
        self._client = client
        self.stored: bool = stored
        self.final: TaskResult | None = None

    @property
    def children(self) -> tuple[AsyncTaskHandle[Any], ...]:
        """The handles of its steps; a single task has none."""
        return ()

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait until the task has ended and return its value.

        Args:
            timeout: seconds, or a timedelta, that this caller waits; None: as long as it takes (of an id:
                see :meth:`AsyncClient.handle`). The task itself is not affected.

        Raises:
            ResultTimeout: ``timeout`` passed first.
            TaskFailed, TaskDeadLettered, TaskTimedOut, DeadlineExceeded, TaskCancelled: how the task ended.
            TaskNotFound: the store does not know the task.
            ResultsDisabled: no result is kept.
            BrokerUnreachable: the store cannot be reached.
        """
        value = (await self._ended(timeout)).unwrap()
        result: R = value if self._task is None else self._task.coerce_result(value)
        return result

    async def wait(self, timeout: Duration | None = None) -> TaskResult[R]:
        """Wait until the task has ended and return how, without raising for a failed task.

        Raises:
            ResultTimeout, TaskNotFound, ResultsDisabled, BrokerUnreachable: as :meth:`result`.
        """
        return self._typed(await self._ended(timeout))

    async def state(self) -> TaskState:
        """Read where the task is now.

        PENDING is also what a store says of an id that it cannot know, see :meth:`AsyncClient.handle`; SCHEDULED is
        certain where the broker can look into delayed tasks, or this connection has submitted it.
        """
        return (await self._known()).state

    async def info(self) -> TaskResult[R]:
        """Read what is known now: the state, how far it is if it says so and, once it has ended, value or error."""
        found = await self._known()
        if found.state.terminal:
            return self._typed(found)
        progress = await self._client._progress(self.id)  # noqa: SLF001
        return found if progress is None else replace(found, progress=progress)

    async def stream(self, timeout: Duration | None = None) -> AsyncIterator[Any]:
        """Yield what the task emits, in order, as soon as it is there, from the first part on until the task has ended
        [parts_come_in_order].

        Args:
            timeout: seconds, or a timedelta, for all of it; None: as long as it takes.

        Raises:
            StreamRestarted: the task runs again, and what came before is void; iterate again.
            UnsupportedError: the result store keeps no records.
            ResultTimeout, TaskNotFound, ResultsDisabled, BrokerUnreachable: as :meth:`result`.
            TaskFailed, TaskDeadLettered, TaskTimedOut, DeadlineExceeded, TaskCancelled: how the task ended, after what
                it had emitted.
        """
        async with contextlib.aclosing(self._client._parts(self, timeout)) as parts:  # noqa: SLF001
            async for part in parts:
                yield part

    async def _known(self) -> TaskResult:
        if self.final is None:
            (found,) = await self._client._states([self.id])  # noqa: SLF001
            if not found.state.terminal:
                return found
            self.final = found
        return self.final

    async def ready(self) -> bool:
        """Whether the task has ended."""
        return (await self.state()).terminal

    async def cancel(self) -> None:
        """Cancel the task: it is not run if it is queued, and told to stop if it runs.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        await self._client.cancel(task_id=self.id)

    async def send_event(self, name: str, value: Any = None) -> bool:
        """Send the task an event, with a value if you like, for its ``current().wait_event()`` [events_resume_once].

        It may be sent before the task waits for it, or has begun; it is kept for a week, longer once the task waits.

        Args:
            name: what tells it from the task's other events.
            value: whatever a result may be.

        Returns:
            Whether it is the first of its name; if not, the first one counts.

        Raises:
            InvalidOptionError: no such name.
            EncodeError, MessageTooLarge: the value cannot be sent.
            UnsupportedError: the result store keeps no records.
            BrokerUnreachable: it cannot be reached; sending it again does no harm.
        """
        return await self._client.send_event(self.id, name, value)

    async def forget(self) -> None:
        """Delete the stored result; this handle keeps what it has seen."""
        await self._client.forget([self.id])

    async def _ended(self, timeout: Duration | None) -> TaskResult:
        """Wait for the end; the value is as it came."""
        if self.final is None:
            self.final = await self._client._wait(self, timeout)  # noqa: SLF001 - a handle is half of its client
        return self.final

    def _typed(self, result: TaskResult) -> TaskResult[R]:
        return result if self._task is None else self._task.typed(result)

    def __repr__(self) -> str:
        state = f" {self.final.state}" if self.final is not None else ""
        return f"<AsyncTaskHandle {self.id}{state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncTaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)
