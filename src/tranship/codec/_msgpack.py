"""msgpack as kombu writes and reads it. Imported where it is used, because importing msgpack takes its time."""

from __future__ import annotations

from typing import Any, Final

from msgpack import UnpackException, packb, unpackb

from tranship.codec._failure import REFUSALS, refusal
from tranship.codec._tagged import TAG, plain, revive_known
from tranship.errors import MalformedMessage

_MARK: Final = TAG.encode()


def dumps(value: Any, name: str) -> bytes:
    """Return ``value`` as msgpack.

    Raises:
        EncodeError: a part of it cannot be written, or could not be read by a Celery peer.
    """
    try:
        return _dumps(value)
    except REFUSALS as error:
        raise refusal(value, name, "application/x-msgpack", _dumps) from error


def loads(data: bytes) -> Any:
    """Return what ``data`` holds.

    Raises:
        MalformedMessage: it is not msgpack, or has keys that are neither text nor bytes.
    """
    hook = revive_known if _MARK in data else None
    try:
        return unpackb(data, raw=False, object_hook=hook)
    except (*REFUSALS, UnpackException) as error:
        raise MalformedMessage(f"the data is not msgpack: {type(error).__name__}: {str(error)[:200]}") from error


def _dumps(value: Any) -> bytes:
    data: bytes = packb(value, default=plain, use_bin_type=True)
    # Only the reader refuses keys such as 1 or None, and it would throw the message away.
    unpackb(data, raw=False)
    return data
