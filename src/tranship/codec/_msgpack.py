"""msgpack as kombu writes and reads it. Imported where it is used, because importing msgpack takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgpack import UnpackException, packb, unpackb

from tranship.codec._bounds import MOST_VALUES, Count, TooManyValues
from tranship.codec._failure import REFUSALS, refusal, too_many
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
    except TooManyValues as error:
        raise too_many(name, error) from error
    except REFUSALS as error:
        raise refusal(value, name, "application/x-msgpack", _dumps) from error


def loads(data: bytes) -> Any:
    """Return what ``data`` holds.

    Raises:
        MalformedMessage: it is not msgpack, or has keys that are neither text nor bytes.
    """
    hook = revive_known if _MARK in data else None
    try:
        return _counted(data, hook) if len(data) > MOST_VALUES else unpackb(data, raw=False, object_hook=hook)
    except TooManyValues as error:
        raise MalformedMessage(f"the data holds {error}") from error
    except (*REFUSALS, UnpackException) as error:
        raise MalformedMessage(f"the data is not msgpack: {type(error).__name__}: {str(error)[:200]}") from error


def _counted(data: bytes, hook: Callable[[dict[Any, Any]], Any] | None) -> Any:
    """Read ``data``, as long as it holds no more than :data:`MOST_VALUES`; less data cannot."""
    count = Count()

    def listed(value: list[Any]) -> list[Any]:
        count.take(len(value))
        return value

    def mapped(value: dict[Any, Any]) -> Any:
        count.take(2 * len(value))
        return hook(value) if hook else value

    try:
        return unpackb(
            data, raw=False, list_hook=listed, object_hook=mapped, max_array_len=MOST_VALUES, max_map_len=MOST_VALUES
        )
    except ValueError as error:
        # A plain ValueError: msgpack has no type of its own for a single container that is too large.
        if "exceeds max_" in str(error):
            raise TooManyValues from error
        raise


def _dumps(value: Any) -> bytes:
    data: bytes = packb(value, default=plain, use_bin_type=True)
    # Only the reader refuses keys such as 1 or None, and it would throw the message away.
    if len(data) > MOST_VALUES:
        _counted(data, None)
    else:
        unpackb(data, raw=False)
    return data
