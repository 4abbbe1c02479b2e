"""Every call of both clients, written once: the asynchronous client awaits it on its own loop, the blocking one has
it run on the process's I/O loop thread, in one crossing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.client.shared import Budget
from tranship.compat.sandai._answers import description, probe_answer, task_result, value_of
from tranship.compat.sandai._config import Config
from tranship.compat.sandai._debug import Debug
from tranship.compat.sandai._preparing import Call, patience_of
from tranship.compat.sandai._shapes import BatchTaskResult, HealthCheckResult, LegacyTaskResult
from tranship.compat.sandai._transport import Links, Transport
from tranship.compat.sandai.exceptions import ClientPoolTimeoutError, OperatorError, TaskTimeoutError
from tranship.envelope import Envelope, Receipt
from tranship.errors import TranshipError

if TYPE_CHECKING:
    from tranship.protocol import Message
    from tranship.waiting import Found

__all__ = ["Calls", "Submitted"]

FORGET: Final = 1.0
"""Seconds that deleting a result may take; it goes by itself when its time is up."""
_CONTENT_TYPES: Final = {"json": "application/json", "msgpack": "application/x-msgpack"}


Submitted = tuple[int, str | None, Exception | None]
"""Of a batch: the index, the id of a submitted task, or why it was not submitted."""


class Calls:
    """What the clients of one operator do.

    Args:
        config: the client's.
        transport: its connections.
        debug: where it says what it does.
    """

    def __init__(self, config: Config, transport: Transport, debug: Debug) -> None:
        self._config = config
        self._transport = transport
        self._debug = debug

    async def submit(self, links: Links, call: Call) -> None:
        """Hand one task over.

        Raises:
            OperatorConnectionError: it could not be handed over.
            ClientPoolTimeoutError: there was no slot; TaskTimeoutError: not within the caller's own time.
            EncodeError, MessageTooLarge, StorageFull: the task cannot be sent, or is not taken.
        """
        try:
            (answer,) = await self._transport.submit(links, [self._message(links, call)], patience_of(call.budget))
        except ClientPoolTimeoutError as error:
            late = self._late(error, call.id, call.timeout)
            if late is error:
                raise
            raise late from error
        if not isinstance(answer, Receipt):
            raise self._transport.translated(answer)
        self._debug.say("client", "task %s submitted to %s", call.id, call.queue)

    async def sync(self, links: Links, call: Call) -> LegacyTaskResult:
        """Hand one task over and wait for its end.

        Raises:
            OperatorError: of any kind.
            TranshipError: as :meth:`submit`.
        """
        return task_result(call.id, await self._answer(links, call)).to_legacy_tuple()

    async def describe(self, links: Links, call: Call) -> dict[str, Any]:
        """The same for a description."""
        return description(call.id, await self._answer(links, call)).to_dict()

    async def check(self, links: Links, call: Call) -> HealthCheckResult:
        """Hand a probe over and say how each leg went; raises nothing that is about the operator."""
        try:
            await self.submit(links, call)
        except TranshipError as error:
            return HealthCheckResult(submit_ok=False, retrieval_ok=False, response_ok=False, error=str(error))
        try:
            answer = await self._await_answer(links, call)
        except TranshipError as error:
            return HealthCheckResult(True, False, False, call.id, str(error))
        well, problem = probe_answer(answer)
        return HealthCheckResult(True, True, well, call.id, problem)

    async def ping(self, links: Links, timeout: float) -> bool:
        """Whether the broker answers on the way that a submit takes."""
        try:
            async with asyncio.timeout(timeout):
                await self._transport.ping(links)
        except (TranshipError, TimeoutError) as error:
            self._debug.say("client", "ping failed: %s", error)
            return False
        return True

    async def submit_batch(self, links: Links, calls: Sequence[Call | Exception]) -> list[Submitted]:
        """Hand the tasks of a batch over, in one slot; say of each what became of it."""
        found: list[Submitted] = [
            (at, None, one if isinstance(one, Exception) else None) for at, one in enumerate(calls)
        ]
        messages: list[Message] = []
        places: list[int] = []
        for at, call in enumerate(calls):
            if isinstance(call, Call):
                try:
                    messages.append(self._message(links, call))
                    places.append(at)
                except TranshipError as error:
                    found[at] = (at, None, error)
        if messages:
            budget = next(call.budget for call in calls if isinstance(call, Call))
            for at, answer in zip(places, await self._batch_answers(links, messages, budget), strict=True):
                good = isinstance(answer, Receipt)
                found[at] = (at, answer.id, None) if good else (at, None, self._transport.translated(answer))
        return found

    async def collect(self, links: Links, submissions: Sequence[Submitted], budget: Budget) -> list[BatchTaskResult]:
        """Wait for the ends of a batch within one budget; results in the order of the batch."""
        ids = list(dict.fromkeys(task_id for _, task_id, _ in submissions if task_id))
        found = await self._transport.gather(links, ids, budget.left())
        await self._forget(links, ids)
        self._debug.say("client", "batch of %d tasks: %d of %d ended", len(submissions), len(found), len(ids))
        return self.results(submissions, found, budget)

    @staticmethod
    def results(submissions: Sequence[Submitted], found: Mapping[str, Found], budget: Budget) -> list[BatchTaskResult]:
        """How the tasks of a batch ended: those that were submitted and are not in ``found`` have not."""
        return [_batch_result(one, found, budget) for one in submissions]

    async def cancel(self, links: Links, key: str, ttl: float) -> None:
        """Cancel everything with the key."""
        await self._transport.cancel(links, "key", key, ttl)
        self._debug.say("client", "cancel key %s set", key)

    # Steps.

    async def _answer(self, links: Links, call: Call) -> Any:
        await self.submit(links, call)
        return await self._await_answer(links, call)

    async def _await_answer(self, links: Links, call: Call) -> Any:
        found = await self._transport.gather(links, [call.id], call.budget.left())
        await self._forget(links, [call.id])
        return value_of(call.id, found.get(call.id), call.timeout)

    async def _forget(self, links: Links, ids: Sequence[str]) -> None:
        if not ids or not self._config.auto_forget_result:
            return
        try:
            async with asyncio.timeout(FORGET):
                await self._transport.forget(links, ids)
        except (TranshipError, TimeoutError) as error:
            self._debug.say("client", "results of %d tasks are left until they expire: %s", len(ids), error)

    async def _batch_answers(self, links: Links, messages: Sequence[Message], budget: Budget) -> Sequence[Any]:
        try:
            return await self._transport.submit(links, messages, patience_of(budget))
        except ClientPoolTimeoutError as error:
            return [self._late(error, one.envelope.id, budget.timeout or 0) for one in messages]
        except OperatorError as error:
            return [error] * len(messages)

    def _late(self, error: ClientPoolTimeoutError, task_id: str, timeout: float) -> OperatorError:
        """Whose time is over before that of the slots has not been kept waiting for too long by them."""
        return TaskTimeoutError(task_id, timeout) if error.timeout < self._config.pool_acquire_timeout else error

    def _message(self, links: Links, call: Call) -> Message:
        # No deadline of our own: an `expires` would have Celery drop what the operator wants to answer itself.
        return links.broker.encode(
            Envelope(
                id=call.id,
                task=self._config.task_name,
                kwargs=call.payload,
                queue=call.queue,
                reply_to=links.backend.reply_to,
                content_type=_CONTENT_TYPES[self._config.task_serializer],
            )
        )


def _batch_result(submitted: Submitted, found: Mapping[str, Found], budget: Budget) -> BatchTaskResult:
    index, task_id, error = submitted
    if task_id is None:
        return BatchTaskResult(index, None, submitted=False, error=error)
    try:
        value = value_of(task_id, found.get(task_id), budget.timeout or 0)
        artifacts, results = task_result(task_id, value).to_legacy_tuple()
    except TranshipError as problem:
        return BatchTaskResult(index, task_id, submitted=True, error=problem)
    return BatchTaskResult(index, task_id, True, artifacts, results)
