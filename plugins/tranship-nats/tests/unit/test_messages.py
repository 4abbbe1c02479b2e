"""A task as a message of NATS: headers survive what NATS does to them, and foreign messages are read as far as they go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.envelope import Envelope
from tranship.protocol import Encoder, Message
from tranship_nats._delivery import told_by
from tranship_nats._message import (
    TRIED,
    block,
    block_of,
    copied,
    escaped,
    frame,
    headers_of,
    raw_of,
    status_of,
    tried,
    unescaped,
)


@given(st.text(max_size=60))
def test_header_values_survive(value: str) -> None:
    written = escaped(value)
    # What NATS and its clients change: blanks at the ends, line ends, anything that is not ASCII.
    assert written == written.strip()
    assert written.isascii()
    assert b"\r" not in written
    assert b"\n" not in written
    expected = value.encode(errors="surrogatepass").decode(errors="replace")
    assert unescaped(written) == expected


def test_what_is_plain_stays_readable() -> None:
    assert escaped("application/json; x=1 2") == b"application/json; x=1 2"
    assert escaped("100 %") == b"100 %25"
    assert escaped(" x ") == b"%20x%20"


def _message(**fields: object) -> Message:
    return Encoder("test").encode(Envelope(**{"id": "id-1", "task": "t", **fields}))


@pytest.mark.parametrize("size", [10, 31_000, 200_000])
def test_a_message_comes_back(size: int) -> None:
    message = _message(headers={"x-long": "é" * (size // 2)}, reply_to="_INBOX.a b", args=(1,))
    found, data = block_of(message.raw(), b"id-1")
    raw = raw_of(found, data)
    assert (raw.headers, raw.body) == (message.headers, message.body)
    assert (raw.content_type, raw.content_encoding) == ("application/json", "utf-8")
    assert raw.properties["reply_to"] == "_INBOX.a b"
    # The server takes 64 KiB of headers.
    assert len(found) < 64 * 1024


@pytest.mark.parametrize("headers", [b'{"id":\r\n"a"}', b' {"id":"a"}', b"null", b"", b"\xff\x00"])
def test_a_header_map_that_nats_would_change_goes_into_the_payload(headers: bytes) -> None:
    message = _message()
    message.headers = headers
    raw = raw_of(*block_of(message.raw(), b"id-1"))
    assert (raw.headers, raw.body) == (message.headers, message.body)


def test_copies_keep_everything_but_what_was_said_on_the_way() -> None:
    message = _message(headers={"x": "y"})
    found, data = block_of(message.raw(), b"id-1", not_before=12.5)
    again = copied(found, msg_id=b"%:due:7")
    headers = headers_of(again)
    assert headers[b"Nats-Msg-Id"] == b"%:due:7"
    assert b"Not-Before" not in headers
    assert raw_of(again, data).headers == message.headers
    assert TRIED not in headers
    released = copied(again, msg_id=b"%:released:7", tried=2)
    assert (tried(released), tried(copied(released, msg_id=b"%:released:8"))) == (2, 0)


@pytest.mark.parametrize(
    "found",
    [None, b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nno colon\r\n:\r\n\r\n", b"NATS/1.0\r\nTask-Headers-Size: x\r\n\r\n"],
)
def test_a_message_of_somebody_else_is_read_as_far_as_it_goes(found: bytes | None) -> None:
    raw = raw_of(found, b"body")
    assert (raw.headers, raw.body, raw.content_type, dict(raw.properties)) == (b"{}", b"body", None, {})


def test_statuses_are_told_from_headers() -> None:
    assert status_of(b"NATS/1.0 404 No Messages\r\n\r\n") == 404
    assert [status_of(one) for one in (None, b"", block([(b"Status", b"404")]), b"NATS/1.0 x\r\n\r\n")] == [0] * 4


def test_frames_count_bytes() -> None:
    assert frame(b"a", b"", b"", "é".encode()) == b"PUB a  2\r\n\xc3\xa9\r\n"
    assert frame(b"a", b"r", b"NATS/1.0\r\n\r\n", b"x") == b"HPUB a r 12 13\r\nNATS/1.0\r\n\r\nx\r\n"


def test_both_forms_of_acknowledgements_are_read() -> None:
    for subject in (
        b"$JS.ACK.work.q-1.3.17.20.1700000000000000000.5",
        b"$JS.ACK._.hash.work.q-1.3.17.20.1700000000000000000.5.random",
    ):
        told = told_by(subject)
        assert told is not None
        assert (told.delivered, told.seq, told.stored_at) == (3, 17, 1_700_000_000.0)
