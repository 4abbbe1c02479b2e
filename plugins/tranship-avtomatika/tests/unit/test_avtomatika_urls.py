"""URLs of orchestrators, and names of workers as orchestrators allow them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rxon.validators import is_valid_identifier

from tranship.errors import InvalidOptionError, InvalidURLError, UnknownSchemeError
from tranship.ports import Capability
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship_avtomatika._connection import base_of
from tranship_avtomatika._payloads import worker_id


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("avtomatika+http://:token@hub:9000", "http://hub:9000"),
        ("avtomatika+https://hub", "https://hub"),
        ("avtomatika+http://[::1]:81/behind/a/proxy/?sts=true", "http://[::1]:81/behind/a/proxy"),
    ],
)
def test_where_an_orchestrator_is(url: str, base: str) -> None:
    assert base_of(BrokerURL.parse(url)) == base


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("avtomatika+http://a,b", InvalidURLError, "several hosts"),
        ("avtomatika+http://a?jobs=flow", InvalidOptionError, "a path such as /api/v1/jobs"),
        ("avtomatika+http://a?namespace=mine", InvalidOptionError, "an orchestrator has no namespaces"),
        ("avtomatika+http://a?poll_timeout=0", InvalidOptionError, "poll_timeout is 0"),
        ("avtomatika+http://a?worker_token=x", InvalidOptionError, "worker_token"),
        ("avtomatika://a", UnknownSchemeError, re.escape("did you mean 'avtomatika+http")),
    ],
)
def test_urls_that_cannot_be_used(url: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Registry().create(url)


def test_no_secret_is_shown() -> None:
    backend = Registry().create("avtomatika+http://:worker@hub?client_token=client&secret_key=signs")
    assert not re.search("worker|client_token=c|signs", f"{backend!r} {backend.url}")


def test_what_is_known_of_one_that_is_away() -> None:
    known = Registry().create("avtomatika+http://hub").capabilities
    there = {Capability.CROSS_PROCESS, Capability.RESULT_PUSH, Capability.FUSED_SETTLE, Capability.CONTROL}
    assert {one for one in known if known.has(one)} == there


@given(st.text(min_size=1))
def test_names_of_workers_are_identifiers_and_stay_different(name: str) -> None:
    made = worker_id(name)
    assert is_valid_identifier(made)
    assert worker_id(f"{name}.") != made
