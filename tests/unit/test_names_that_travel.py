"""What the decoder refuses the submit refuses: the texts of an envelope, with an error that names the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship import AsyncClient, Worker
from tranship.envelope import Envelope, Priority
from tranship.errors import InvalidOptionError, MalformedMessage, TranshipError
from tranship.protocol import Encoder, RawMessage, decode
from tranship.settings import BrokerURL, CommonOptions
from tranship.task import named, task

TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(["", "a", "two\nlines", "\ud800", "x" * 256, "é" * 128])
VALUES = st.recursive(TEXTS | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))
TEXT_OPTIONS = ("queue", "cancel_key", "dedup_key", "task_id")


@task(name="one")
async def one(*args: Any, **kwargs: Any) -> None:
    pass


@pytest.mark.parametrize("option", TEXT_OPTIONS)
@pytest.mark.parametrize("value", ["", "\ud800", "file-\udcff", "x" * 1001, "é" * 501, 7])
def test_every_text_is_checked_where_it_is_given(option: str, value: Any) -> None:
    with pytest.raises(InvalidOptionError, match=option):
        one.options(**{option: value})


@pytest.mark.parametrize("value", ["two\nlines", "\x1b[2J", "a\0b", "\x85", "x" * 256])
def test_a_queues_name_names_something_everywhere(value: str) -> None:
    for give in (
        lambda: one.options(queue=value),
        lambda: Worker("memory://", tasks=[one], queues=[value]),
        lambda: CommonOptions(namespace=value),
        lambda: one.options(headers={value: 1}),
    ):
        with pytest.raises(InvalidOptionError, match=r"expected|bytes"):
            give()
    with pytest.raises(InvalidOptionError, match="namespace"):
        BrokerURL.parse("memory://?namespace=a%0ab").options_as(CommonOptions)


def test_a_tasks_name_is_checked() -> None:
    for value in ("", "a\nb", "\ud800", "x" * 1025):
        with pytest.raises(InvalidOptionError):
            named(value)
    assert named("x" * 1024).name


async def test_a_cancel_key_that_no_task_can_have_is_refused() -> None:
    async with AsyncClient("memory://names-that-travel") as client:
        for target in ({"task_id": "\ud800"}, {"task_id": "x" * 1001}):
            with pytest.raises(InvalidOptionError, match="task_id"):
                await client.cancel(**target)
        with pytest.raises(InvalidOptionError, match="cancel key"):
            await client.cancel("file-\udcff")


@given(st.dictionaries(st.sampled_from(TEXT_OPTIONS), TEXTS), TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3), VALUES)
def test_what_submit_takes_the_decoder_reads(
    options: dict[str, Any], name: str, headers: dict[str, Any], value: Any
) -> None:
    try:
        made = named(name, **options, headers=headers)
        envelope = made.envelope((value,), {}, now=1.0)
        message = Encoder().encode(envelope)
    except TranshipError:
        return
    found = decode(message.raw(), queue=envelope.queue, priority=envelope.priority)
    for field in ("id", "task", "queue", "cancel_key", "dedup_key"):
        assert getattr(found, field) == getattr(envelope, field)
    assert list(found.args) == json.loads(json.dumps([value]))
    assert found.headers == json.loads(json.dumps(dict(headers)))


@pytest.mark.parametrize("field", ["group_id", "parent_id", "root_id", "cancel_key", "dedup_key", "id", "task"])
def test_the_encoder_takes_nothing_that_its_decoder_refuses(field: str) -> None:
    """An envelope that was made by hand, without a task's options."""
    given_fields = {"id": "a", "task": "t", field: "\ud800"}
    with pytest.raises(InvalidOptionError, match="surrogates"):
        Encoder().encode(Envelope(**given_fields))


@pytest.mark.parametrize("value", ["\ud800", ["\ud800"], {"a": {"\udcff": 1}}])
def test_headers_with_halves_of_characters_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOptionError, match="'x'"):
        Encoder().encode(Envelope(id="a", task="t", headers={"x": value, "y": "\\ud800"}))
    # Backslashes are no surrogates, and pairs are whole characters.
    Encoder().encode(Envelope(id="a", task="t", headers={"y": "\\ud800", "z": "🙂", "n": 2**70}))


def test_arguments_may_hold_halves_of_characters_as_file_names_do() -> None:
    message = Encoder().encode(Envelope(id="a", task="t", args=("file-\udcff",)))
    assert decode(message.raw(), queue="q", priority=Priority.NORMAL).args == ["file-\udcff"]


def test_the_decoder_refuses_what_no_broker_can_carry() -> None:
    headers = json.dumps({"id": "a", "task": "t", "tranship-cancel-key": "\ud800"}).encode()
    with pytest.raises(MalformedMessage, match="surrogates"):
        decode(RawMessage(headers, b"[[],{},{}]", "application/json"), queue="q", priority=Priority.NORMAL)
