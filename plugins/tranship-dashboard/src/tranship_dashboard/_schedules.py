"""Schedules: when they are due, paused or not."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tranship.errors import UnsupportedError
from tranship_dashboard._web import Web

__all__ = ["schedules"]


async def schedules(web: Web, request: Request) -> Response:
    """Show every schedule."""
    try:
        found, cannot = await web.source.operator.schedules(), ""
    except UnsupportedError as error:
        found, cannot = [], str(error)
    return web.page(request, "schedules.html", schedules=found, cannot=cannot)
