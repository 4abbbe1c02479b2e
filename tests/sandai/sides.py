"""One test for both clients: what the asynchronous one returns is awaited, on a loop that lives as long as the test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tranship.compat.sandai import create_async_client, create_client

NAME, VERSION = "video-clipper", "v1"
VIDEO = {"uri": "file:///tmp/input.mp4", "slot": "video"}
KINDS = ("blocking", "async")


class Side:
    """One kind of client.

    Args:
        kind: ``"blocking"`` or ``"async"``.
        defaults: arguments of every client made here.
    """

    def __init__(self, kind: str, **defaults: Any) -> None:
        self.kind = kind
        self._defaults = defaults
        self._runner = asyncio.Runner()
        self._clients: list[Any] = []

    def client(self, name: str = NAME, version: str = VERSION, **options: Any) -> Any:
        """A client that is closed when the test ends."""
        make = create_client if self.kind == "blocking" else create_async_client
        client = make(name, version, **{**self._defaults, **options})
        self._clients.append(client)
        return client

    def __call__(self, result: Any) -> Any:
        """Return ``result``, awaited if it has to be."""
        return self._runner.run(_awaited(result)) if inspect.isawaitable(result) else result

    def desc(self, client: Any) -> Any:
        return self(client.desc() if self.kind == "async" else client.desc)

    def state(self, handle: Any) -> Any:
        return self(handle.state() if self.kind == "async" else handle.state)

    def close(self, client: Any) -> None:
        self(client.aclose() if self.kind == "async" else client.close())

    def handle_of(self, submitted: Any) -> Any:
        return submitted.handle if self.kind == "async" else submitted.async_result

    def end(self) -> None:
        for client in self._clients:
            self.close(client)
        self._runner.close()


@contextmanager
def side_of(kind: str, **defaults: Any) -> Iterator[Side]:
    """A side whose clients are closed at the end."""
    side = Side(kind, **defaults)
    try:
        yield side
    finally:
        side.end()


async def _awaited(result: Any) -> Any:
    return await result
