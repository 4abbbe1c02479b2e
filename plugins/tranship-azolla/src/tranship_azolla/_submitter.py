"""Submitting: one call for each task, many at once; the orchestrator gives each its id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc

from tranship.driver import Connection, Kit
from tranship.envelope import Receipt
from tranship.errors import MalformedMessage, TranshipError
from tranship.protocol import Message
from tranship_azolla._connection import AzollaConnection
from tranship_azolla._errors import submit_error
from tranship_azolla._methods import CREATE_TASK
from tranship_azolla._requests import task_request

__all__ = ["AzollaSubmitter"]

AT_ONCE: Final = 64
"""Calls of one batch that are under way at once."""


class AzollaSubmitter:
    """The submitter; see :class:`tranship.ports.Submitter`. A receipt has the id that the orchestrator has given.

    Args:
        kit: the backend's.
        domain: where tasks are created.
        limit: bytes of headers and body of one message.
    """

    def __init__(self, kit: Kit, domain: str, limit: int) -> None:
        self._kit, self._domain = kit, domain
        self.max_message_size = limit

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Create the tasks and say of each what became of it."""
        self._kit.gate.check()
        return await self._kit.run("submit", lambda connection: self._all(connection, messages))

    async def _all(self, connection: Connection, messages: Sequence[Message]) -> list[Receipt | TranshipError]:
        assert isinstance(connection, AzollaConnection)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(message: Message) -> Receipt | TranshipError:
            async with places:
                try:
                    return await self._one(connection, message)
                except TranshipError as error:
                    return error

        return await asyncio.gather(*map(one, messages))

    async def _one(self, connection: AzollaConnection, message: Message) -> Receipt:
        request = task_request(message, self._domain)
        # What fails without a connection has certainly not been submitted; what fails later, nobody knows.
        if not connection.link.ready:
            await connection.ping()
        try:
            answer = await connection.link.ask(CREATE_TASK, request)
        except grpc.RpcError as error:
            doing = connection.link.doing(CREATE_TASK)
            raise submit_error(error, doing, task_id=message.envelope.id, size=message.size) from error
        return Receipt(_id_of(answer, connection))


def _id_of(answer: Any, connection: AzollaConnection) -> str:
    if not answer.task_id:
        raise MalformedMessage(
            f"{connection.link.url}: the orchestrator answers a CreateTask without a task_id; the task may have been "
            "submitted, but nobody can wait for it"
        )
    return str(answer.task_id)
