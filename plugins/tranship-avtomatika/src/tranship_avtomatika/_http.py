"""Requests to one orchestrator: each has a time limit, a bounded answer, and one of our errors where it goes wrong."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from tranship_avtomatika._errors import AnswerLost, NotSent, Refused

__all__ = ["Http"]

log = logging.getLogger("tranship.avtomatika")

Headers = Mapping[str, str]
PAUSE: Final = 30.0
"""Seconds for which nothing of a kind is asked after a 429 that does not say how long."""
LONGEST_PAUSE: Final = 300.0
SHOWN: Final = 200
"""Characters of an answer in an error."""
TOO_MANY: Final = 429


class Http:
    """What is asked of one orchestrator.

    Args:
        session: of aiohttp; closed by whoever made it.
        base: the URL that paths begin at, without credentials.
        timeout: seconds for an answer.
        connect: seconds for a connection.
        largest: bytes of an answer.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: str, *, timeout: float, connect: float, largest: int
    ) -> None:
        self.session, self.base = session, base
        self._timeout, self._connect, self._largest = timeout, connect, largest
        self._blocked: dict[str, float] = {}
        """By kind of request: until when, by the loop's clock, the orchestrator wants to hear of none."""
        self.heard_at = float("-inf")
        """When it has last answered, by the loop's clock."""

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Headers,
        body: bytes | None = None,
        kind: str = "",
        timeout: float | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask once, as soon as the orchestrator wants to be asked; return its JSON, None where it says nothing.

        Args:
            method, path, headers, body, params: of the request.
            kind: what the orchestrator's limits tell apart.
            timeout: seconds for the answer; None: the usual.

        Raises:
            NotSent: there is no connection.
            AnswerLost: it did not answer in time, or with half of something, or with what is no JSON.
            Refused: it has answered with a status from 300 on.
        """
        await self._allowed(kind)
        what = f"{self.base}: {method} {path}"
        limits = aiohttp.ClientTimeout(total=timeout or self._timeout, sock_connect=self._connect)
        headers = {**headers, "Content-Type": "application/json"} if body is not None else headers
        try:
            async with self.session.request(
                method,
                self.base + path,
                data=body,
                headers=headers,
                params=params,
                timeout=limits,
                allow_redirects=False,
            ) as answer:
                data = await self._read(answer, what)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"{what}: no connection: {error}") from error
        except TimeoutError as error:
            raise AnswerLost(f"{what}: no answer within {limits.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AnswerLost(f"{what}: the answer was lost: {type(error).__name__}: {error}") from error
        self.heard_at = asyncio.get_running_loop().time()
        if answer.status >= 300:
            raise self._refused(answer, data, what, kind)
        return _json(data, what)

    async def _read(self, answer: aiohttp.ClientResponse, what: str) -> bytes:
        found = bytearray()
        async for chunk in answer.content.iter_chunked(65_536):
            found += chunk
            if len(found) > self._largest:
                raise AnswerLost(f"{what}: the answer has more than max_message_size ({self._largest:,} bytes)")
        return bytes(found)

    def _refused(self, answer: aiohttp.ClientResponse, data: bytes, what: str, kind: str) -> Refused:
        said = _said(data)
        text = f"{what}: it answered {answer.status} ({said or answer.reason or 'without a word'})"
        if answer.status == TOO_MANY:
            pause = min(_seconds(answer.headers.get("Retry-After")), LONGEST_PAUSE)
            self._blocked[kind] = asyncio.get_running_loop().time() + pause
            text += f"; nothing of the kind is asked for {pause:.0f} s. RATE_LIMIT_... of the orchestrator allow more"
            log.warning("the orchestrator asks for fewer requests: %s", text)
        return Refused(text, status=answer.status, said=said)

    async def _allowed(self, kind: str) -> None:
        """Wait until the orchestrator wants to be asked: each request that is too early makes it longer."""
        left = self._blocked.get(kind, 0.0) - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)
            self._blocked.pop(kind, None)


def _json(data: bytes, what: str) -> Any:
    if not data.strip():
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AnswerLost(f"{what}: the answer is no JSON ({error}): {_shown(data)}") from error


def _said(data: bytes) -> str:
    """Return the words of a refusal."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _shown(data)
    told = found.get("error") if isinstance(found, dict) else found
    return str(told)[:SHOWN]


def _shown(data: bytes) -> str:
    return data[:SHOWN].decode(errors="replace").strip()


def _seconds(header: str | None) -> float:
    """Return what Retry-After says, in seconds or as a date."""
    if header is None:
        return PAUSE
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return PAUSE
