"""News by server-sent events: that the source has looked again. A page fetches itself then, and takes what is new."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Scope

from tranship_dashboard._web import Web

__all__ = ["Live"]

MOST: Final = 200
"""Pages that are told at once."""
QUIET: Final = 20.0
"""Seconds after which a line is sent that says nothing, so that whoever is in between keeps the connection."""


class Live:
    """Tells pages.

    Args:
        holds: whether the session of a request still goes on.
    """

    def __init__(self, holds: Callable[[Scope], bool]) -> None:
        self._holds = holds
        self._open = 0

    async def answer(self, web: Web, request: Request) -> Response:
        """Answer with a stream that ends when the page is left, or its session is over."""
        if self._open >= MOST:
            return PlainTextResponse("too many pages are open", 503, {"Retry-After": "30"})
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(web, request.scope), media_type="text/event-stream", headers=headers)

    async def _stream(self, web: Web, scope: Scope) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            yield b"retry: 5000\n\n"
            async for looked in web.source.news(QUIET):
                if not self._holds(scope):
                    return
                yield b"event: look\ndata: \n\n" if looked else b":\n\n"
        finally:
            self._open -= 1
