"""Calling other skills from within a handler."""

from __future__ import annotations

from typing import Any

from tranship.client import AsyncClient
from tranship.compat.avtomatika._answers import told
from tranship.task import named

__all__ = ["OrchestratorClient"]


class OrchestratorClient:
    """Calls skills of whatever worker has them. A handler gets it by annotating a parameter with it.

    Args:
        client: of the worker's broker.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def call_skill(self, skill_name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Have a skill run, wait for it, and return its status dict: ``status`` with ``data`` or ``error``.

        The caller keeps its slot meanwhile. The other task has the caller's deadline.

        Raises:
            SubmitError, BrokerError: it could not be handed over.
        """
        handle = await self._client.submit(named(skill_name, queue=skill_name, store_result=True), params)
        return told(await handle.wait())
