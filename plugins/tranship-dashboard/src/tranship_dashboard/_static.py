"""The style sheet and the script, which are part of the package."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

__all__ = ["serve", "static_href"]

_TYPES: Final = {"app.css": "text/css", "app.js": "text/javascript", "icon.svg": "image/svg+xml"}
YEAR: Final = 31_536_000


@cache
def _content(name: str) -> bytes:
    return (files("tranship_dashboard") / "static" / name).read_bytes()


@cache
def static_href(name: str) -> str:
    """Return where a file is found; another version of it is elsewhere."""
    return f"{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


async def serve(request: Request) -> Response:
    """Answer with a file."""
    name = request.path_params["name"]
    if name not in _TYPES:
        return PlainTextResponse("not found", 404)
    headers = {"Cache-Control": f"public, max-age={YEAR}, immutable"}
    return Response(_content(name), media_type=_TYPES[name], headers=headers)
