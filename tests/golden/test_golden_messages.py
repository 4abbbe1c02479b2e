"""Every captured task message decodes to what it holds, and survives being sent on."""

import hashlib
import json
from datetime import datetime
from typing import Any

import pytest
from golden_vectors import FOLDER, INDEX, Vector, message, vectors

from tranship.envelope import Envelope, Priority
from tranship.protocol import CARRIED, Encoder, RawMessage, canvas, decode

MESSAGES = [*vectors("message"), *vectors("message-body")]
PROTOCOL_2 = [vector for vector in MESSAGES if vector.about["case"] != "protocol1"]


def received(raw: RawMessage) -> Envelope:
    return decode(raw, queue="peers", priority=Priority.NORMAL)


def epoch(date: str | None) -> float | None:
    return datetime.fromisoformat(date).timestamp() if date else None


def parametrize(chosen: list[Vector]) -> Any:
    return pytest.mark.parametrize("vector", chosen, ids=str)


def test_the_files_are_those_of_the_index() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"index.json"}
    assert files == INDEX.keys()
    for name in files:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == INDEX[name]["sha256"], name


@parametrize(MESSAGES)
def test_a_message_decodes_to_what_it_holds(vector: Vector) -> None:
    envelope = received(message(vector))
    expect = vector.expect.get("body", vector.expect)
    assert (envelope.id, envelope.task) == (expect["id"], expect["task"])
    assert (envelope.args, envelope.kwargs) == (expect["args"], expect["kwargs"])
    assert canvas(envelope) == {name: part for name, part in expect.get("embed", {}).items() if part}
    assert envelope.content_type == f"application/{'json' if vector.about['serializer'] == 'json' else 'x-msgpack'}"
    assert envelope.reply_to == "11111111-1111-3111-8111-111111111111"


@parametrize(PROTOCOL_2)
def test_celerys_headers_become_fields(vector: Vector) -> None:
    raw = message(vector)
    envelope, headers = received(raw), dict(raw.headers)
    assert envelope.not_before == epoch(headers["eta"])
    assert envelope.deadline == epoch(headers["expires"])
    assert envelope.attempt == headers["retries"]
    assert envelope.run_timeout == headers["timelimit"][0]
    assert envelope.group_id == headers["group"]
    assert envelope.parent_id == headers["parent_id"]
    assert envelope.store_result is {None: None, True: False, False: True}[headers["ignore_result"]]
    assert (envelope.root_id or envelope.id) == headers["root_id"]


@parametrize(MESSAGES)
def test_a_message_survives_being_sent_on(vector: Vector) -> None:
    once = received(message(vector))
    again = received(Encoder().encode(once).raw())
    assert again == once


@parametrize(PROTOCOL_2)
def test_what_is_sent_on_says_the_same_to_celery(vector: Vector) -> None:
    raw = message(vector)
    headers = json.loads(Encoder("gen1@host").encode(received(raw)).headers)
    told = dict(raw.headers)
    for private in ("argsrepr", "kwargsrepr", "compression"):
        told.pop(private, None)
        headers.pop(private, None)
    added = {"stamped_headers": None, "stamps": {}, "replaced_task_nesting": 0}  # since Celery 5.3
    ours = {name for name in headers if name.startswith("tranship-")}
    assert ours <= {"tranship-deadline", "tranship-not-before"}
    assert {name: value for name, value in headers.items() if name not in ours} == added | told


def test_the_rest_is_carried_along() -> None:
    (vector,) = (vector for vector in MESSAGES if vector.name == "redis-json-limits-headers.json")
    envelope = received(message(vector))
    assert envelope.run_timeout == 30
    assert envelope.headers == {
        "peer_extra": "x1",
        CARRIED: {"headers": {"shadow": "shown.as"}, "soft_time_limit": 20},
    }


@pytest.mark.parametrize("name", ["redis-msgpack-sandai-process-full.json", "redis-msgpack-sandai-tracing.json"])
def test_a_sandai_message_is_a_plain_task(name: str) -> None:
    (vector,) = (vector for vector in MESSAGES if vector.name == name)
    envelope = received(message(vector))
    assert envelope.deadline is None
    assert envelope.cancel_key is None
    assert envelope.kwargs["deadline"] > 1e9
    assert envelope.headers == {} or set(envelope.headers) == {CARRIED}
