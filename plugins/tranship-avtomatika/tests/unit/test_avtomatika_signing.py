"""Signatures: what the protocol's own library makes of ours, and we of its."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rxon.models import TaskPayload
from rxon.security import sign_payload, verify_signature
from rxon.utils import to_dict

from tranship.errors import EncodeError
from tranship_avtomatika._signing import is_signed, signed

VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(data=VALUES, secret=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_an_orchestrator_believes_what_a_worker_has_signed(data: Any, secret: str) -> None:
    said = orjson.loads(signed({"worker_id": "w", "data": data}, worker="w", secret=secret))
    assert verify_signature(said, said["security"]["signature"], secret)
    assert not verify_signature({**said, "more": 1}, said["security"]["signature"], secret)
    assert said["security"]["signer_id"] == "w"


@given(params=st.dictionaries(st.text(max_size=8), VALUES, max_size=4), depth=st.integers(0, 3))
def test_a_worker_believes_what_an_orchestrator_has_signed(params: Any, depth: int) -> None:
    task = to_dict(TaskPayload(job_id="j", task_id="t", type="resize", params=params, depth=depth, timestamp=7))
    task["sig"] = sign_payload(task, "secret", ignore_fields=["sig", "orchestrator_signature"])
    # What is known of the job is added after that.
    handed_over = orjson.loads(orjson.dumps({**task, "security": {"signer_id": "somebody"}, "skill_version": "1"}))
    assert is_signed(handed_over, "secret")
    assert not is_signed(handed_over, "another")
    assert not is_signed({**handed_over, "type": "delete"}, "secret")
    assert not is_signed({**handed_over, "sig": None}, "secret")


def test_nothing_is_said_twice() -> None:
    first, second = (orjson.loads(signed({"status": "idle"}, worker="w", secret="s")) for _ in range(2))
    assert first["security"]["signature"] != second["security"]["signature"]


def test_without_a_secret_nothing_is_signed() -> None:
    assert "security" not in orjson.loads(signed({}, worker="w", secret=None))


@pytest.mark.parametrize("value", [2**70, 1e300, {"a": 2**64}])
def test_numbers_that_no_orchestrator_reads(value: object) -> None:
    with pytest.raises(EncodeError, match="cannot be told this"):
        signed({"data": value}, worker="w", secret="s")


def test_what_is_nested_too_deep() -> None:
    nested: Any = 1
    for _ in range(40):
        nested = [nested]
    with pytest.raises(EncodeError, match="nested more than 30 levels deep"):
        signed({"data": nested}, worker="w", secret="s")
