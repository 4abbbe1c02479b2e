"""Commands as the bytes Redis reads: arrays of length-prefixed strings."""

from __future__ import annotations

__all__ = ["Part", "bulk", "pack"]

Part = bytes | str | int | float


def pack(*parts: Part) -> bytes:
    """Return one command; texts as UTF-8, numbers as Python writes them.

    Raises:
        TypeError: a part is something else.
    """
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        value = part if type(part) is bytes else _encoded(part)
        out.append(b"$%d\r\n" % len(value))
        out.append(value)
        out.append(b"\r\n")
    return b"".join(out)


def bulk(value: bytes) -> bytes:
    """Return one string of a command, for those who join their commands themselves."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _encoded(part: Part) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, bool) or not isinstance(part, bytes | int | float):
        raise TypeError(f"a Redis command cannot hold {type(part).__name__}; expected bytes, str, int or float")
    return part if isinstance(part, bytes) else repr(part).encode()
