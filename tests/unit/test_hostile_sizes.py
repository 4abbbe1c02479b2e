"""A message costs what it weighs: a bomb is refused before it is built, and large work leaves the loop alone."""

from __future__ import annotations

import asyncio
import bz2
import json
import lzma
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from tranship import codec
from tranship.client import AsyncClient
from tranship.codec._bounds import MOST_VALUES
from tranship.envelope import Envelope, Priority
from tranship.errors import EncodeError, MalformedMessage
from tranship.protocol import Decoder, Message, RawMessage, TakesLong, decode
from tranship.task import task
from tranship.worker import Worker

MEBIBYTE = 1024 * 1024
PACKERS: dict[str, Callable[[bytes], bytes]] = {"application/x-bz2": bz2.compress, "application/x-lzma": lzma.compress}
PLACE = {"queue": "q", "priority": Priority.NORMAL}


def message(body: bytes, compression: str | None = None, content_type: str = "application/json") -> RawMessage:
    headers = {"task": "t", "id": "x", "compression": compression}
    return RawMessage(json.dumps(headers).encode(), body, content_type)


def peak_of(what: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        what()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(raw: RawMessage, match: str) -> None:
    with pytest.raises(MalformedMessage, match=match):
        decode(raw, **PLACE)


@pytest.mark.parametrize("mime", PACKERS)
def test_two_kilobytes_do_not_become_megabytes_without_end(mime: str) -> None:
    packed = PACKERS[mime](b"a" * (40 * MEBIBYTE))
    assert len(packed) < 10_000
    assert peak_of(lambda: refused(message(packed, mime), "more than 16777216 bytes")) < 80 * MEBIBYTE


def test_what_fits_the_limit_is_counted_before_it_is_built() -> None:
    """Built as they came, up to the 64 MB that were allowed, these were 1.9 GB and 6 to 20 seconds of the loop."""
    packed = lzma.compress(b"[[" + b"[]," * (5 * MEBIBYTE) + b"1],{},{}]", preset=0)
    assert len(packed) < 10_000
    # Unpacking and counting hold the bytes twice; five million lists would be 360 MB.
    raw = message(packed, "application/x-lzma")
    assert peak_of(lambda: refused(raw, "more than 1,048,576 values")) < 80 * MEBIBYTE


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd" + (8 * MEBIBYTE).to_bytes(4, "big") + b"\x90" * (8 * MEBIBYTE),
        b"\x93" + (b"\xdd" + MEBIBYTE.to_bytes(4, "big") + b"\x80" * MEBIBYTE) * 3,
        b"\xdc\x00\x10" + (b"\xdd" + (MEBIBYTE // 2).to_bytes(4, "big") + b"\x01" * (MEBIBYTE // 2)) * 16,
        b"\xdf" + (2 * MEBIBYTE).to_bytes(4, "big") + b"\xa1k\x01" * (2 * MEBIBYTE),
    ],
    ids=["one list", "a list of maps", "lists of numbers", "one map"],
)
def test_msgpack_is_counted_while_it_is_built(body: bytes) -> None:
    assert (
        peak_of(lambda: refused(message(body, content_type=codec.MSGPACK), "message body: the data")) < 150 * MEBIBYTE
    )


def test_characters_in_texts_are_no_values() -> None:
    table = "1,2;[x]{y}\n" * 400_000
    body = json.dumps([[table, '\\",' * 300_000], {}, {}]).encode()
    assert decode(message(body), **PLACE).args[0] == table


@pytest.mark.parametrize("size", [4, 8])
def test_counting_takes_time_with_the_size_and_not_its_square(size: int) -> None:
    for body in (b'"' + b'\\"' * (size * MEBIBYTE // 2), b'"' * (size * MEBIBYTE), b'[",' * (size * MEBIBYTE // 3)):
        began = time.process_time()
        with pytest.raises(MalformedMessage):
            codec.loads(body, codec.JSON)
        assert time.process_time() - began < 0.5 * size


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_what_is_not_read_is_not_written(content_type: str) -> None:
    most = [[0]] * (MOST_VALUES // 4)
    assert codec.loads(codec.dumps(most, content_type), content_type) == most
    with pytest.raises(EncodeError, match="more than 1,048,576 values"):
        codec.dumps([0] * (MOST_VALUES + 1), content_type, name="args")


def test_large_messages_are_left_to_a_thread() -> None:
    decoder = Decoder()
    large = b'[["' + b"a" * codec.PROMPT + b'"],{},{}]'
    for raw in (message(large), message(bz2.compress(large), "application/x-bz2")):
        with pytest.raises(TakesLong):
            decoder.decode(raw, **PLACE)
        assert len(decoder.decode_large(raw, **PLACE).args[0]) == codec.PROMPT
    small = b'[["a"],{},{}]'
    for raw in (message(small), message(bz2.compress(small), "application/x-bz2")):
        assert decoder.decode(raw, **PLACE).args == ["a"]


def test_the_limit_is_the_backends() -> None:
    body = b'[["' + b"a" * 3000 + b'"],{},{}]'
    for raw in (message(body), message(bz2.compress(body), "application/x-bz2")):
        with pytest.raises(MalformedMessage, match="max_message_size"):
            Decoder(2000).decode(raw, **PLACE)


@task(name="length")
async def length(text: str) -> int:
    return len(text)


async def test_unpacking_does_not_keep_the_loop() -> None:
    """A heartbeat of the worker's loop, beside 15 MB that bzip2 takes half a second to unpack."""
    url = "memory://hostile-sizes"
    text = b"a" * (15 * MEBIBYTE)
    packed = bz2.compress(b'[["' + text + b'"],{},{}]')
    pauses = [0.0]

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            pauses.append(time.perf_counter() - began)

    async with AsyncClient(url) as client:
        link = await client._connector.link()
        headers = json.dumps({"task": "length", "id": "bomb-1", "compression": "application/x-bz2"}).encode()
        envelope = Envelope(id="bomb-1", task="length")
        await link.submission.submit([Message(envelope, headers, packed, codec.JSON, "utf-8")])
        watching = asyncio.ensure_future(watch())
        assert await Worker(url, tasks=[length]).serve_until_idle(timeout=30) == 1
        watching.cancel()
        assert await client.handle("bomb-1").result(timeout=5) == len(text)
    assert max(pauses) < 0.25
