"""Who may look and who may act: a token, a session, and a secret in each form."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["COOKIE", "FIELD", "Door", "forged", "hidden"]

COOKIE: Final = "tranship_session"
FIELD: Final = "secret"
"""The field of a form that a stranger's page cannot know."""

_SOURCES: Final = ("script-src", "style-src", "img-src", "connect-src", "form-action")
_POLICY: Final = "".join(
    ["default-src 'none'; ", *(f"{one} 'self'; " for one in _SOURCES), "frame-ancestors 'none'; base-uri 'none'"]
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Door:
    """Around the whole application: lets in who has the token, or a session that the token has opened.

    Args:
        app: what is behind it.
        token: who has it may come in; None: everybody, because somebody else sees to it.
        secret: what sessions are signed with; None: made of the token, or else for this process alone.
        hosts: the names by which it may be asked; none: by any.
    """

    def __init__(self, app: ASGIApp, token: str | None, secret: str | None = None, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(one.lower() for one in hosts)
        made = secret or token or secrets.token_hex(32)
        self._key = hashlib.sha256(b"tranship-dashboard\0" + made.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._hosts and (host := _host(request.headers)) not in self._hosts:
            await _misdirected(host)(scope, receive, send)
            return
        session = self._session(request.cookies.get(COOKIE, ""))
        begun = self._begun(request) if session is None else None
        session = session or begun
        state = scope.setdefault("state", {})
        state["session"], state["hidden"] = session, "" if session is None else self._sign("form", session)
        cookie = None if begun is None else self._cookie(scope, begun)
        await self._answer(request, session)(scope, receive, _guarded(send, cookie))

    def _begun(self, request: Request) -> str | None:
        """Return a new session for who may have one."""
        given = (
            request.query_params.get("token", ""),
            request.headers.get("authorization", "").removeprefix("Bearer "),
        )
        free = self._token is None and not _is_open(_path(request.scope))
        return secrets.token_urlsafe(18) if free or any(map(self._is_token, given)) else None

    def _answer(self, request: Request, session: str | None) -> ASGIApp:
        path, has_token = _path(request.scope), "token" in request.query_params
        if session is None and not _is_open(path):
            return _to_login(request.scope, wrong=has_token)
        if has_token and path != "/login":
            # It need not stay in the address, where others look over shoulders and into histories.
            return RedirectResponse(_without_token(request), 303)
        return self._app

    def open(self, scope: Scope, token: str) -> str | None:
        """Return the cookie of a new session for who has the token; None: he has not."""
        return self._cookie(scope, secrets.token_urlsafe(18)) if self._is_token(token) else None

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _session(self, cookie: str) -> str | None:
        name, _, signature = cookie.partition(".")
        right = hmac.compare_digest(signature.encode(), self._sign("session", name).encode())
        return name if name and right else None

    def _sign(self, purpose: str, session: str) -> str:
        return hmac.new(self._key, f"{purpose}\0{session}".encode(), hashlib.sha256).hexdigest()

    def _cookie(self, scope: Scope, session: str) -> str:
        path = scope.get("root_path", "") or "/"
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        value = f"{session}.{self._sign('session', session)}"
        return f"{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def _guarded(send: Send, cookie: str | None) -> Send:
    """Return ``send`` with what keeps browsers from doing what strangers want."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            if cookie is not None:
                headers.append("Set-Cookie", cookie)
        await send(message)

    return guarded


def hidden(request: Request) -> str:
    """Return what the forms of this session say, and nobody else's."""
    found: str = request.scope["state"]["hidden"]
    return found


def forged(request: Request, given: str) -> str:
    """Return why a form is not believed to be one of ours; empty: it is."""
    expected = hidden(request)
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        return "the form is out of date, or none of this page: load the page again"
    return "" if _is_same_site(request.headers) else "the form was sent by a page of somebody else"


def _is_same_site(headers: Headers) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _is_open(path: str) -> bool:
    """Whether strangers may see it: nothing but where they sign in, and what that looks like."""
    return path == "/login" or (path.startswith("/static/") and path.count("/") == 2)


def _host(headers: Headers) -> str:
    return re.sub(r":[0-9]+$", "", headers.get("host", "").lower())


def _misdirected(host: str) -> ASGIApp:
    # A stranger's name may lead to this machine, and his page would then be of the same origin.
    text = f"this dashboard is not known as {host[:200]!r}; if it is to be, start it with --served-as NAME\n"
    return PlainTextResponse(text.encode("ascii", "backslashreplace"), 421)


def _without_token(request: Request) -> str:
    kept = [(name, value) for name, value in parse_qsl(request.url.query) if name != "token"]
    # Two slashes in front would name a host.
    path = "/" + request.url.path.lstrip("/")
    return f"{path}?{urlencode(kept)}" if kept else path


def _to_login(scope: Scope, *, wrong: bool) -> ASGIApp:
    root = scope.get("root_path", "")
    return RedirectResponse(f"{root}/login{'?wrong=1' if wrong else ''}", 303)
