"""Who may look and who may act: a token, a session, and a secret in each form."""

from __future__ import annotations

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

from tranship_dashboard._brake import Brake, Braked, address_of
from tranship_dashboard._sessions import COOKIE, Sessions

__all__ = ["FIELD", "Door", "forged", "hidden"]

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
        self._sessions = Sessions(secret or token or secrets.token_hex(32))
        self._brake = Brake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        cookie = None
        if self._hosts and (host := _host(request.headers)) not in self._hosts:
            answer = _misdirected(host)
        else:
            try:
                answer, cookie = self._admitted(request)
            except Braked as error:
                answer = PlainTextResponse(f"{error}\n", 429, {"Retry-After": str(error.seconds)})
        await answer(scope, receive, _guarded(send, cookie))

    def _admitted(self, request: Request) -> tuple[ASGIApp, str | None]:
        """Return what answers, and the cookie of a session that has begun with this request."""
        scope = request.scope
        known = self._sessions.read(request.cookies.get(COOKIE, ""))
        session = known or self._begun(request)
        state = scope.setdefault("state", {})
        state["session"] = session
        state["hidden"] = "" if session is None else self._sessions.sign("form", session)
        cookie = None if known or session is None else self._cookie(scope, session)
        return self._answer(request, session), cookie

    def _begun(self, request: Request) -> str | None:
        """Return a new session for who may have one."""
        if _is_open(_path(request.scope)):
            return None
        if self._token is None:
            return self._sessions.begin()
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        given = (request.query_params.get("token", ""), credentials if scheme.lower() == "bearer" else "")
        return self._sessions.begin() if any(self._is_token(request.scope, one) for one in given if one) else None

    def _answer(self, request: Request, session: str | None) -> ASGIApp:
        path, has_token = _path(request.scope), "token" in request.query_params
        if session is None and not _is_open(path):
            return _to_login(request.scope, wrong=has_token)
        if has_token and path != "/login":
            # It need not stay in the address, where others look over shoulders and into histories.
            return RedirectResponse(_without_token(request), 303)
        return self._app

    def open(self, scope: Scope, token: str) -> str | None:
        """Return the cookie of a new session for who has the token; None: he has not. Raises Braked."""
        return self._cookie(scope, self._sessions.begin()) if self._is_token(scope, token) else None

    def close(self, scope: Scope) -> None:
        """End the session of a request."""
        if (session := scope["state"]["session"]) is not None:
            self._sessions.end(session)

    def holds(self, scope: Scope) -> bool:
        """Whether the session of a request, which may last for long, still goes on."""
        session = scope["state"]["session"]
        return session is not None and self._sessions.holds(session)

    def _is_token(self, scope: Scope, given: str) -> bool:
        if self._token is None:
            return False
        address = address_of(scope)
        self._brake.check(address)
        if hmac.compare_digest(given.encode(), self._token.encode()):
            self._brake.right(address)
            return True
        self._brake.wrong(address)
        return False

    def _cookie(self, scope: Scope, session: str) -> str:
        path = scope.get("root_path", "") or "/"
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{COOKIE}={self._sessions.cookie(session)}; Path={path}; HttpOnly; SameSite=Lax{secure}"


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
