"""The blocking client of an operator."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tranship.client import CANCEL_TTL
from tranship.client.shared import Budget
from tranship.compat.sandai._calls import Submitted
from tranship.compat.sandai._facade import Facade
from tranship.compat.sandai._handles import AsyncResult, SubmittedTask
from tranship.compat.sandai._preparing import Controls, patience_of
from tranship.compat.sandai._shapes import (
    BatchTaskResult,
    HealthCheckResult,
    LegacyBatchTasks,
    LegacyTaskResult,
)
from tranship.compat.sandai._transport import Links
from tranship.connections import process_table
from tranship.envelope import new_id
from tranship.errors import TranshipError

__all__ = ["OperatorClient"]

T = TypeVar("T")


class OperatorClient(Facade):
    """Sends tasks to an operator and waits for its answers. Thread-safe, and safe to use in a forked child.

    The arguments are those of :class:`~tranship.compat.sandai._facade.Facade`, which describes them.
    """

    def close(self) -> None:
        """Give the connections back; the last client of each closes it. Idempotent."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def desc(self) -> dict[str, Any]:
        """What the operator says of itself: ``doc``, ``options_schema``, ``results_schema``. Asked for once.

        Raises:
            OperatorError: as :meth:`sync`.
        """
        if self._description is None:
            call = self._preparing.desc()
            patience = patience_of(call.budget)
            self._description = self._run(lambda links: self._calls.describe(links, call), patience)
        return self._description

    def async_call(  # noqa: PLR0917 - in the order that callers know
        self,
        input_artifacts: list[dict[str, Any]],
        options: dict[str, Any],
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> AsyncResult:
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
        self._run(lambda links: self._calls.submit(links, call))
        return AsyncResult(self._transport, self._run, call.id)

    def sync(
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
            return self._run(lambda links: self._calls.sync(links, call), patience_of(budget))

    def batch_submit(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[SubmittedTask]:
        """Hand many tasks over at once; each has a handle, or says why it was not submitted. One deadline for all.

        Raises:
            InvalidPriorityError, InvalidOptionError, InvalidArgumentsError: what is wrong for all of them.
        """
        return self._submit_batch(tasks, Controls(priority, timeout, cancel_key, persistent_output), None)

    def batch_collect(
        self, submissions: Sequence[SubmittedTask], *, timeout: float | None = None
    ) -> list[BatchTaskResult]:
        """Wait for the tasks of a batch; results in the order of ``submissions``.

        Args:
            submissions: from :meth:`batch_submit`.
            timeout: seconds for all of them together; None: the client's. Who has not ended then has a
                TaskTimeoutError.

        Raises:
            OperatorConnectionError: the result backend cannot be reached.
        """
        return self._collect(submissions, Budget(max(0.0, self._preparing.timeout(timeout))))

    def batch_sync_detailed(
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
        return self._collect(self._submit_batch(tasks, controls, budget), budget)

    def batch_async(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[AsyncResult | None]:
        """As :meth:`batch_submit`, in its older shape: a handle, or None for what was not submitted."""
        controls = Controls(priority, timeout, cancel_key, persistent_output)
        return [one.async_result for one in self._submit_batch(tasks, controls, None)]

    def batch_sync(
        self,
        tasks: LegacyBatchTasks,
        *,
        priority: str | None = None,
        timeout: float | None = None,
        cancel_key: str | None = None,
        persistent_output: bool = False,
    ) -> list[LegacyTaskResult]:
        """As :meth:`batch_sync_detailed`, in its older shape: artifacts and results, empty for what failed."""
        found = self.batch_sync_detailed(
            tasks, priority=priority, timeout=timeout, cancel_key=cancel_key, persistent_output=persistent_output
        )
        return [one.to_legacy_tuple() for one in found]

    def cancel(self, key: str, *, ttl: float = CANCEL_TTL) -> None:
        """Set a cancel key: no operator begins a task with it any more, for ``ttl`` seconds.

        On Redis that is a key of this very name, which is what operators look for; a key that holds something
        else is never overwritten.

        Raises:
            UnsupportedError: the broker has no control channel.
            OperatorConnectionError: it cannot be reached.
        """
        key, ttl = self._checked_key(key, ttl)
        self._run(lambda links: self._calls.cancel(links, key, ttl))

    def get_queue_info(self) -> dict[str, str]:
        """The queue of each priority."""
        return self.queue_names

    def probe(self, timeout: float = 10) -> HealthCheckResult:
        """Have the operator answer a test task, and say how each leg went, within ``timeout`` seconds."""
        call = self._preparing.probe(timeout)
        try:
            return self._run(lambda links: self._calls.check(links, call), patience_of(call.budget))
        except TranshipError as error:
            return HealthCheckResult(submit_ok=False, retrieval_ok=False, response_ok=False, error=str(error))

    def ping(self, timeout: float = 10) -> bool:
        """Whether tasks can be submitted: one round trip on the way that they take. No task is sent."""
        budget = Budget(max(0.0, self._preparing.timeout(timeout)))
        patience = patience_of(budget)
        try:
            return self._run(lambda links: self._calls.ping(links, patience or 0), patience)
        except TranshipError:
            return False

    # Steps.

    def _run(self, work: Callable[[Links], Coroutine[Any, Any, T]], patience: float | None = None) -> T:
        links = self._transport.blocking_links(patience)
        try:
            return process_table().portal_of(links.broker.loop).run(work(links))
        except TranshipError as error:
            translated = self._transport.translated(error)
            if translated is error:
                raise
            raise translated from error

    def _submit_batch(self, tasks: LegacyBatchTasks, controls: Controls, budget: Budget | None) -> list[SubmittedTask]:
        calls = self._preparing.batch(tasks, controls, budget)
        if not calls:
            return []
        patience = None if budget is None else patience_of(budget)
        try:
            found = self._run(lambda links: self._calls.submit_batch(links, calls), patience)
        except TranshipError as error:
            found = [(at, None, one if isinstance(one, Exception) else error) for at, one in enumerate(calls)]
        return [self._submitted(one) for one in found]

    def _submitted(self, found: Submitted) -> SubmittedTask:
        index, task_id, error = found
        return SubmittedTask(
            index, None if task_id is None else AsyncResult(self._transport, self._run, task_id), error
        )

    def _collect(self, submissions: Sequence[SubmittedTask], budget: Budget) -> list[BatchTaskResult]:
        several = self._several(submissions, SubmittedTask)
        asked = [(one.index, one.task_id if one.submitted else None, one.error) for one in several]
        if not any(task_id for _, task_id, _ in asked):
            # Nothing to wait for, so that no connection is needed to say so.
            return self._calls.results(asked, {}, budget)
        return self._run(lambda links: self._calls.collect(links, asked, budget), patience_of(budget))
