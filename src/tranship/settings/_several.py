"""Several brokers in one text: a list of URLs, or JSON. Both become one URL that the routing backend reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from tranship.errors import InvalidURLError

__all__ = ["MODES", "quoted", "several"]

MODES: Final = ("failover", "round-robin")
"""The ways of using several brokers; URL schemes, too."""

_BETWEEN: Final = re.compile(r"(?:\s*;\s*|\s*,\s+|\s+)(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_EXAMPLE: Final = '[{"url": "redis://a/0", "weight": 2}, {"url": "redis://b/0"}]'


def several(text: str) -> str | None:
    """Return the one URL that ``text`` stands for, when it names several brokers; None: it does not.

    ``redis://a/0 redis://b/0`` (between them white space, with or without a comma, or a semicolon) uses them in this
    order, and ``round-robin://?weights=3,1 redis://a/0 redis://b/0`` in turn. JSON is a list of URLs or of objects with
    ``url`` and ``weight``, or an object with ``brokers``, ``mode`` and options.

    Raises:
        InvalidURLError: it looks like JSON, and is something else. No part of it is shown: it may hold secrets.
    """
    text = text.strip()
    if text[:1] in ("[", "{"):
        return _from_json(text)
    urls = _BETWEEN.split(text)
    return _joined(urls, {}) if len(urls) > 1 and all("://" in one for one in urls) else None


def _from_json(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        # Without the cause: that would keep the whole text, passwords and all.
        raise _unreadable(f"it is no JSON ({getattr(error, 'msg', 'unreadable')})") from None
    options = {"brokers": found} if isinstance(found, list) else dict(found)
    brokers = options.pop("brokers", None)
    if not isinstance(brokers, list) or not brokers:
        raise _unreadable("it names no brokers")
    entries = [_entry(one) for one in brokers]
    if any(weight is not None for _, weight in entries):
        options["weights"] = ",".join(_plain(1 if weight is None else weight) for _, weight in entries)
    mode = _mode(options.pop("mode", MODES[0]))
    given = {str(name): _plain(value) for name, value in options.items()}
    return _joined([f"{mode}://", *(url for url, _ in entries)], given)


def _entry(entry: Any) -> tuple[str, Any]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, Mapping) or not isinstance(entry.get("url"), str) or set(entry) - {"url", "weight"}:
        raise _unreadable("an entry is neither a URL nor an object with url and weight")
    return entry["url"], entry.get("weight")


def _mode(value: Any) -> str:
    """Read ``round-robin`` in whatever spelling: avtomatika writes ``ROUND_ROBIN``."""
    mode = str(value).lower().replace("_", "-")
    if mode not in MODES:
        raise InvalidURLError(f"the mode {value!r} of several brokers is unknown; use one of {', '.join(MODES)}")
    return mode


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _joined(urls: Sequence[str], options: Mapping[str, str]) -> str:
    head, rest = urls[0], urls[1:]
    if head.partition("://")[0].lower() not in MODES:
        head, rest = f"{MODES[0]}://", urls
    given = [f"{quoted(name)}={quoted(value)}" for name, value in options.items()]
    members = [f"{number}={quoted(url, safe='*/:,@')}" for number, url in enumerate(rest, 1)]
    return head + ("&" if "?" in head else "?") + "&".join([*given, *members])


def quoted(text: str, safe: str = "/") -> str:
    """Return ``text`` percent-encoded; halves of characters, too, for showing a text never raises."""
    return quote(text, safe=safe, errors="surrogatepass")


def _unreadable(why: str) -> InvalidURLError:
    return InvalidURLError(f"the list of brokers cannot be used: {why}; expected such as {_EXAMPLE}")
