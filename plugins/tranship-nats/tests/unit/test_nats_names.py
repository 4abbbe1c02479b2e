"""Names on the server: legal, readable where they can be, and never two for one or one for two."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.envelope import Priority
from tranship.errors import InvalidOptionError
from tranship_nats._naming import Names, key_token, token, untoken

LEGAL = re.compile(r"[a-z0-9_=-]+")


@given(st.text(max_size=80).filter(lambda text: text.isprintable() or text))
def test_every_name_is_legal_and_comes_back(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        with pytest.raises(InvalidOptionError):
            token(name)
        return
    written = token(name)
    assert LEGAL.fullmatch(written), written
    assert untoken(written) == name


@given(st.lists(st.text(alphabet="aA.= -é*", max_size=6), min_size=2, max_size=2, unique=True))
def test_different_names_stay_different(names: list[str]) -> None:
    assert len({token(name) for name in names}) == 2
    assert len({key_token(name) for name in names}) == 2


def test_plain_names_are_left_alone() -> None:
    assert (token("media-2"), token("Media")) == ("media-2", "=jvswi2lb")


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="at most 1000 bytes, this has 1001"):
        token("q" * 1001, "queue")


@pytest.mark.parametrize("queue", ["q", "a.b", "Ä", "x" * 1000, "é" * 500, "="])
def test_subjects_tell_queue_and_level(queue: str) -> None:
    names = Names("shop", None)
    for level in Priority:
        for subject in (
            names.task(queue, level),
            names.delayed(queue, level, "id-1", 17.5),
        ):
            assert names.place_of(subject) == (queue, level)
        assert len(names.consumer(queue, level)) <= 255


def test_ids_that_are_none_have_a_token_all_the_same() -> None:
    for task_id in ("", "\ud800", "x" * 5000, "a b", "\0"):
        assert LEGAL.fullmatch(key_token(task_id))


def test_namespaces_never_share_a_name() -> None:
    namespaces = ["", "t", "work", "a-work", "A", "a.b", "tranship"]
    streams = [
        name for one in (Names(ns, None) for ns in namespaces) for name in (one.work, one.delay, one.bucket("dead"))
    ]
    assert len(set(streams)) == len(streams)
    roots = [Names(one, None).root for one in namespaces]
    assert not any(other.startswith(root + ".") for root in roots for other in roots)


def test_a_domain_goes_into_the_api_only() -> None:
    assert (Names("", "hub").api, Names("", None).api) == ("$JS.hub.API", "$JS.API")
    assert Names("", "hub").work == Names("", None).work == "tranship-work"
