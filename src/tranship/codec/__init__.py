"""Objects to bytes and back, in the two serialisations that Celery peers read.

* ``application/json``: compact JSON in UTF-8, with kombu's extended types: ``datetime``, ``date``,
  ``time``, ``Decimal``, ``UUID`` and ``bytes`` travel as ``{"__type__": ..., "__value__": ...}`` and come
  back as what they were. Named tuples and tuples become lists, enums their value, dataclasses and
  pydantic models objects with their fields' names as keys, pydantic's secrets what they hold.
* ``application/x-msgpack``: the same, with bytes as they are.

Known limits, all of the format:

* a dict with exactly the keys ``__type__`` and ``__value__`` is taken for an extended type;
* JSON turns keys that are numbers, booleans or None into text, and msgpack refuses them, because
  the reader would;
* one message or document holds at most a million values and keys (2**20), counted before they are built;
* NaN and the infinities are written bare in JSON, as kombu does: Python reads them, others may not.

Nothing is ever unpickled or imported on reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship._lazy import lazy_names
from tranship.codec import _json
from tranship.codec._bounds import DEFAULT_LIMIT
from tranship.codec._plugged import Codec, CodecTable
from tranship.codec._text import text_of
from tranship.errors import InvalidOptionError, MalformedMessage

if TYPE_CHECKING:
    from tranship.codec._compression import UnpacksToMore, compress, decompress
    from tranship.codec._models import data_of

__all__ = [
    "DEFAULT_LIMIT",
    "JSON",
    "MSGPACK",
    "PROMPT",
    "UnpacksToMore",
    "compress",
    "content_encoding_of",
    "content_type_of",
    "data_of",
    "decompress",
    "dumps",
    "fast_call",
    "fast_json",
    "loads",
    "plug",
]

__getattr__: Callable[[str], Any] = lazy_names(
    globals(), {"_compression": ["UnpacksToMore", "compress", "decompress"], "_models": ["data_of"]}
)

JSON = "application/json"
MSGPACK = "application/x-msgpack"

_PLUGGED: Final = CodecTable()

PROMPT = _json.FAST
"""Bytes that are read in a millisecond or two: more of them are no work for an event loop."""


def dumps(value: Any, content_type: str = JSON, *, name: str = "value") -> bytes:
    """Return ``value`` as bytes of ``content_type``.

    Args:
        value: what to write.
        content_type: ``"application/json"`` or ``"application/x-msgpack"``.
        name: what an error calls the value; the path to the bad part starts with it.

    Raises:
        EncodeError: a part of the value cannot be written; the message has its path and its type.
        InvalidOptionError: another content type.
    """
    if content_type == JSON:
        return _json.dumps(value, name)
    if content_type == MSGPACK:
        from tranship.codec import _msgpack

        return _msgpack.dumps(value, name)
    if content_type in _PLUGGED:
        return _PLUGGED.dumps(content_type, value, name)
    raise InvalidOptionError(f"content type {content_type!r} cannot be written; use {_known()}, or install its plugin")


def loads(data: bytes | str, content_type: str | None, content_encoding: str | None = None) -> Any:
    """Return what ``data`` holds.

    Args:
        data: bytes, or text as a peer may have sent it.
        content_type: as in the message; None is taken for JSON. Parameters after ``;`` are ignored.
        content_encoding: the charset of JSON; None and ``"binary"`` mean UTF-8.

    Raises:
        MalformedMessage: a content type that is not read, a charset that is unknown, or data that cannot
            be decoded. Nothing else, whatever the data.
    """
    bare = content_type_of(content_type)
    if bare == JSON:
        return _json.loads(text_of(data, content_encoding))
    if bare in _PLUGGED:
        return _PLUGGED.loads(bare, data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    from tranship.codec import _msgpack

    return _msgpack.loads(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)


def fast_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes | None:
    """Return ``[args, kwargs]`` as JSON, or None when only :func:`dumps` can tell."""
    return _json.fast_call(args, kwargs)


def fast_json(data: bytes) -> Any:
    """Return what the JSON ``data`` holds, or None when only :func:`loads` can tell (which includes ``null``)."""
    return _json.fast(data)


def content_type_of(content_type: str | None) -> str:
    """Return the content type without parameters; None is taken for JSON.

    Raises:
        MalformedMessage: it is not one that is read.
    """
    if content_type in (JSON, MSGPACK):
        return content_type
    bare = JSON if content_type is None else str(content_type).partition(";")[0].strip().lower()
    if bare not in (JSON, MSGPACK) and bare not in _PLUGGED:
        raise MalformedMessage(f"content type {_short(content_type)} is not trusted; expected {_known()}")
    return bare


def content_encoding_of(content_type: str) -> str:
    """Return the content encoding that goes with ``content_type``: ``"utf-8"`` or ``"binary"``."""
    return "utf-8" if content_type == JSON else "binary"


def plug(content_type: str, load: Callable[[], Codec]) -> None:
    """Have ``load`` give the codec of a content type when it is first met, unless it has one."""
    _PLUGGED.plug(content_type, load)


def _known() -> str:
    return " or ".join(map(repr, (JSON, MSGPACK, *_PLUGGED)))


def _short(value: Any) -> str:
    return repr(str(value)[:80])
