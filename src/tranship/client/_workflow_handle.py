"""The asynchronous handle of one submitted workflow."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tranship.checks import Duration
from tranship.client._handle import AsyncTaskHandle
from tranship.client._shape import Leaf, Shape, coerced, ends, leaves, typed
from tranship.envelope import TaskResult, WorkflowResult

if TYPE_CHECKING:
    from tranship.client._client import AsyncClient

__all__ = ["AsyncWorkflowHandle"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class AsyncWorkflowHandle(AsyncTaskHandle[R], Generic[R]):
    """One submitted workflow: the handle of its result, and of its steps.

    Attributes:
        id: the id of the task that ends it, or of the gathering that does.
        children: a handle for each of its steps, in order; that of a gathering has one for each member.
    """

    __slots__ = ("__dict__", "_whole")
    final: TaskResult | None

    def __init__(self, client: AsyncClient, shape: Shape, *, stored: bool = True) -> None:
        super().__init__(client, shape.id, stored=stored)
        self._whole = shape

    @property
    def _shape(self) -> Shape:
        return self._whole

    @cached_property
    def children(self) -> tuple[AsyncWorkflowHandle[Any], ...]:
        """A handle for each of its steps, in order; that of a gathering has one for each member."""
        shape = self._whole
        return () if isinstance(shape, Leaf) else tuple(map(self._child, shape.parts))

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait until the workflow has ended and return the value of its last step, of a gathering the list of values.

        Args:
            timeout: seconds, or a timedelta, that this caller waits; None: as long as it takes. The workflow itself is
                not affected.

        Raises:
            ResultTimeout: ``timeout`` passed first.
            TaskFailed, TaskDeadLettered, TaskTimedOut, DeadlineExceeded, TaskCancelled: how a step ended; those after
                it do not run. Of a gathering it is the first member, in order, that did not succeed, once all have
                ended.
            ResultsDisabled: no result is kept.
            BrokerUnreachable: the store cannot be reached.
        """
        result: R = coerced(self._whole, (await self._ended(timeout)).unwrap())
        return result

    async def info(self) -> WorkflowResult[R]:
        """Read what is known now: the state of the whole and of each step and, once it has ended, value or error.

        It is STARTED as soon as one of its steps is, and until all of it has ended.
        """
        return await self._client._snapshot(self._whole)  # noqa: SLF001 - a handle is half of its client

    async def cancel(self) -> None:
        """Cancel the workflow: what runs of it is told to stop, and nothing more of it is run.

        Raises:
            UnsupportedError: the broker has no control channel.
        """
        await self._client._cancel_all(self._whole)  # noqa: SLF001

    async def forget(self) -> None:
        """Delete the stored results of all its steps; this handle keeps what it has seen."""
        await self._client.forget([leaf.id for leaf in leaves(self._whole)])

    async def _known(self) -> TaskResult:
        return await self.info() if self.final is None else self.final

    async def _ended(self, timeout: Duration | None) -> TaskResult:
        if self.final is None:
            self.final = await self._client._follow(self, self._whole, timeout)  # noqa: SLF001
        return self.final

    def _typed(self, result: TaskResult) -> TaskResult[R]:
        return typed(self._whole, result)

    def _child(self, shape: Shape) -> AsyncWorkflowHandle[Any]:
        stored = all(leaf.stored for leaf in ends(shape))
        return AsyncWorkflowHandle(self._client, shape, stored=stored)
