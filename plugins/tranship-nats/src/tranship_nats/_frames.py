"""What goes over the wire: frames of the NATS protocol, and blocks of headers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from tranship.protocol import whole_of

__all__ = ["NO_HEADERS", "block", "escaped", "frame", "headers_of", "status_of", "unescaped"]

NO_HEADERS: Final = b""
_BEGIN: Final = b"NATS/1.0"
_PLAIN: Final = re.compile(r"[!-$&-~](?:[ -$&-~]*[!-$&-~])?")
"""What NATS carries unchanged and without a percent sign."""
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


def frame(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bytes:
    """Return a publish of ``payload``; ``headers`` is a block, or empty."""
    if headers:
        size = len(headers)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(payload), headers, payload)
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


def block(lines: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of headers; the values are escaped already where they need to be."""
    return b"%b\r\n%b\r\n" % (_BEGIN, b"".join(b"%b: %b\r\n" % line for line in lines))


def headers_of(found: bytes | None) -> dict[bytes, bytes]:
    """Return the headers in a block, their values still escaped; whatever cannot be read is left out."""
    headers: dict[bytes, bytes] = {}
    for line in (found or b"").split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name] = value.strip()
    return headers


def status_of(found: bytes | None) -> int:
    """Return the status in a block, such as 404 or 503; 0: it has none."""
    if not found or found[8:9] != b" ":
        return 0
    return whole_of(found[9:12]) or 0


def escaped(value: str) -> bytes:
    """Return ``value`` so that it survives as a header: blanks at the ends, line ends and non-ASCII percent-encoded."""
    return value.encode() if _PLAIN.fullmatch(value) or not value else _quoted(value)


@lru_cache(maxsize=256)
def _quoted(value: str) -> bytes:
    inner = " " if value == value.strip() else ""
    return quote(value, safe=_SAFE + inner, errors="surrogatepass").encode()


def unescaped(value: bytes) -> str:
    """Return the value that :func:`escaped` wrote."""
    return unquote(value.decode(errors="replace"), errors="replace")
