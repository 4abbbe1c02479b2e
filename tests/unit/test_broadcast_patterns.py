"""Whom a broadcast's pattern means: fnmatch's language, in bounded time, and no regular expression."""

from __future__ import annotations

import fnmatch
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.protocol._glob import LONGEST, matches
from tranship.protocol.broadcast import MOST_REVOKED, Broadcast, read_broadcast, revoked_ids

HOSTILE = "(((.+)+)+)+!"


def asked(pattern: str, matcher: str = "glob", destination: list[str] | None = None) -> Broadcast:
    body = {"method": "ping", "pattern": pattern, "matcher": matcher, "destination": destination}
    return read_broadcast({}, json.dumps(body).encode(), "application/json", None)


@given(
    st.text("abA*?", max_size=8) | st.sampled_from(["[ab]*", "[!a]b", "[a-c]", "[]a]", "[!]]", "[", "[a", "a[b]c*?"]),
    st.text("abAc]", max_size=8),
)
def test_globs_mean_what_fnmatch_says(pattern: str, name: str) -> None:
    assert matches(name, pattern) is fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize("pattern", ["*a" * 128, "*" + "a" * 254 + "b", "*" + "?" * 127 + "b", "*[!b]" * 51])
def test_a_glob_costs_a_step_for_each_pair_of_characters(pattern: str) -> None:
    began = time.process_time()
    matches("a" * 255, pattern)
    # 65,000 steps at most: a hundredth of a second, and no power of anything.
    assert time.process_time() - began < 0.5


def test_no_regular_expression_of_a_stranger_is_run() -> None:
    found = asked(HOSTILE, "pcre")
    began = time.process_time()
    assert not found.is_for("worker@" + "a" * 200)
    assert time.process_time() - began < 0.1
    assert "pcre" in str(found.refusal)


def test_a_pattern_of_megabytes_is_for_nobody() -> None:
    assert asked("*" * LONGEST).is_for("w@h")
    found = asked("*" * (LONGEST + 1))
    assert not found.is_for("w@h")
    assert str(LONGEST) in str(found.refusal)


def test_destinations_go_before_patterns() -> None:
    found = asked(HOSTILE, "pcre", ["w@h"])
    assert found.is_for("w@h")
    assert found.refusal is None


def test_a_broadcast_revokes_no_more_than_celery_remembers() -> None:
    """And nothing that no task can be called: a tombstone of it could not be stored."""
    ids = [f"id-{number}" for number in range(2 * MOST_REVOKED)]
    assert revoked_ids(ids) == ids[:MOST_REVOKED]
    assert revoked_ids(["a", "", "\ud800", "x" * 1025, 7, "a", "b"]) == ["a", "b"]
