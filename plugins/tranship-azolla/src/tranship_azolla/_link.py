"""Calls to one server, from asyncio, each with a deadline.

The channel is gRPC's blocking one, whose calls end on threads of its own: it may be used from any loop of the process,
and clients of several loops are what ``tranship.Client`` makes. It connects again by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, Final

import grpc

from tranship_azolla._errors import explained
from tranship_azolla._methods import Method

__all__ = ["Link"]

FRESH: Final = 1.0
"""Seconds for which a server that has answered is taken to be there."""
_RECONNECT: Final = {
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 5_000,
}


class Link:
    """One server.

    Args:
        target: its ``host:port``.
        url: how errors name it.
        timeout: seconds that a call may take.
        limit: bytes of one message, either way.

    Attributes:
        channel: gRPC's, for what nothing here has a name for.
    """

    def __init__(self, target: str, url: str, *, timeout: float, limit: int) -> None:
        self.url, self._timeout = url, timeout
        options = {
            "grpc.max_send_message_length": limit,
            "grpc.max_receive_message_length": limit,
            # Closing one client must not take the connection of another one along.
            "grpc.use_local_subchannel_pool": 1,
            **_RECONNECT,
        }
        self.channel = grpc.insecure_channel(target, options=list(options.items()))
        self._heard = -FRESH
        self._callable: Callable[[Method], Any] = cache(self._made)

    @property
    def ready(self) -> bool:
        """Whether the server has answered just now. gRPC's own word for it comes late, from a thread that outlives the
        channel.
        """
        return time.monotonic() - self._heard < FRESH

    async def ask(self, method: Method, request: Any, *, timeout: float | None = None) -> Any:
        """Make one call and return the answer.

        Args:
            method: which.
            request: what is sent.
            timeout: seconds that it may take; None: those of the link.

        Raises:
            grpc.RpcError: what became of it.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        call = self._callable(method).future(request, timeout=timeout or self._timeout)

        def ended(call: Any) -> None:
            # A loop that is closed has nobody any more who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_hand_over, call, answer)

        call.add_done_callback(ended)
        try:
            found = await answer
        except grpc.RpcError:
            self._heard = -FRESH
            raise
        finally:
            call.cancel()
        self._heard = time.monotonic()
        return found

    async def asked(self, method: Method, request: Any, *, timeout: float | None = None) -> Any:
        """Do the same, and raise one of tranship's errors.

        Raises:
            BrokerUnreachable, BrokerRefused, BrokerError: what became of it.
        """
        try:
            return await self.ask(method, request, timeout=timeout)
        except grpc.RpcError as error:
            raise explained(error, self.doing(method)) from error

    def doing(self, method: Method) -> str:
        """Return what is asked of whom, for errors."""
        return f"{self.url}: {method.path.rpartition('/')[2]}"

    def close(self) -> None:
        """End what is under way, and the connection."""
        self.channel.close()

    def _made(self, method: Method) -> Any:
        return self.channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )


def _hand_over(call: Any, answer: asyncio.Future[Any]) -> None:
    """Give the answer, or what went wrong, to who waits; on his loop."""
    if answer.done():
        return
    try:
        error = call.exception()
    except grpc.FutureCancelledError:
        # Closed while it was under way: the call itself is the error, and says CANCELLED.
        error = call
    if error is None:
        answer.set_result(call.result())
    else:
        answer.set_exception(error)
