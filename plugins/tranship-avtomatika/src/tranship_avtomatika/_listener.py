"""The WebSocket over which an orchestrator says at once what is cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from typing import Any, Final

import aiohttp
import orjson

from tranship.errors import TranshipError
from tranship.pauses import Pauses
from tranship_avtomatika._access import Access

__all__ = ["Listener"]

log = logging.getLogger("tranship.avtomatika")

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
SIGN_OF_LIFE: Final = 20.0
"""Seconds between two pings."""
LARGEST: Final = 1_048_576


class Listener:
    """Listens until it is closed, over one connection after the other. What is missed comes with a heartbeat.

    Args:
        access: connects in the worker's name.
        connect: seconds for a connection.
        cancelled: called with ids of tasks.
    """

    def __init__(self, access: Access, *, connect: float, cancelled: Callable[[Collection[str]], None]) -> None:
        self._access, self._connect, self._cancelled = access, connect, cancelled
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    def start(self, worker: str) -> None:
        """Begin."""
        if self._task is None:
            self._task = asyncio.create_task(self._listen(worker))

    async def aclose(self) -> None:
        """Listen no more."""
        self.abort()
        if self._task is not None:
            await asyncio.wait({self._task})

    def abort(self) -> None:
        """The same, without waiting for it."""
        if self._task is not None:
            self._task.cancel()

    async def _listen(self, worker: str) -> None:
        pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                socket = await self._open(worker)
            except (aiohttp.ClientError, OSError, TimeoutError, TranshipError) as error:
                log.info("%s: no WebSocket: %r; cancels come with heartbeats", self._access.http.base, error)
            else:
                pauses.reset()
                await self._hear(socket)
            await asyncio.sleep(pauses.next() * random.uniform(0.5, 1.0))

    async def _open(self, worker: str) -> aiohttp.ClientWebSocketResponse:
        http = self._access.http
        headers = await self._access.headers(worker)
        async with asyncio.timeout(self._connect):
            return await http.session.ws_connect(
                f"{http.base}/_worker/ws/{worker}",
                headers=headers,
                heartbeat=SIGN_OF_LIFE,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                max_msg_size=LARGEST,
            )

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.connected.set()
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._told(message.data)
        except (aiohttp.ClientError, OSError) as error:
            log.info("%s: the WebSocket is lost: %r", self._access.http.base, error)
        finally:
            self.connected.clear()
            await socket.close()

    def _told(self, text: str) -> None:
        try:
            command: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            command = None
        name = command.get("command") if isinstance(command, dict) else None
        task_id = command.get("task_id") if isinstance(command, dict) else None
        if name == "cancel_task" and isinstance(task_id, str):
            self._cancelled([task_id])
        else:
            log.warning("%s sent a command that means nothing here: %.200s", self._access.http.base, text)
