"""Results: asked for at an orchestrator, and reported to a shepherd."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NoReturn
from uuid import UUID

from tranship.driver import Connection, Kit
from tranship.envelope import TaskState
from tranship.errors import BrokerError, BrokerRefused, UnsupportedError
from tranship.ports import ResultSink, StoredResult
from tranship.protocol import decode_result, encode_result
from tranship_azolla import wire_pb2 as wire
from tranship_azolla._connection import AzollaConnection, ShepherdConnection
from tranship_azolla._methods import REPORT_RESULT, WAIT_FOR_TASK
from tranship_azolla._outcomes import result_message, result_read

__all__ = ["OrchestratorResults", "ShepherdResults"]

AT_ONCE: Final = 200
"""Calls of one read that are under way at once: of a task that has not ended an orchestrator says so after 200 ms."""
LOOK: Final = 1
"""Milliseconds that an orchestrator waits for a task: with 0 it does not tell an unknown one from one that runs."""


class _Unpushed:
    """What every store has that pushes nothing."""

    def attach(self, sink: ResultSink) -> None:
        """Nothing is pushed."""

    def expect(self, ids: Sequence[str]) -> None:
        """Nothing is pushed."""

    def unexpect(self, ids: Sequence[str]) -> None:
        """Nothing is pushed."""


class OrchestratorResults(_Unpushed):
    """What an orchestrator knows of its tasks; see :class:`tranship.ports.ResultStore`.

    Args:
        kit: the backend's.
        domain: where the tasks are.
    """

    def __init__(self, kit: Kit, domain: str) -> None:
        self._kit, self._domain = kit, domain

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:
        """Ask after each."""
        self._kit.gate.check()
        return await self._kit.run("get_many", lambda connection: self._all(connection, ids))

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:  # noqa: ARG002 - as any store
        """Refuse."""
        self._refuse("store results: a worker reports to its shepherd, which azolla-worker does")

    async def forget_many(self, ids: Sequence[str]) -> None:  # noqa: ARG002 - as any store
        """Refuse."""
        self._refuse("forget results: it keeps them for as long as it is set up to")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(f"{self._kit.url}: an Azolla orchestrator cannot be told to {what}")

    async def _all(self, connection: Connection, ids: Sequence[str]) -> list[StoredResult]:
        assert isinstance(connection, AzollaConnection)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(task_id: str) -> StoredResult:
            async with places:
                return await self._one(connection, task_id)

        return await asyncio.gather(*map(one, ids))

    async def _one(self, connection: AzollaConnection, task_id: str) -> StoredResult:
        if not _is_id(task_id):
            return StoredResult(id=task_id, state=TaskState.UNKNOWN)
        request = wire.WaitForTaskRequest(task_id=task_id, domain=self._domain, timeout_ms=LOOK)
        return _stored(task_id, await connection.link.asked(WAIT_FOR_TASK, request), connection.link.url)


class ShepherdResults(_Unpushed):
    """Where a process that a shepherd has started says how its task ended; see :class:`tranship.ports.ResultStore`.

    Args:
        kit: the backend's.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def put(self, results: Sequence[StoredResult]) -> Sequence[bool]:
        """Report each."""
        self._kit.gate.check()
        return await self._kit.run("put", lambda connection: self._all(connection, results))

    async def get_many(self, ids: Sequence[str]) -> Sequence[StoredResult]:  # noqa: ARG002 - as any store
        """Refuse."""
        raise UnsupportedError(f"{self._kit.url}: an Azolla shepherd tells no results; ask its orchestrator")

    async def forget_many(self, ids: Sequence[str]) -> None:  # noqa: ARG002 - as any store
        """Refuse."""
        raise UnsupportedError(f"{self._kit.url}: an Azolla shepherd keeps no results")

    async def _all(self, connection: Connection, results: Sequence[StoredResult]) -> list[bool]:
        assert isinstance(connection, ShepherdConnection)
        return [await self._one(connection, one) for one in results]

    async def _one(self, connection: ShepherdConnection, stored: StoredResult) -> bool:
        message = result_message(decode_result(stored.document, task_id=stored.id))
        request = wire.ReportResultRequest(task_id=stored.id, result=message)
        answer = await connection.link.asked(REPORT_RESULT, request)
        if not answer.success:
            said = answer.message or "and does not say why"
            raise BrokerRefused(
                f"{connection.link.url}: the shepherd does not take the result of task {stored.id}: {said}",
                task_id=stored.id,
            )
        return True


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _stored(task_id: str, answer: Any, url: str) -> StoredResult:
    status = answer.status_code
    if status == wire.COMPLETED:
        result = result_read(task_id, answer)
        return StoredResult(id=task_id, state=result.state, document=encode_result(result))
    if status == wire.INTERNAL_ERROR:
        raise BrokerError(
            f"{url}: the orchestrator has failed in itself (INTERNAL_ERROR) when it was asked after task {task_id}, "
            "which may go on all the same; its log says more",
            task_id=task_id,
        )
    return StoredResult(id=task_id, state=_STATES.get(status, TaskState.PENDING))


_STATES: Final = {wire.TASK_NOT_FOUND: TaskState.UNKNOWN, wire.TIMEOUT: TaskState.PENDING}
"""States that are no end; one that a newer orchestrator may have is none either."""
