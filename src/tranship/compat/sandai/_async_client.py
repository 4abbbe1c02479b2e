"""The asynchronous client of an operator: the same calls, awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tranship.client import CANCEL_TTL
from tranship.client.shared import Budget
from tranship.compat.sandai._calls import Submitted
from tranship.compat.sandai._facade import Facade
from tranship.compat.sandai._handles import AsyncSubmittedTask, AsyncTaskHandle
from tranship.compat.sandai._preparing import Controls, patience_of
from tranship.compat.sandai._shapes import (
    BatchTaskResult,
    HealthCheckResult,
    LegacyBatchTasks,
    LegacyTaskResult,
)
from tranship.compat.sandai._transport import Links
from tranship.envelope import new_id
from tranship.errors import TranshipError

__all__ = ["AsyncOperatorClient"]

T = TypeVar("T")


class AsyncOperatorClient(Facade):
    """Sends tasks to an operator and waits for its answers, from asyncio.

    One object may be used from several event loops and threads, and in a forked child.

    The arguments are those of :class:`~tranship.compat.sandai._facade.Facade`, which describes them.
    """

    _where = "async_transport"

    async def aclose(self) -> None:
        """Give the connections back; the last client of each closes it. Idempotent."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def desc(self) -> dict[str, Any]:
        """What the operator says of itself: ``doc``, ``options_schema``, ``results_schema``. Asked for once.

        Raises:
            OperatorError: as :meth:`sync`.
        """
        if self._description is None:
            call = self._preparing.desc()
            patience = patience_of(call.budget)
            self._description = await self._run(lambda links: self._calls.describe(links, call), patience)
        return self._description

    async def async_call(  # noqa: PLR0917 - in the order that callers know
        self,
        input_artifacts: list[dict[str, Any]],
        options: dict[str, Any],
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> AsyncTaskHandle:
        """Hand one task over; returns once the broker has it.

        Args:
            input_artifacts: maps with ``uri`` and ``slot``, handed on as they are.
            options: the operator's own.
            priority: one of four; None: the client's.
            timeout: seconds; the operator does not begin when they are over. None: the client's.
            cancel_key: the operator does not begin when it is set; None: the client's.
            persistent_output: whether what the operator uploads is kept.

        Raises:
            InvalidPriorityError, InvalidOptionError, InvalidArgumentsError, EncodeError, MessageTooLarge:
                nothing was sent.
            OperatorConnectionError: the broker cannot be reached, or did not take the task in time.
            ClientPoolTimeoutError: no broker slot became free.
        """
        controls = Controls(priority, timeout, cancel_key, persistent_output)
        call = self._preparing.process(input_artifacts, options, controls)
        await self._run(lambda links: self._calls.submit(links, call))
        return AsyncTaskHandle(self._transport, self._run, call.id, call.timeout)

    async def sync(
        self,
        input_artifacts: list[dict[str, Any]],
        options: dict[str, Any],
        priority: str | None = None,
        *,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> LegacyTaskResult:
        """Hand one task over and wait for the operator's answer: artifacts and results.

        Args:
            input_artifacts, options, priority, timeout, cancel_key, persistent_output: as :meth:`async_call`;
                ``timeout`` is also how long this call takes.

        Raises:
            TaskTimeoutError: no answer within ``timeout``.
            TaskExecutionError, TaskDeadlineExceededError, TaskCancelledError: what the operator answered.
            InvalidTaskStatusError, InvalidResultFormatError: it answered something else.
            OperatorConnectionError, ClientPoolTimeoutError and errors of bad input: as :meth:`async_call`.
        """
        controls, task_id = Controls(priority, timeout, cancel_key, persistent_output), new_id()
        budget = Budget(max(0.0, self._preparing.timeout(timeout)))
        with self._preparing.tracing.span(task_id):
            call = self._preparing.process(input_artifacts, options, controls, budget, task_id=task_id)
            return await self._run(lambda links: self._calls.sync(links, call), patience_of(budget))

    async def batch_submit(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[AsyncSubmittedTask]:
        """Hand many tasks over at once; each has a handle, or says why it was not submitted. One deadline for all.

        Raises:
            InvalidPriorityError, InvalidOptionError, InvalidArgumentsError: what is wrong for all of them.
        """
        return await self._submit_batch(tasks, Controls(priority, timeout, cancel_key, persistent_output), None)

    async def batch_collect(
        self, submissions: Sequence[AsyncSubmittedTask], *, timeout: float | None = None
    ) -> list[BatchTaskResult]:
        """Wait for the tasks of a batch; results in the order of ``submissions``.

        Args:
            submissions: from :meth:`batch_submit`.
            timeout: seconds for all of them together; None: the client's. Who has not ended then has a
                TaskTimeoutError.

        Raises:
            OperatorConnectionError: the result backend cannot be reached.
        """
        return await self._collect(submissions, Budget(max(0.0, self._preparing.timeout(timeout))))

    async def batch_sync_detailed(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[BatchTaskResult]:
        """Both in one: ``timeout`` is the budget of handing over and waiting together, and every task's deadline."""
        controls = Controls(priority, timeout, cancel_key, persistent_output)
        budget = Budget(max(0.0, self._preparing.timeout(timeout)))
        return await self._collect(await self._submit_batch(tasks, controls, budget), budget)

    async def batch_async(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[AsyncTaskHandle | None]:
        """As :meth:`batch_submit`, in its older shape: a handle, or None for what was not submitted."""
        controls = Controls(priority, timeout, cancel_key, persistent_output)
        return [one.handle for one in await self._submit_batch(tasks, controls, None)]

    async def batch_sync(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[LegacyTaskResult]:
        """As :meth:`batch_sync_detailed`, in its older shape: artifacts and results, empty for what failed."""
        found = await self.batch_sync_detailed(
            tasks, priority=priority, timeout=timeout, cancel_key=cancel_key, persistent_output=persistent_output
        )
        return [one.to_legacy_tuple() for one in found]

    async def cancel(self, key: str, *, ttl: float = CANCEL_TTL) -> None:
        """Set a cancel key: no operator begins a task with it any more, for ``ttl`` seconds.

        On Redis that is a key of this very name, which is what operators look for; a key that holds something
        else is never overwritten.

        Raises:
            UnsupportedError: the broker has no control channel.
            OperatorConnectionError: it cannot be reached.
        """
        key, ttl = self._checked_key(key, ttl)
        await self._run(lambda links: self._calls.cancel(links, key, ttl))

    def get_queue_info(self) -> dict[str, str]:
        """The queue of each priority."""
        return self.queue_names

    async def probe(self, timeout: float = 10) -> HealthCheckResult:
        """Have the operator answer a test task, and say how each leg went, within ``timeout`` seconds."""
        call = self._preparing.probe(timeout)
        try:
            return await self._run(lambda links: self._calls.check(links, call), patience_of(call.budget))
        except TranshipError as error:
            return HealthCheckResult(submit_ok=False, retrieval_ok=False, response_ok=False, error=str(error))

    async def ping(self, timeout: float = 10) -> bool:
        """Whether tasks can be submitted: one round trip on the way that they take. No task is sent."""
        budget = Budget(max(0.0, self._preparing.timeout(timeout)))
        patience = patience_of(budget)
        try:
            return await self._run(lambda links: self._calls.ping(links, patience or 0), patience)
        except TranshipError:
            return False

    # Steps.

    async def _run(self, work: Callable[[Links], Coroutine[Any, Any, T]], patience: float | None = None) -> T:
        links = await self._transport.links(patience)
        try:
            return await work(links)
        except TranshipError as error:
            translated = self._transport.translated(error)
            if translated is error:
                raise
            raise translated from error

    async def _submit_batch(
        self, tasks: LegacyBatchTasks, controls: Controls, budget: Budget | None
    ) -> list[AsyncSubmittedTask]:
        calls = self._preparing.batch(tasks, controls, budget)
        if not calls:
            return []
        patience = None if budget is None else patience_of(budget)
        try:
            found = await self._run(lambda links: self._calls.submit_batch(links, calls), patience)
        except TranshipError as error:
            found = [(at, None, one if isinstance(one, Exception) else error) for at, one in enumerate(calls)]
        timeout = self._preparing.timeout(controls.timeout)
        return [self._submitted(one, timeout) for one in found]

    def _submitted(self, found: Submitted, timeout: float) -> AsyncSubmittedTask:
        index, task_id, error = found
        return AsyncSubmittedTask(
            index, None if task_id is None else AsyncTaskHandle(self._transport, self._run, task_id, timeout), error
        )

    async def _collect(self, submissions: Sequence[AsyncSubmittedTask], budget: Budget) -> list[BatchTaskResult]:
        several = self._several(submissions, AsyncSubmittedTask)
        asked = [(one.index, one.task_id if one.submitted else None, one.error) for one in several]
        if not any(task_id for _, task_id, _ in asked):
            # Nothing to wait for, so that no connection is needed to say so.
            return self._calls.results(asked, {}, budget)
        return await self._run(lambda links: self._calls.collect(links, asked, budget), patience_of(budget))
