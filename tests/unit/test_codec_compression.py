"""Compressed bodies: every library that is there, and never more bytes than asked for."""

import bz2
import lzma
import sys
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.codec import compress, decompress
from tranship.errors import InvalidOptionError, MalformedMessage

BUILT_IN = ["application/x-gzip", "application/x-bz2", "application/x-lzma"]
LIBRARIES = {"application/zstd": "zstandard", "application/x-brotli": "brotli"}
MIMES = [*BUILT_IN, *LIBRARIES]


@pytest.fixture(params=MIMES)
def mime(request: pytest.FixtureRequest) -> str:
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    return request.param


@pytest.mark.parametrize("data", [b"", b"a", b"abc" * 100_000])
def test_what_is_packed_is_unpacked(mime: str, data: bytes) -> None:
    assert decompress(compress(data, mime), mime) == data


def test_formats_are_celerys() -> None:
    assert zlib.decompress(compress(b"x", "application/x-gzip")) == b"x"
    assert bz2.decompress(compress(b"x", "application/x-bz2")) == b"x"
    assert lzma.decompress(compress(b"x", "application/x-lzma")) == b"x"


def test_the_limit_is_exact(mime: str) -> None:
    packed = compress(b"a" * 1000, mime)
    assert len(decompress(packed, mime, limit=1000)) == 1000
    with pytest.raises(MalformedMessage, match="more than 999 bytes"):
        decompress(packed, mime, limit=999)


def test_a_bomb_does_not_fill_the_memory(mime: str) -> None:
    packed = compress(b"\0" * 50_000_000, mime)
    tracemalloc.start()
    with pytest.raises(MalformedMessage, match="more than 100000 bytes"):
        decompress(packed, mime, limit=100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_damaged_data_is_malformed(mime: str) -> None:
    packed = compress(b"some text that is long enough" * 10, mime)
    for damaged in (b"", b"junk", packed[: len(packed) // 2], b"\0" + packed):
        with pytest.raises(MalformedMessage):
            decompress(damaged, mime)


def test_lzma_that_needs_too_much_memory_is_malformed() -> None:
    header = b"\x5d" + (1 << 30).to_bytes(4, "little") + b"\xff" * 8  # a dictionary of 1 GiB
    with pytest.raises(MalformedMessage, match="Memory usage limit"):
        decompress(header + bytes(100), "application/x-lzma")


def test_an_unknown_mime_type() -> None:
    with pytest.raises(MalformedMessage, match="'gzip' is unknown; expected one of application/x-gzip"):
        decompress(b"", "gzip")
    with pytest.raises(InvalidOptionError, match="unknown"):
        compress(b"", "gzip")


@pytest.mark.parametrize("mime_type", LIBRARIES)
def test_a_missing_library_is_named(mime_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARIES[mime_type], None)
    with pytest.raises(MalformedMessage, match=LIBRARIES[mime_type]):
        decompress(b"x", mime_type)
    with pytest.raises(InvalidOptionError, match=LIBRARIES[mime_type]):
        compress(b"x", mime_type)


@given(st.binary(), st.sampled_from(MIMES))
def test_arbitrary_bytes_are_unpacked_or_malformed(data: bytes, mime_type: str) -> None:
    with suppress(MalformedMessage):
        decompress(data, mime_type)
