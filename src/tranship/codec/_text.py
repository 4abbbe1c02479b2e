"""The charsets a JSON body may have."""

from __future__ import annotations

from typing import Final

from tranship.errors import MalformedMessage

_CHARSETS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "binary": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "latin-1": "latin-1",
    "iso-8859-1": "latin-1",
    "utf-16": "utf-16",
    "utf-32": "utf-32",
}
"""Named, because Python's own table also holds codecs that are no charsets, some with quadratic cost."""


def text_of(data: bytes | str, content_encoding: str | None) -> bytes | str:
    """Return ``data`` as text, or untouched when it is UTF-8 already.

    Raises:
        MalformedMessage: an unknown charset, or bytes that are not in it.
    """
    if content_encoding in ("utf-8", None) or isinstance(data, str):
        return data
    charset = _CHARSETS.get(str(content_encoding).lower())
    if charset is None:
        raise MalformedMessage(f"content encoding {str(content_encoding)[:80]!r} is unknown; expected 'utf-8'")
    if charset == "utf-8":
        return data
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"the data is not {charset}: {error.reason} at byte {error.start}") from error
