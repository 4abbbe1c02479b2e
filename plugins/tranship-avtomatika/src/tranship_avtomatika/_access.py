"""How a worker shows who it is: its own token, or one that is good for an hour."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from tranship_avtomatika._errors import AnswerLost, Refused
from tranship_avtomatika._http import Http

__all__ = ["Access"]

log = logging.getLogger("tranship.avtomatika")

VERSION: Final = "1.0b17"
"""Of the protocol between workers and orchestrators that is spoken here."""
DENIED: Final = frozenset({401, 403})
EARLY: Final = 0.8
"""The part of its time after which a token is replaced."""


class Access:
    """Asks an orchestrator in a worker's name.

    Args:
        http: the orchestrator.
        token: the worker's own, individual or global; None: it is known by its certificate.
        short_lived: whether the own token is shown only to get another one.
    """

    def __init__(self, http: Http, token: str | None, *, short_lived: bool) -> None:
        self.http = http
        self._token, self._short_lived = token, short_lived
        self._access: str | None = None
        self._refresh: str | None = None
        self._until = 0.0
        self._exchange = asyncio.Lock()

    @property
    def secret(self) -> str | None:
        """What a worker's words are signed with: its own token, whichever is shown."""
        return self._token

    async def ask(self, method: str, path: str, *, worker: str, **more: Any) -> Any:
        """Ask as ``worker``; otherwise as :meth:`Http.ask`. A token that is not good any more is replaced once."""
        try:
            return await self.http.ask(method, path, headers=await self.headers(worker), **more)
        except Refused as error:
            if not self._short_lived or error.status not in DENIED:
                raise
            self._until = 0.0
        return await self.http.ask(method, path, headers=await self.headers(worker), **more)

    async def headers(self, worker: str) -> Mapping[str, str]:
        """Return who asks."""
        token = self._token
        if self._short_lived:
            async with self._exchange:
                if time.monotonic() >= self._until:
                    await self._renew(worker)
                token = self._access
        return self._headers(worker, token)

    def _headers(self, worker: str, token: str | None) -> dict[str, str]:
        shown = {} if token is None else {"X-Worker-Token": token}
        return {"X-Worker-ID": worker, "X-RXON-Version": VERSION, **shown}

    async def _renew(self, worker: str) -> None:
        """Get another token, for the one that is there or, where that is not good any more, for the worker's own."""
        if self._refresh is not None:
            body = orjson.dumps({"refresh_token": self._refresh})
            try:
                await self._get("/_worker/auth/token/refresh", worker, body)
                return
            except Refused as error:
                log.info("%s; the worker's own token is shown again", error)
                self._refresh = None
        await self._get("/_worker/auth/token", worker, None)

    async def _get(self, path: str, worker: str, body: bytes | None) -> None:
        found = await self.http.ask("POST", path, headers=self._headers(worker, self._token), body=body, kind="token")
        try:
            access, refresh, seconds = found["access_token"], found.get("refresh_token"), float(found["expires_in"])
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise AnswerLost(f"{self.http.base}: POST {path}: the answer has no token in it") from error
        self._access, self._refresh = str(access), None if refresh is None else str(refresh)
        self._until = time.monotonic() + seconds * EARLY
