"""Envelopes to messages: what Celery sees, what travels beside it, and the templates' equality with the long way."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from protocol_strategies import ENVELOPES, PLAIN

from tranship import codec
from tranship.envelope import Envelope, Priority
from tranship.errors import EncodeError, InvalidOptionError
from tranship.protocol import CARRIED, Encoder, canvas, decode, user_headers
from tranship.protocol._encode import _is_plain
from tranship.protocol._headers import header_map
from tranship.retry import RetryPolicy

PLAIN_TASK = Envelope(id="i-1", task="m.t", args=("a", 1), kwargs={"k": None})
CELERY_HEADERS = [
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
]


def encoded(**fields: Any) -> dict[str, Any]:
    return json.loads(Encoder("me").encode(replace(PLAIN_TASK, **fields)).headers)


def back(envelope: Envelope) -> Envelope:
    raw = Encoder().encode(envelope).raw()
    return decode(raw, queue=envelope.queue, priority=Priority.NORMAL)


def test_a_plain_task_has_celerys_19_headers_and_no_more() -> None:
    headers = encoded()
    assert list(headers) == CELERY_HEADERS
    assert headers["origin"] == "me"
    assert headers["root_id"] == headers["id"] == "i-1"
    assert headers["timelimit"] == [None, None]
    assert "a" not in (headers["argsrepr"], headers["kwargsrepr"])


def test_the_body_is_celerys() -> None:
    message = Encoder().encode(PLAIN_TASK)
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    assert json.loads(message.body) == [["a", 1], {"k": None}, embed]
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.size == len(message.headers) + len(message.body)
    assert message.properties() == {"correlation_id": "i-1", "reply_to": None, "delivery_mode": 2}
    packed = Encoder().encode(replace(PLAIN_TASK, content_type=codec.MSGPACK))
    assert codec.loads(packed.body, codec.MSGPACK) == [["a", 1], {"k": None}, embed]
    assert packed.content_encoding == "binary"


def test_what_celery_knows_is_in_celerys_headers() -> None:
    at = datetime(2031, 2, 3, 4, 5, 6, 789000, UTC)
    headers = encoded(
        not_before=at.timestamp(), deadline=at.timestamp(), attempt=2, run_timeout=30, store_result=False, group_id="g"
    )
    assert headers["eta"] == headers["expires"] == "2031-02-03T04:05:06.789000+00:00"
    assert (headers["retries"], headers["timelimit"], headers["ignore_result"]) == (2, [30, None], True)
    assert headers["group"] == "g"
    assert headers["tranship-deadline"] == at.timestamp()


def test_what_celery_does_not_know_is_beside_it() -> None:
    retry = RetryPolicy(max_attempts=5)
    headers = encoded(
        cancel_key="job-7",
        persistent_output=True,
        dedup_key="d",
        dedup_window=5,
        result_ttl=60,
        retry=retry,
        priority=Priority.VERY_LOW,
    )
    assert {name: value for name, value in headers.items() if name not in CELERY_HEADERS} == {
        "tranship-cancel-key": "job-7",
        "tranship-persistent-output": True,
        "tranship-dedup-key": "d",
        "tranship-dedup-window": 5,
        "tranship-result-ttl": 60,
        "tranship-retry": retry.to_dict(),
        "tranship-priority": "very_low",
    }


@pytest.mark.parametrize("name", [*CELERY_HEADERS, "compression", "redelivered", "tranship-deadline", "tranship-new"])
def test_a_users_header_with_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"header '{name}' is reserved"):
        encoded(headers={name: "x"})


@pytest.mark.parametrize("value", ["x", {"headers": {"id": "other"}}, {"headers": {"anything": 1}}])
def test_the_carried_part_cannot_be_misused(value: Any) -> None:
    with pytest.raises(InvalidOptionError, match="reserved"):
        encoded(headers={CARRIED: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, "id is ''"),
        ({"id": 5}, "id is '5' .int.; expected a text"),
        ({"id": "\ud800"}, "lone surrogates"),
        ({"id": "x" * 1025}, "1 to 1024"),
        ({"task": None}, "task is 'None'"),
        ({"deadline": 1e20}, "deadline is 1e.20; expected epoch seconds"),
        ({"not_before": float("nan")}, "not_before is nan"),
        ({"run_timeout": float("inf")}, "run_timeout is inf"),
        ({"result_ttl": -1}, "result_ttl is -1"),
        ({"content_type": "application/x-yaml"}, "cannot be written"),
    ],
)
def test_a_message_that_celery_could_not_take_is_not_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        encoded(**fields)


def test_an_argument_that_cannot_be_written_is_named() -> None:
    with pytest.raises(EncodeError, match=r"args\[1\] is of type set") as caught:
        Encoder().encode(replace(PLAIN_TASK, args=(1, {2})))
    assert caught.value.task_id == "i-1"
    with pytest.raises(EncodeError, match=r"kwargs\['a'\]\['b'\] has a key of type int"):
        Encoder().encode(replace(PLAIN_TASK, kwargs={"a": {"b": {1: 2}}}, content_type=codec.MSGPACK))
    with pytest.raises(EncodeError, match=r"headers\['x'\] is of type object"):
        encoded(headers={"x": object()})


def test_odd_but_legal_containers() -> None:
    class Arguments(Mapping[str, Any]):
        def __getitem__(self, name: str) -> Any:
            return {"a": 1}[name]

        def __iter__(self) -> Any:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    envelope = replace(PLAIN_TASK, args=range(2), kwargs=Arguments())
    assert json.loads(Encoder().encode(envelope).body)[:2] == [[0, 1], {"a": 1}]


@given(PLAIN)
@settings(max_examples=300)
def test_a_template_gives_what_the_long_way_gives(envelope: Envelope) -> None:
    encoder = Encoder("me")
    for again in (envelope, replace(envelope, id=envelope.id + '"\\\u2028%s')):
        assert _is_plain(again)
        headers = json.loads(encoder.encode(again).headers)
        assert headers == header_map(again, "me")
        assert list(headers) == list(header_map(again, "me"))


def test_templates_do_not_mix_policies() -> None:
    encoder = Encoder()
    for attempts in range(1, 50):  # policies come and go, and so do their ids
        message = encoder.encode(replace(PLAIN_TASK, retry=RetryPolicy(max_attempts=attempts)))
        assert json.loads(message.headers)["tranship-retry"]["max_attempts"] == attempts


def test_the_templates_are_bounded() -> None:
    encoder = Encoder()
    for number in range(1500):
        encoder.encode(replace(PLAIN_TASK, task=f"m.t{number}"))
    assert len(encoder._templates) <= 512


@given(ENVELOPES)
@settings(max_examples=300)
def test_an_envelope_comes_back(envelope: Envelope) -> None:
    usual = None if envelope.root_id == envelope.id else envelope.root_id
    assert back(envelope) == replace(envelope, root_id=usual)


def test_a_received_message_is_passed_on_whole() -> None:
    chain = [{"task": "next", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}]
    raw = Encoder().encode(PLAIN_TASK).raw()
    raw.headers = json.loads(raw.headers) | {
        "stamps": {"a": 1},
        "stamped_headers": ["a"],
        "a": 1,
        "group_index": 0,
        "timelimit": [None, 7.5],
        "ignore_result": False,
        "tranship-of-the-future": {"x": 1},
        "redelivered": True,
    }
    raw.body = json.dumps([[], {}, {"chain": chain, "callbacks": None, "new": 1}]).encode()
    once = decode(raw, queue="q", priority=Priority.NORMAL)
    assert canvas(once) == {"chain": chain, "new": 1}
    assert user_headers(once) == {"a": 1}
    message = Encoder().encode(once)
    headers = json.loads(message.headers)
    assert headers.pop("tranship-of-the-future") == {"x": 1}
    assert (headers["timelimit"], headers["ignore_result"]) == ([None, 7.5], False)
    assert (headers["stamps"], headers["group_index"], headers["a"]) == ({"a": 1}, 0, 1)
    assert "redelivered" not in headers
    assert CARRIED not in headers
    assert json.loads(message.body)[2] == dict.fromkeys(["callbacks", "errbacks", "chord"]) | {"chain": chain, "new": 1}
    assert back(once) == once


class TestKinds:
    """Messages of one kind are encoded by what is known of the first; nobody may see a difference."""

    @given(PLAIN, PLAIN)
    @settings(max_examples=100, deadline=None)
    def test_one_by_its_kind_is_the_same_as_one_alone(self, first: Envelope, other: Envelope) -> None:
        second = replace(first, id="01981234-0000-7000-8000-000000000001", args=other.args, kwargs=other.kwargs)
        encoder, kind = Encoder("me"), object()
        encoder.encode(first, kind)
        made, alone = encoder.encode(second, kind), Encoder("me").encode(second)
        assert (made.headers, made.body) == (alone.headers, alone.body)
        assert (made.content_type, made.content_encoding) == (alone.content_type, alone.content_encoding)
        assert (made.check_id, made.awaited, made.tries) == (alone.check_id, alone.awaited, alone.tries)

    def test_only_those_of_a_kind_are_alike(self) -> None:
        encoder, kind = Encoder(), object()
        first, second = (encoder.encode(replace(PLAIN_TASK, id=one), kind) for one in "ab")
        assert first.like is second.like is not None
        assert encoder.encode(PLAIN_TASK).like is None
        assert encoder.encode(PLAIN_TASK, object()).like is not first.like
        assert encoder.encode(replace(PLAIN_TASK, reply_to="elsewhere"), kind).like is not first.like

    def test_what_may_differ_in_more_is_like_nothing(self) -> None:
        assert Encoder().encode(replace(PLAIN_TASK, deadline=9e9), object()).like is None

    def test_kinds_are_not_remembered_without_end(self) -> None:
        encoder = Encoder()
        for _ in range(2000):
            encoder.encode(PLAIN_TASK, object())
        assert len(encoder._kinds) <= 512
