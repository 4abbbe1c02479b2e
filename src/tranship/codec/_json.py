"""JSON as kombu writes and reads it, by orjson where the two agree and by the standard library where not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final
from uuid import UUID

import orjson

from tranship.codec._bounds import MOST_VALUES, TooManyValues, check_json
from tranship.codec._failure import MAX_DEPTH, REFUSALS, is_deep, refusal, too_many
from tranship.codec._tagged import TAG, plain, revive
from tranship.errors import MalformedMessage

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_UUID: Final = re.compile(rb"-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-")
_SAFE: Final = frozenset({str, int, bool, type(None)})
_MARK: Final = TAG.encode()
# Every digit becomes 0: a long number is then found by one search.
_DIGITS: Final = bytes(ord("0") if chr(code).isdigit() and code < 128 else code for code in range(256))
_LONG: Final = b"0" * 19
FAST: Final = 1 << 18
"""Bytes; for more than that the fast way is no faster, and reading takes a millisecond and more."""
_AROUND: Final = 1000
"""Values that come around one that is written by itself: the rest of a body, or of a result document."""


def dumps(value: Any, name: str) -> bytes:
    """Return ``value`` as JSON in UTF-8.

    Raises:
        EncodeError: a part of it cannot be written.
    """
    try:
        text = orjson.dumps(value, plain, _OPTIONS)
        if not (_is_suspicious(text) and _loses(value)):
            return text if len(text) <= MOST_VALUES else _bounded(text, name)
    except REFUSALS:
        pass  # large integers, lone surrogates, keys that are no text: the standard library's own
    try:
        text = _dumps(value)
    except REFUSALS as error:
        raise refusal(value, name, "application/json", _dumps) from error
    return text if len(text) <= MOST_VALUES else _bounded(text, name)


def fast_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes | None:
    """Return ``[args, kwargs]`` when they hold simple values only, which orjson never changes; None: they do not."""
    if type(args) is not tuple or not _SAFE.issuperset(map(type, args)):
        return None
    if kwargs and not _SAFE.issuperset(map(type, kwargs.values())):
        return None
    try:
        text = orjson.dumps((args, kwargs))
    except REFUSALS:
        return None
    return text if len(text) <= MOST_VALUES or len(args) + len(kwargs) < MOST_VALUES // 2 else None


def fast(data: bytes) -> Any:
    """Return what ``data`` holds, or None when only :func:`loads` can say."""
    if len(data) > FAST or _is_unusual(data):
        return None
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def loads(data: bytes | str) -> Any:
    """Return what ``data`` (UTF-8, or text) holds.

    Raises:
        MalformedMessage: it is not JSON, too deeply nested, or more values than one message may hold.
    """
    if len(data) > MOST_VALUES:
        _check(data)
    if isinstance(data, bytes) and not _is_unusual(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # NaN, lone surrogates, deep nesting, or no JSON at all: the standard library says which
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, object_hook=revive)
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"the data is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedMessage(f"the data is not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise MalformedMessage("the data is nested too deeply to be read") from error
    except (ValueError, OverflowError) as error:
        raise MalformedMessage(f"the data holds {error}") from error


def _bounded(text: bytes, name: str) -> bytes:
    """Return ``text``, which was written, if it will be read."""
    try:
        check_json(text, MOST_VALUES - _AROUND)
    except TooManyValues as error:
        raise too_many(name, error) from error
    return text


def _check(data: bytes | str) -> None:
    try:
        check_json(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    except TooManyValues as error:
        raise MalformedMessage(f"the data holds {error}") from error


def _dumps(value: Any) -> bytes:
    text = json.dumps(value, default=plain, separators=(",", ":")).encode("ascii")
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and is_deep(value):
        raise RecursionError  # newer versions of Python write what older ones cannot read
    return text


def _is_suspicious(text: bytes) -> bool:
    """Whether ``text`` may hold what orjson changes silently: a float that is no number to null, a UUID to text."""
    return b"null" in text or (text.count(b"-") > 3 and _UUID.search(text) is not None)


def _loses(value: Any) -> bool:
    """Whether ``value``, which has been written once and so has no cycle, holds such a float or a UUID."""
    todo = [value]
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind in _SAFE:
            continue
        if kind is dict:
            todo.extend(item.values())
        elif kind is list or kind is tuple:
            todo.extend(item)
        elif kind is float:
            if not isfinite(item):
                return True
        elif isinstance(item, UUID):
            return True
        else:
            todo.append(_simpler(item))
    return False


def _simpler(item: Any) -> Any:
    """One step towards the plain types, for their subclasses and for what is written as something else."""
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, list):
        return list(item)
    return None if isinstance(item, str | int) else plain(item)


def _is_unusual(data: bytes) -> bool:
    """Whether orjson would read ``data`` otherwise than kombu does.

    Extended types, possibly with an escaped underscore, and integers beyond 64 bits, which it rounds to floats.
    """
    return _MARK in data or b"\\u005" in data or _LONG in data.translate(_DIGITS)
