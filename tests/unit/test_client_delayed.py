"""What a link remembers of the delayed tasks that were submitted through it."""

from __future__ import annotations

import time
from typing import Any

from tranship.client import _delayed
from tranship.client._delayed import Delayed
from tranship.envelope import Envelope


def delayed(task_id: str, seconds: float = 60, key: str | None = None, **fields: Any) -> Envelope:
    return Envelope(id=task_id, task="t", not_before=time.time() + seconds, cancel_key=key, **fields)


def test_only_what_is_delayed_and_has_a_result_is_remembered() -> None:
    known = Delayed()
    known.submitted(delayed("a"))
    known.submitted(delayed("b", store_result=False))
    known.submitted(Envelope(id="c", task="t"))
    known.submitted(delayed("d", -1))
    assert [known.is_waiting(one) for one in "abcd"] == [True, False, False, False]


def test_a_cancel_ends_what_is_due_while_it_is_remembered() -> None:
    known = Delayed()
    for one in (delayed("soon", 0.5, "k"), delayed("later", 60, "k"), delayed("last", 900, "k"), delayed("other", 60)):
        known.submitted(one)
    until = time.time() + 600
    assert known.take_cancelled("key", ["k"], until) == ["later"]
    assert known.take_cancelled("key", ["k"], until) == []
    assert known.take_cancelled("id", ["other", "nobody"], until) == ["other"]
    assert known.is_waiting("last"), "its cancel is forgotten before it is due, so it runs"


def test_it_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(_delayed, "KEPT", 10)
    known = Delayed()
    for number in range(25):
        known.submitted(delayed(str(number)))
    assert [number for number in range(25) if known.is_waiting(str(number))] == list(range(15, 25))
