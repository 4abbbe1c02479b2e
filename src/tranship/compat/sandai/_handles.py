"""Handles of submitted tasks: what callers use of Celery's ``AsyncResult``, blocking and awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tranship.client import CANCEL_TTL
from tranship.compat.sandai._answers import celery_state, failure, value_of
from tranship.compat.sandai._arguments import seconds
from tranship.compat.sandai._celery_errors import celery_timeout
from tranship.compat.sandai.exceptions import TaskTimeoutError
from tranship.envelope import TaskResult
from tranship.errors import TranshipError

if TYPE_CHECKING:
    from tranship.compat.sandai._transport import Links, Transport

__all__ = ["AsyncResult", "AsyncSubmittedTask", "AsyncTaskHandle", "ResultReader", "SubmittedTask"]

T = TypeVar("T")


class Caller(Protocol):
    """How a blocking client does what a handle asks of its transport."""

    def __call__(self, work: Callable[[Links], Coroutine[Any, Any, T]], /) -> T:
        """Do it, and return what it gives."""


class AsyncCaller(Protocol):
    """The same of an asynchronous client."""

    async def __call__(self, work: Callable[[Links], Coroutine[Any, Any, T]], /) -> T:
        """Do it, and return what it gives."""


class ResultReader:
    """What a handle asks the result backend, written once for both kinds.

    Args:
        transport: the client's.
        task_id: whose result it is.
    """

    __slots__ = ("_final", "_transport", "id")

    def __init__(self, transport: Transport, task_id: str) -> None:
        self.id: str = task_id
        self._transport = transport
        self._final: TaskResult | None = None

    @property
    def ended(self) -> bool:
        """Whether the task's end has been seen."""
        return self._final is not None

    async def value(self, links: Links, timeout: float | None) -> Any:
        """Wait for the task's value.

        Raises:
            OperatorError: nothing came in time, or the task failed.
        """
        found: Any = self._final
        if found is None:
            found = (await self._transport.gather(links, [self.id], timeout)).get(self.id)
        if isinstance(found, TaskResult) and found.state.terminal:
            self._final = found
        return value_of(self.id, found, timeout or 0)

    async def info(self, links: Links) -> TaskResult:
        """Read what is known now."""
        if self._final is not None:
            return self._final
        (found,) = await self._transport.states(links, [self.id])
        if found.state.terminal:
            self._final = found
        return found

    async def forget(self, links: Links) -> None:
        """Delete the result."""
        await self._transport.forget(links, [self.id])

    async def revoke(self, links: Links) -> None:
        """Have nobody begin it any more."""
        await self._transport.cancel(links, "id", self.id, CANCEL_TTL)


class AsyncResult:
    """A task submitted by ``OperatorClient``: the part of Celery's class of that name that callers use.

    Attributes:
        id: the task's id.
    """

    __slots__ = ("_ask", "_reader", "id")

    def __init__(self, transport: Transport, ask: Caller, task_id: str) -> None:
        self.id: str = task_id
        self._ask = ask
        self._reader = ResultReader(transport, task_id)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Any:  # noqa: ARG002
        """Wait for the task's end and return what the operator returned: its envelope, as it is.

        Args:
            timeout: seconds this caller waits; None: as long as it takes. The task is not affected.
            propagate: whether a failure is raised; otherwise it is returned.
            interval: without effect: results are pushed, not asked for.

        Raises:
            TaskTimeoutError: ``timeout`` passed first; Celery's ``TimeoutError``, too, where Celery is imported.
            TaskExecutionError, TaskCancelledError, TaskDeadlineExceededError: how the task ended.
            OperatorConnectionError: the result backend cannot be reached.
        """
        wait = None if timeout is None else max(0.0, seconds("timeout", timeout))
        try:
            return self._ask(lambda links: self._reader.value(links, wait))
        except TaskTimeoutError as error:
            raise celery_timeout(error) from None
        except TranshipError as error:
            if propagate or not self._reader.ended:
                raise
            return error

    wait = get

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self._info().state.terminal

    def successful(self) -> bool:
        """Whether the task has ended well: the operator answered, be it with an error envelope."""
        return self._info().success

    def failed(self) -> bool:
        """Whether the task has failed without an answer of the operator."""
        return celery_state(self._info().state) == "FAILURE"

    @property
    def state(self) -> str:
        """Celery's name of the state: PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        return celery_state(self._info().state)

    @property
    def status(self) -> str:
        """The same."""
        return self.state

    @property
    def result(self) -> Any:
        """The operator's envelope; the error of a task that failed; None as long as there is neither."""
        found = self._info()
        if not found.state.terminal:
            return None
        return found.value if found.success else failure(found)

    @property
    def info(self) -> Any:
        """The same as :attr:`result`."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The operator's traceback as text, once the task has failed; else None."""
        error = self._info().error
        return None if error is None else error.traceback

    def forget(self) -> None:
        """Delete the stored result; this handle keeps what it has seen."""
        self._ask(self._reader.forget)

    def revoke(self) -> None:
        """Cancel the task: it is not begun any more. What runs already runs on at a Celery operator.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        self._ask(self._reader.revoke)

    def _info(self) -> TaskResult:
        return self._ask(self._reader.info)

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class AsyncTaskHandle:
    """A task submitted by ``AsyncOperatorClient``.

    Attributes:
        id: the task's id.
    """

    __slots__ = ("_ask", "_reader", "_timeout", "id")

    def __init__(self, transport: Transport, ask: AsyncCaller, task_id: str, timeout: float) -> None:
        self.id: str = task_id
        self._ask = ask
        self._timeout = timeout
        self._reader = ResultReader(transport, task_id)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.id

    async def get(self, timeout: float | None = None) -> Any:
        """Wait for the task's end and return what the operator returned: its envelope, as it is.

        Args:
            timeout: seconds this caller waits; None: what the task was submitted with, else the client's.

        Raises:
            TaskTimeoutError: ``timeout`` passed first.
            TaskExecutionError, TaskCancelledError, TaskDeadlineExceededError: how the task ended.
            OperatorConnectionError: the result backend cannot be reached.
        """
        wait = max(0.0, self._timeout if timeout is None else seconds("timeout", timeout))
        return await self._ask(lambda links: self._reader.value(links, wait))

    async def ready(self) -> bool:
        """Whether the task has ended."""
        return (await self._ask(self._reader.info)).state.terminal

    async def state(self) -> str:
        """Celery's name of the state: PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        return celery_state((await self._ask(self._reader.info)).state)

    async def forget(self) -> None:
        """Delete the stored result; this handle keeps what it has seen."""
        await self._ask(self._reader.forget)

    async def revoke(self) -> None:
        """Cancel the task: it is not begun any more. What runs already runs on at a Celery operator.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        await self._ask(self._reader.revoke)

    def __repr__(self) -> str:
        return f"<AsyncTaskHandle {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncTaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True)
class SubmittedTask:
    """One task of a batch after its submit: a handle, or why there is none."""

    index: int
    async_result: AsyncResult | None = None
    error: Exception | None = None

    @property
    def submitted(self) -> bool:
        """Whether the broker has it."""
        return self.async_result is not None and self.error is None

    @property
    def task_id(self) -> str | None:
        """The task's id; None: not submitted."""
        return None if self.async_result is None else self.async_result.id


@dataclass(frozen=True)
class AsyncSubmittedTask:
    """The same for the asynchronous client."""

    index: int
    handle: AsyncTaskHandle | None = None
    error: Exception | None = None

    @property
    def submitted(self) -> bool:
        """Whether the broker has it."""
        return self.handle is not None and self.error is None

    @property
    def task_id(self) -> str | None:
        """The task's id; None: not submitted."""
        return None if self.handle is None else self.handle.id
