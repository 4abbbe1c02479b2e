"""The remembering decoder on captured messages, their headers as bytes: before and after it has learned them."""

import json

import pytest
from golden_vectors import Vector, message, vectors

from tranship.envelope import Priority
from tranship.protocol import Decoder, RawMessage, decode

PLACE = {"queue": "q", "priority": Priority.NORMAL}


@pytest.mark.parametrize("vector", [*vectors("message"), *vectors("message-body")], ids=str)
def test_equals_decode(vector: Vector) -> None:
    decoder, raw = Decoder(), message(vector)
    raw = RawMessage(json.dumps(raw.headers, separators=(",", ":")).encode(), *parts(raw))
    for _ in range(3):
        assert decoder.decode(raw, **PLACE) == decode(raw, **PLACE)


def parts(raw: RawMessage) -> tuple:
    return raw.body, raw.content_type, raw.content_encoding, raw.properties
