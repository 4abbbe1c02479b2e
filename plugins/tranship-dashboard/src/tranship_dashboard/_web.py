"""What every page has in common: its frame, its links, its errors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tranship import __version__
from tranship.errors import (
    BrokerError,
    InvalidArgumentsError,
    InvalidOptionError,
    TaskNotFound,
    TranshipError,
    UnsupportedError,
)
from tranship_dashboard import _format
from tranship_dashboard._security import FIELD, forged, hidden
from tranship_dashboard._source import Source
from tranship_dashboard._static import static_href

__all__ = ["Form", "Refused", "Web"]

Form = Mapping[str, str]
View = Callable[["Web", Request], Awaitable[Response]]
NOTE: Final = "tranship_note"
"""The cookie that carries what an action has to say to the page that follows."""
LARGEST: Final = 1024 * 1024
"""Bytes of a form."""
SLOWEST: Final = 10.0
"""Seconds within which a form has to come."""
FIELDS: Final = 10_000
"""Fields of a form."""
NOTED: Final = 2_000
"""Bytes of a note: a browser throws cookies away that have more than four thousand, and makes four of three here."""
_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (TaskNotFound, 404),
    (InvalidArgumentsError, 400),
    (InvalidOptionError, 400),
    (UnsupportedError, 501),
    (BrokerError, 503),
)
_PAGES: Final[tuple[tuple[str, str], ...]] = (
    ("/", "Overview"),
    ("/tasks", "Tasks"),
    ("/latency", "Latency"),
    ("/workflows", "Workflows"),
    ("/workers", "Workers"),
    ("/dead", "Dead letters"),
    ("/schedules", "Schedules"),
    ("/submit", "Submit"),
)
_PARTS: Final = {"/queue": "/", "/task": "/tasks", "/workflow": "/workflows", "/letter": "/dead"}
"""Pages of one thing, and the page that lists such things."""


class Refused(Exception):
    """What was asked for is not to be done.

    Args:
        status: of HTTP.
        why: for the person in front of the page.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Web:
    """Renders pages of one application.

    Args:
        source: what they show.
        read_only: whether nothing can be done, only looked at.
        title: what the pages are called.
        signs_out: whether somebody has signed in, and may sign out.
    """

    def __init__(self, source: Source, *, read_only: bool, title: str, signs_out: bool) -> None:
        self.source = source
        self.read_only = read_only
        self.title = title
        self.signs_out = signs_out

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        # A page that follows by itself leaves the note to the one that is loaded for it, perhaps at the same moment.
        note = None if "x-refresh" in request.headers else _note(request)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        common = {
            "href": lambda path, **query: href(request, path, **query),
            "static": lambda name: href(request, "/static/" + static_href(name)),
            "hidden": hidden(request) if "state" in request.scope else "",
            "field": FIELD,
            "here": request.scope.get("root_path", "") + path + (f"?{request.url.query}" if request.url.query else ""),
            "path": path,
            "part": _PARTS.get(path, ""),
            "now": time.time(),
            "spanned": lambda span: href(request, path, **{**request.query_params, "span": span}),
            "pages": [one for one in _PAGES if one[0] != "/submit" or not self.read_only],
            "read_only": self.read_only,
            "signs_out": self.signs_out,
            "title": self.title,
            "source": self.source,
            "broker": str(self.source.settings.broker_url),
            "version": __version__,
            "note": note,
        }
        text = environment().get_template(template).render(**common, **values)
        # Half a character, which a stranger's name may have, is no UTF-8.
        response = HTMLResponse(text.encode("utf-8", "replace"), status)
        if note is not None:
            response.delete_cookie(NOTE, path=request.scope.get("root_path", "") or "/")
        return response

    def failed(self, request: Request, error: Exception) -> Response:
        """Return the page that says what went wrong."""
        status = error.status if isinstance(error, Refused) else status_of(error)
        return self.page(request, "error.html", status=status, error=str(error), code=status)

    def back(self, request: Request, path: str, note: str, *, good: bool = True) -> Response:
        """Return to a page of ours, which shows ``note``."""
        root = request.scope.get("root_path", "")
        # Nobody is led elsewhere by a form that he was made to fill in.
        own = path if path.startswith(f"{root}/") and not path.startswith(("//", "/\\")) else f"{root}/"
        response = RedirectResponse(own, 303)
        short = note.encode("utf-8", "replace")[:NOTED].decode("utf-8", "ignore")
        said = json.dumps(["good" if good else "bad", short], ensure_ascii=False)
        value = base64.urlsafe_b64encode(said.encode()).decode()
        response.set_cookie(NOTE, value, max_age=60, path=root or "/", httponly=True, samesite="lax")
        return response

    async def form(self, request: Request) -> Form:
        """Return a form that was sent, if it is one of ours and something may be done here.

        Raises:
            Refused: it is not, or too large.
        """
        if self.read_only:
            raise Refused(403, "this dashboard is read-only: nothing was done")
        return await self.own_form(request)

    async def own_form(self, request: Request) -> Form:
        """Return a form that was sent, if it is one of ours, also where nothing may be done but to look.

        Raises:
            Refused: it is not, or too large.
        """
        fields = await read_form(request)
        if why := forged(request, fields.get(FIELD, "")):
            raise Refused(403, f"{why}; nothing was done")
        return fields


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; those of one name, such as boxes that were ticked, in lines.

    Raises:
        Refused: it is too large, or does not come.
    """
    try:
        async with asyncio.timeout(SLOWEST):
            body = await _body(request)
    except TimeoutError:
        raise Refused(408, f"the form has not come within {SLOWEST:g} s; nothing was done") from None
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise Refused(413, f"the form has more than {FIELDS:,} fields") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return {name: "\n".join(values) for name, values in fields.items()}


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Refused(413, f"the form has more than {LARGEST:,} bytes; use `tranship submit` for large arguments")
    return bytes(body)


def status_of(error: Exception) -> int:
    """Return what HTTP calls an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def href(request: Request, path: str, **query: Any) -> str:
    """Return the address of a page of ours, wherever the application is mounted."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    where = f"{request.scope.get('root_path', '')}{path}"
    return f"{where}?{urlencode(given, errors='replace')}" if given else where


@cache
def environment() -> Environment:
    """Return what renders templates: everything is escaped."""
    made = Environment(
        loader=PackageLoader("tranship_dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {name: getattr(_format, name) for name in _format.__all__}
    made.filters["dict"] = dict
    return made


def _note(request: Request) -> tuple[str, str] | None:
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(request.cookies.get(NOTE, "")))
    except (ValueError, TypeError):
        return None
    return ("good" if kind == "good" else "bad", str(text))


def guarded(web: Web, view: View, *, bounded: bool = True) -> Callable[[Request], Awaitable[Response]]:
    """Return ``view`` as a page that says what went wrong, where it did.

    Args:
        web: renders it.
        view: answers.
        bounded: whether all of it has the time of one question to the broker; False: it sees to that itself.
    """

    async def answer(request: Request) -> Response:
        await web.source.begin()
        try:
            async with web.source.patience() if bounded else contextlib.nullcontext():
                return await view(web, request)
        except (TranshipError, Refused) as error:
            return web.failed(request, error)

    return answer
