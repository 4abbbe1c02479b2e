"""The connection as aio-pika has it, for who wants to do with the server what tranship does not."""

from __future__ import annotations

import aio_pika
from aio_pika.abc import UnderlayConnection
from aio_pika.tools import OneShotCallback
from aiormq.abc import AbstractConnection

__all__ = ["NativeConnection"]


class NativeConnection(aio_pika.Connection):
    """An aio-pika connection over one that is open already. It ends with that.

    Args:
        client: the connection.
    """

    def __init__(self, client: AbstractConnection) -> None:
        super().__init__(client.url)
        callback = OneShotCallback(self._on_connection_close)
        client.closing.add_done_callback(callback)
        self.transport: UnderlayConnection | None = UnderlayConnection(connection=client, close_callback=callback)
        self.connected.set()

    def __del__(self) -> None:
        """Leave the connection alone, which is not ours to close."""
