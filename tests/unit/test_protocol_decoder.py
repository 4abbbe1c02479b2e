"""The remembering decoder says exactly what the plain one says."""

from dataclasses import replace

import pytest

from tranship.envelope import Envelope, Priority, new_id
from tranship.errors import MalformedMessage
from tranship.protocol import Decoder, Encoder, RawMessage, decode
from tranship.retry import RetryPolicy

PLACE = {"queue": "q", "priority": Priority.NORMAL}


def both(decoder: Decoder, raw: RawMessage) -> Envelope:
    found = decoder.decode(raw, **PLACE)
    assert found == decode(raw, **PLACE)
    return found


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"priority": Priority.HIGH},
        {"deadline": 2e9},
        {"retry": RetryPolicy(max_attempts=7)},
        {"root_id": "r" * 36},
        {"parent_id": "p", "root_id": "r"},
        {"headers": {"x": "y"}},
        {"attempt": 3},
        {"store_result": False},
        {"store_result": True},
        {"content_type": "application/x-msgpack"},
        {"cancel_key": "job-7", "persistent_output": True, "dedup_key": "d", "dedup_window": 5.0},
    ],
)
def test_equals_decode_before_and_after_learning(change: dict) -> None:
    decoder, encoder = Decoder(), Encoder()
    first = Envelope(id=new_id(), task="a.b", args=[1], kwargs={"k": "v"}, reply_to="here")
    for number in range(4):
        envelope = replace(first, id=new_id(), args=[number], **change)
        assert both(decoder, encoder.encode(envelope).raw()).id == envelope.id


def test_the_id_in_other_places_is_not_taken_for_known() -> None:
    decoder = Decoder()
    template = b'{"task":"a%b","id":"%b","root_id":"%b"}'
    body = b"[[],{},{}]"
    one, other = new_id().encode(), new_id().encode()
    both(decoder, RawMessage(template % (b"", one, one), body))
    assert both(decoder, RawMessage(template % (other, other, b""), body)).task == "a" + other.decode()


def test_canvas_is_seen_behind_known_headers() -> None:
    decoder = Decoder()
    message = Encoder().encode(Envelope(id=new_id(), task="a.b")).raw()
    both(decoder, message)
    both(decoder, replace_body(message, b'[[],{},{"chain":[{"task":"c"}]}]'))
    with pytest.raises(MalformedMessage):
        decoder.decode(replace_body(message, b"[[],{}"), **PLACE)


def replace_body(raw: RawMessage, body: bytes) -> RawMessage:
    return RawMessage(raw.headers, body, raw.content_type, raw.content_encoding, raw.properties)
