"""An orchestrator's URL as the worker's variables have it, and the broker's URL that it stands for here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

from tranship.errors import InvalidOptionError, InvalidURLError

__all__ = ["TOKEN", "broker_of", "is_orchestrator"]

TOKEN: Final = "{WORKER_TOKEN}"  # noqa: S105 - the place for one
_HTTP: Final = re.compile(r"(https?)://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_WEBSOCKET: Final = re.compile(r"wss?://", re.IGNORECASE)


def is_orchestrator(url: str) -> bool:
    """Whether it is spoken to by HTTP."""
    return _HTTP.fullmatch(url) is not None


def broker_of(url: str, token: str | None, options: Mapping[str, str]) -> str:
    """Return a broker's URL with the token in its place; an orchestrator's is one of ``tranship-avtomatika``.

    Args:
        url: an orchestrator's or a broker's.
        token: the worker's.
        options: what is said of orchestrators besides.

    Raises:
        InvalidURLError: it is neither.
        InvalidOptionError: it has a place for a token, and there is none.
    """
    if _WEBSOCKET.match(url):
        raise InvalidURLError(
            f"an orchestrator's URL begins with {url.partition('://')[0]}://; write http:// or https://, or the URL of "
            "a broker, such as redis://localhost/0"
        )
    if TOKEN in url:
        if not token:
            raise InvalidOptionError(f"a URL has {TOKEN}; set WORKER_TOKEN or WORKER_INDIVIDUAL_TOKEN")
        url = url.replace(TOKEN, quote(token, safe=""))
    found = _HTTP.fullmatch(url)
    if found is None:
        return url
    scheme, place, rest = found[1].lower(), found[2], found[3]
    if token and "@" not in place:
        place = f":{quote(token, safe='')}@{place}"
    more = urlencode({name: value for name, value in options.items() if f"{name}=" not in rest})
    joint = "" if not more else "&" if "?" in rest else "?"
    return f"avtomatika+{scheme}://{place}{rest}{joint}{more}"
