"""Header maps become tables and come back, with nothing lost, cut or rounded; and what others send harms nobody."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.envelope import Envelope, Priority, new_id
from tranship.errors import MalformedMessage
from tranship.protocol import Encoder, RawMessage, decode
from tranship.retry import RetryPolicy
from tranship_rabbitmq._tables import DELIVERIES, Tables
from tranship_rabbitmq.amqp.content import Properties, content_header, properties_of
from tranship_rabbitmq.amqp.methods import pack, unpack
from tranship_rabbitmq.amqp.table import TableError, decode_table, encode_table

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.frames.bin"))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=20), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(min_size=1, max_size=60)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a golden vector: kind and payload."""
    found, at = [], 0
    while at < len(data):
        kind, _, size = struct.unpack_from(">BHI", data, at)
        found.append((kind, data[at + 7 : at + 7 + size]))
        at += 8 + size
    return found


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name.removesuffix(".frames.bin"))
def test_celerys_frames_are_read_and_written_byte_for_byte(path):
    (_, method), (_, header), *bodies = frames(path.read_bytes())
    publish = unpack(method)
    assert publish.name == "basic.publish"
    assert pack(publish.name, *publish.arguments) == method
    properties = properties_of(header)
    size = sum(len(body) for _, body in bodies)
    # As ours, the table holds the fields in the order they were given.
    rewritten = properties.with_headers(properties.headers())
    assert content_header(rewritten, size) == header
    raw = RawMessage(properties.headers(), b"".join(body for _, body in bodies), properties.content_type)
    envelope = decode(raw, queue="peers", priority=Priority.NORMAL)
    assert envelope.id == properties.correlation_id


def test_there_are_golden_vectors():
    assert len(VECTORS) >= 9


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_is_written_is_read(values):
    try:
        table = encode_table(values)
    except TableError as error:
        assert "half a character" in str(error) or "255 bytes" in str(error) or "128" in str(error)  # noqa: PT017
        return
    assert decode_table(table) == (values, len(table))


@given(st.binary(max_size=120))
def test_garbage_is_a_table_error_and_nothing_else(data):
    for read in (decode_table, properties_of, unpack):
        with contextlib.suppress(TableError):
            read(data)
    Tables().read(data, "id-1")


def test_times_keep_their_fractions():
    now = 1790000000.123456
    assert decode_table(encode_table({"tranship-deadline": now}))[0]["tranship-deadline"] == now


def test_types_of_other_clients_are_read():
    at = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    values = {"at": at, "price": Decimal("12.34"), "raw": b"\0\xff", "none": [None, None]}
    assert decode_table(encode_table(values))[0] == values
    small = b"\x01ab\x7f" + b"\x01bB\xff" + b"\x01cs\xff\xff" + b"\x01du\xff\xff" + b"\x01ei\xff\xff\xff\xff"
    found, _ = decode_table(struct.pack(">I", len(small)) + small)
    assert found == {"a": 127, "b": 255, "c": -1, "d": 65535, "e": 2**32 - 1}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n" * 129: 1}, "129 characters"),
        ({"": 1}, "0 characters"),
        ({"big": 2**63}, "64 bits"),
        ({"odd": object()}, "type object"),
        ({"half": "\ud800"}, "half a character"),
    ],
)
def test_what_cannot_travel_is_refused_and_never_cut(values, words):
    with pytest.raises(TableError, match=words):
        encode_table(values)


def test_deep_nesting_is_refused_both_ways():
    value: object = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(TableError, match="deeper"):
        encode_table({"deep": value})
    inner = b""
    for _ in range(100):
        inner = b"A" + struct.pack(">I", len(inner)) + inner
    body = b"\x01x" + inner
    with pytest.raises(TableError):
        decode_table(struct.pack(">I", len(body)) + body)


def test_templates_say_what_writing_in_full_says():
    encoder, tables = Encoder("gen1@host"), Tables()
    for _ in range(3):
        for fields in (
            {},
            {"deadline": time.time() + 60, "cancel_key": "job-7"},
            {"retry": RetryPolicy(max_attempts=3), "headers": {"x-mine": ["a", {"b": None}]}},
            {"parent_id": "p", "root_id": "r", "priority": Priority.HIGH},
        ):
            message = encoder.encode(Envelope(id=new_id(), task="unit.echo", **fields))
            table = tables.table(message.headers, message.envelope.id)
            assert table == encode_table(json.loads(message.headers))
            read = tables.read(table, message.envelope.id)
            assert json.loads(read.headers) == json.loads(message.headers)
            assert read.deliveries == 0


def test_a_user_header_with_the_tasks_own_id_is_no_trouble():
    encoder, tables = Encoder("gen1@host"), Tables()
    for _ in range(2):
        task_id = new_id()
        headers = {"x-copy": f"<{task_id}> and {task_id}", task_id: task_id}
        message = encoder.encode(Envelope(id=task_id, task="unit.echo", headers=headers))
        table = tables.table(message.headers, task_id)
        assert json.loads(tables.read(table, task_id).headers) == json.loads(message.headers)


def test_what_the_server_and_the_driver_added_is_counted_and_left_out():
    added = {"x-death": [{"count": 1, "queue": "d"}], "x-first-death-queue": "d", "x-delivery-count": 3, DELIVERIES: 2}
    table = encode_table({"id": "id-1", "task": "t", "x-mine": 1, **added})
    for _ in range(2):
        read = Tables().read(table, "id-1")
        assert json.loads(read.headers) == {"id": "id-1", "task": "t", "x-mine": 1}
        assert read.deliveries == 5


def test_headers_that_are_no_map_travel_and_are_malformed_at_the_other_end():
    tables = Tables()
    table = tables.table(b"{not json", "id-1")
    raw = RawMessage(tables.read(table, "id-1").headers, b"[[],{},{}]")
    with pytest.raises(MalformedMessage, match="task"):
        decode(raw, queue="q", priority=Priority.NORMAL)


def test_properties_come_back():
    sent = Properties("application/json", "utf-8", encode_table({"a": 1}), 2, 5, "c", "r", "100", "m", None, "t")
    header = content_header(sent, 17)
    assert properties_of(header) == sent
    assert struct.unpack_from(">Q", header, 4) == (17,)
