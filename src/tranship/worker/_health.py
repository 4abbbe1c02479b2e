"""Answers to whoever watches over a worker, by HTTP: alive, ready, and in numbers.

A few GET requests need no web framework. Each connection has one request, of a bounded size, within a bounded time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import Final, Self

from tranship.errors import ConfigurationError

__all__ = ["Answer", "Door", "HealthServer", "Request", "written"]

log = logging.getLogger("tranship.worker")

HEAD: Final = 8192
"""Bytes of a request."""
PATIENCE: Final = 5.0
"""Seconds for one request, from its first byte to the last of the answer."""
MOST: Final = 64
"""Connections at once."""
_REQUEST: Final = re.compile(rb"([A-Z]{1,20}) (/[!-~]{0,2000}) HTTP/1\.[01]\r\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one request."""

    status: HTTPStatus
    body: str
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, without its body."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By their names in lower case."""


Door = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter, asyncio.Timeout], Awaitable[None]]
"""Answers requests by itself, and may take its time: it reschedules the timeout."""
Page = Answer | Awaitable[Answer]


class HealthServer:
    """Listens while it is entered with ``async with``, on the running loop.

    Args:
        host, port: where; port 0: any that is free.
        pages: by path, what makes the answer, at once or awaited; each takes no time to speak of.
        doors: by path, what answers by itself.

    Attributes:
        port: the one it listens on, once entered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        pages: Mapping[str, Callable[[], Page]],
        doors: Mapping[str, Door] = MappingProxyType({}),
    ) -> None:
        self._host = host
        self.port: int = port
        self._pages = pages
        self._doors = doors
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: nobody can here: the port is in use, or may not be used, or there is no such address.
        """
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self.port, limit=HEAD)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigurationError(
                f"health checks cannot be answered on port {self.port} of {self._host!r}: {_why(error)}; choose "
                "another with health_port and health_host (--health-port, --health-host)"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("health checks are answered on http://%s:%d", _shown(self._host), self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(PATIENCE) as patience:
                await self._exchange(reader, writer, patience)
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            writer.transport.abort()
        finally:
            self._open.discard(writer)
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: asyncio.Timeout
    ) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            answer, method = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), "GET"
        else:
            asked = _read(request)
            if asked is not None and (door := self._doors.get(asked.path)) is not None:
                await door(asked, reader, writer, patience)
                return
            answer, method = await self._answer(asked)
        writer.write(written(answer, with_body=method != "HEAD"))
        await writer.drain()

    async def _answer(self, request: Request | None) -> tuple[Answer, str]:
        if request is None:
            return _refusal(HTTPStatus.BAD_REQUEST), "GET"
        method = request.method
        page = self._pages.get(request.path)
        if page is None:
            known = " ".join([*self._pages, *self._doors])
            return Answer(HTTPStatus.NOT_FOUND, f"there is {known}\n", "text/plain"), method
        if method not in ("GET", "HEAD"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED), method
        try:
            made = page()
            return (made if isinstance(made, Answer) else await made), method
        except Exception:
            # A bug of ours; the worker goes on.
            log.exception("the answer to a health check could not be made")
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR), method


def _read(request: bytes) -> Request | None:
    found = _REQUEST.match(request)
    if found is None:
        return None
    lines = request[found.end() :].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Request(found[1].decode(), found[2].decode().partition("?")[0], headers)


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n", "text/plain")


def written(answer: Answer, *, with_body: bool = True, allow: str = "GET, HEAD") -> bytes:
    """Return ``answer`` as it is sent.

    Args:
        answer: what to send.
        with_body: whether the body, too: not to HEAD.
        allow: the methods that there are.
    """
    body = answer.body.encode()
    head = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        head.append(f"Allow: {allow}")
    elif answer.status is HTTPStatus.UNAUTHORIZED:
        head.append("WWW-Authenticate: Bearer")
    return "\r\n".join([*head, "", ""]).encode() + (body if with_body else b"")


def _why(error: Exception) -> str:
    # asyncio puts the address into the text, which we have said already; errors of look-ups have numbers of their own.
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
