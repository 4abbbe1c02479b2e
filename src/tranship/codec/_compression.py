"""Compressed bodies, by the mime types Celery uses; unpacking is bounded, because a few bytes can hold gigabytes."""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from tranship.codec._bounds import DEFAULT_LIMIT
from tranship.errors import InvalidOptionError, MalformedMessage

_MEMORY: Final = 128 * 1024 * 1024
"""What unpacking may use besides, such as for a dictionary: xz -9 needs 65 MB, zstd's largest window is 128."""


class UnpacksToMore(MalformedMessage):
    """It unpacks to more than the limit."""


class _Unpacker(Protocol):
    """What bz2 and lzma offer, zlib nearly."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def compress(data: bytes, mime: str) -> bytes:
    """Return ``data`` compressed as ``mime`` says.

    Raises:
        InvalidOptionError: an unknown mime type, or one whose library is not installed.
    """
    try:
        return _PACKERS[mime](data)
    except KeyError:
        raise InvalidOptionError(f"compression {mime!r} is unknown; use one of {', '.join(_PACKERS)}") from None
    except ImportError as error:
        raise InvalidOptionError(f"compression {mime!r} needs a library: {error}") from error


def decompress(data: bytes, mime: str, *, limit: int = DEFAULT_LIMIT) -> bytes:
    """Return what ``data``, compressed as ``mime`` says, holds.

    Args:
        data: the compressed bytes.
        mime: such as ``"application/x-gzip"``, which is zlib's format (RFC 1950) and no gzip file.
        limit: the largest result in bytes.

    Raises:
        MalformedMessage: an unknown mime type, damaged data, or (UnpacksToMore) more than ``limit`` bytes.
    """
    unpack = _UNPACKERS.get(mime)
    if unpack is None:
        expected = ", ".join(_UNPACKERS)
        raise MalformedMessage(f"compression {str(mime)[:80]!r} is unknown; expected one of {expected}")
    try:
        result = unpack(data, limit)
    except ImportError as error:
        raise MalformedMessage(f"compression {mime!r} cannot be read here: {error}") from error
    except MemoryError as error:
        raise MalformedMessage(f"the {mime} data needs more memory than is allowed") from error
    if len(result) > limit:
        raise _too_large(mime, limit)
    return result


def _unzlib(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        result = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise _damaged("application/x-gzip", error) from error
    if not unpacker.eof and len(result) <= limit:
        raise _damaged("application/x-gzip", "it ends too early")
    return result


def _unpack(unpacker: _Unpacker, data: bytes, limit: int, mime: str) -> bytes:
    try:
        result = unpacker.decompress(data, limit + 1)
        while not unpacker.eof and len(result) <= limit:
            more = unpacker.decompress(b"", limit + 1 - len(result))
            if not more:
                raise _damaged(mime, "it ends too early")
            result += more
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise _damaged(mime, error) from error
    return result


def _unbz2(data: bytes, limit: int) -> bytes:
    return _unpack(bz2.BZ2Decompressor(), data, limit, "application/x-bz2")


def _unlzma(data: bytes, limit: int) -> bytes:
    return _unpack(lzma.LZMADecompressor(memlimit=_MEMORY), data, limit, "application/x-lzma")


def _zstd(data: bytes) -> bytes:
    result: bytes = _library("zstandard").ZstdCompressor().compress(data)
    return result


def _unzstd(data: bytes, limit: int) -> bytes:
    zstandard = _library("zstandard")
    try:
        if zstandard.frame_content_size(data) > limit:
            raise _too_large("application/zstd", limit)
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
        result: bytes = unpacker.decompress(data, max_output_size=limit + 1)
    except zstandard.ZstdError as error:
        raise _damaged("application/zstd", error) from error
    return result


def _brotli(data: bytes) -> bytes:
    result: bytes = _library("brotli").compress(data)
    return result


def _unbrotli(data: bytes, limit: int) -> bytes:
    brotli = _library("brotli")
    unpacker = brotli.Decompressor()
    if not hasattr(unpacker, "can_accept_more_data"):
        raise ImportError("it needs brotli 1.2 or later, which can bound the size")
    try:
        result: bytes = unpacker.process(data, output_buffer_limit=limit + 1)
        while not unpacker.is_finished() and len(result) <= limit:
            more = unpacker.process(b"", output_buffer_limit=limit + 1 - len(result))
            if not more:
                raise _damaged("application/x-brotli", "it ends too early")
            result += more
    except brotli.error as error:
        raise _damaged("application/x-brotli", error) from error
    return result


def _library(name: str) -> Any:
    return importlib.import_module(name)


def _too_large(mime: str, limit: int) -> UnpacksToMore:
    return UnpacksToMore(f"the {mime} data unpacks to more than {limit} bytes (max_message_size)")


def _damaged(mime: str, why: object) -> MalformedMessage:
    return MalformedMessage(f"the {mime} data is damaged: {why}")


_PACKERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": lzma.compress,
    "application/zstd": _zstd,
    "application/x-brotli": _brotli,
}
_UNPACKERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {
    "application/x-gzip": _unzlib,
    "application/x-bz2": _unbz2,
    "application/x-lzma": _unlzma,
    "application/zstd": _unzstd,
    "application/x-brotli": _unbrotli,
}
