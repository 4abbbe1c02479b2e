"""The asynchronous client and its handles."""

from tranship.client._client import CANCEL_TTL, AsyncClient
from tranship.client._handle import AsyncTaskHandle
from tranship.client._probe import Probe

__all__ = ["CANCEL_TTL", "AsyncClient", "AsyncTaskHandle", "Probe"]
