"""Signatures: Celery's own maps there and back, and what is no signature."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signature  # type: ignore[import-untyped]

from tranship import codec
from tranship.errors import MalformedMessage
from tranship.protocol import Signature, SignatureKind, decode_signature, signatures_in
from tranship.protocol._signature import MOST_SIGNATURES, SIGNATURE_DEPTH

APP = Celery("signatures", broker="memory://", backend="cache+memory://", set_as_current=False)
FORMATS = [codec.JSON, codec.MSGPACK]


@APP.task(name="m.add")  # type: ignore[untyped-decorator]
def add(x: int, y: int) -> int:
    return x + y


def canvases() -> dict[str, Any]:
    callback = add.s(1).set(queue="q", task_id="i-1", countdown=5)
    return {
        "task": add.s(1, y=2),
        "immutable": add.si(1, 2),
        "options": callback,
        "linked": add.s(1, 2).on_error(add.si(0, 0)).set(link=[callback]),
        "chain": chain(add.s(1, 2), add.s(3), add.s(4)),
        "group": group(add.s(1, 2), add.s(3, 4)),
        "chord": chord([add.s(1, 2), add.s(3, 4)], add.s()),
        "nested": chain(add.s(1, 2), group(add.s(1), chain(add.s(2), add.s(3))), add.s(), group(add.s(), add.s())),
        "stamped": stamped(),
    }


def stamped() -> Any:
    found = add.s(1, 2)
    found.stamp(tenant="t-1")
    return found


def wire(value: Any, content_type: str) -> Any:
    return codec.loads(codec.dumps(json.loads(json.dumps(value)), content_type), content_type)


def listed(value: Any) -> Any:
    """Celery writes the header of a chord that was not sent yet as a list, and later as a group."""
    if isinstance(value, list):
        return [listed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: listed(part) for name, part in value.items()}
    if isinstance(found.get("header"), dict):
        found["header"] = found["header"]["kwargs"]["tasks"]
    return found


@pytest.mark.parametrize("content_type", FORMATS)
@pytest.mark.parametrize("name", canvases())
def test_celerys_maps_there_and_back(name: str, content_type: str) -> None:
    value = wire(canvases()[name], content_type)
    decoded = decode_signature(value)
    assert listed(wire(decoded.encode(), content_type)) == listed(value)
    assert decode_signature(wire(decoded.encode(), content_type)) == decoded


@pytest.mark.parametrize("name", ["chain", "group", "chord", "nested"])
def test_celery_reads_what_is_written(name: str) -> None:
    value = wire(canvases()[name], codec.JSON)
    read = signature(wire(decode_signature(value).encode(), codec.JSON), app=APP)
    assert type(read) is type(canvases()[name])
    assert listed(wire(read, codec.JSON)) == listed(wire(signature(value, app=APP), codec.JSON))


def test_what_is_in_them() -> None:
    found = decode_signature(wire(canvases()["chord"], codec.JSON))
    assert found.kind is SignatureKind.CHORD
    assert found.header is not None
    assert [one.args for one in found.header.members] == [(1, 2), (3, 4)]
    assert found.body is not None
    assert (found.body.task, found.body.kind) == ("m.add", None)
    assert decode_signature({"task": "t", "options": {"task_id": "i"}, "chord_size": 3}).more == {"chord_size": 3}
    assert decode_signature({"task": "t"}).with_options(task_id="i").task_id == "i"


def test_our_own_are_the_same() -> None:
    one, two = Signature(task="m.add", args=(1, 2)), Signature(task="m.add", args=(3, 4))
    chained = decode_signature(wire(chain(add.s(1, 2), add.s(3, 4)), codec.JSON))
    assert Signature.chain([one, two]) == chained
    assert Signature.group([one, two]) == decode_signature(wire(group(add.s(1, 2), add.s(3, 4)), codec.JSON))
    found = decode_signature(wire(canvases()["chord"], codec.JSON))
    assert Signature.chord([one, two], Signature(task="m.add")) == found


BAD: list[tuple[Any, str]] = [
    (None, r"chain\[0\] is null; expected a signature"),
    ("add", r"chain\[0\] is the text 'add'; expected a signature"),
    ([], r"chain\[0\] is a list of 0"),
    ({1: 2}, r"chain\[0\] is a map; expected a signature"),
    ({}, r"chain\[0\]\.task is null; expected a text of 1 to 1024"),
    ({"task": ""}, r"chain\[0\]\.task is an empty text"),
    ({"task": "t", "args": "x"}, r"chain\[0\]\.args is the text 'x'; expected a list"),
    ({"task": "t", "kwargs": [1]}, r"chain\[0\]\.kwargs is a list of 1; expected a map"),
    ({"task": "t", "options": 3}, r"chain\[0\]\.options is a number; expected a map"),
    ({"task": "t", "immutable": "no"}, r"chain\[0\]\.immutable is the text 'no'; expected true, false or null"),
    ({"task": "t", "subtask_type": "xor"}, r"chain\[0\]\.subtask_type is the text 'xor'; expected null or one of"),
    ({"task": "t", "subtask_type": []}, r"chain\[0\]\.subtask_type is a list of 0"),
    ({"task": "t", "options": {"task_id": 7}}, r"chain\[0\]\.options\.task_id is a number; expected a text"),
    ({"task": "t", "options": {"link": 7}}, r"chain\[0\]\.options\.link is a number; expected signatures"),
    ({"task": "t", "subtask_type": "group", "kwargs": {"tasks": {}}}, r"chain\[0\]\.tasks is a map; expected a list"),
    (
        {"task": "t", "subtask_type": "chord", "kwargs": {"header": [{"task": 1}]}},
        r"chain\[0\]\.header\[0\]\.task is a number",
    ),
    ({"task": "t", "subtask_type": "chord", "kwargs": {"header": [], "body": 1}}, r"chain\[0\]\.body is a number"),
]


@pytest.mark.parametrize(("value", "words"), BAD)
def test_what_is_none(value: Any, words: str) -> None:
    with pytest.raises(MalformedMessage, match=words):
        decode_signature(value, "chain[0]")


def test_nested_too_deep() -> None:
    value: dict[str, Any] = {"task": "t"}
    for _ in range(SIGNATURE_DEPTH):
        value = {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [value]}}
    with pytest.raises(MalformedMessage, match="nested too deep; expected at most 100 levels"):
        decode_signature(value)
    decode_signature(value["kwargs"]["tasks"][0])


def test_too_many() -> None:
    tasks = [{"task": "t"}] * MOST_SIGNATURES
    value = {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": tasks}}
    with pytest.raises(MalformedMessage, match="one too many; expected at most 100,000 signatures"):
        decode_signature(value)
    del tasks[-1]
    assert len(decode_signature(value).members) == MOST_SIGNATURES - 1


def test_one_or_several() -> None:
    one = {"task": "t"}
    assert signatures_in(None, "link") == []
    assert signatures_in(one, "link") == [one]
    assert signatures_in((one, one), "link") == [one, one]
    with pytest.raises(MalformedMessage, match="link is a number; expected a signature, a list of them, or null"):
        signatures_in(3, "link")
    with pytest.raises(MalformedMessage, match=r"link\[1\] is null"):
        signatures_in([one, None], "link")
