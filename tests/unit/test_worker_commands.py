"""What Celery's programs say to a worker, and are shown of it: read, bounded, and never more than is meant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.envelope import ErrorInfo
from tranship.protocol.broadcast import revoked_stamps
from tranship.protocol.events import event_messages
from tranship.worker._commands import rate_of
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._shown import LONGEST, error_text, value_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


class TestRates:
    @pytest.mark.parametrize(
        ("said", "per_second"),
        [("10/s", 10.0), ("30/m", 0.5), ("36/h", 0.01), ("5", 5.0), (2, 2.0), (0.5, 0.5), ("0/m", None)],
    )
    def test_as_celery_writes_them(self, said, per_second) -> None:
        assert rate_of(said) == (None if per_second is None else pytest.approx(per_second))

    @pytest.mark.parametrize("said", [None, "", 0])
    def test_no_limit(self, said) -> None:
        assert rate_of(said) is None

    @pytest.mark.parametrize("said", ["x/s", "1/d", "1/", "-1/s", "inf", "nan", True, [], {"a": 1}, -2])
    def test_what_is_none_is_refused(self, said) -> None:
        with pytest.raises(ValueError, match=r"rate|convert|float"):
            rate_of(said)

    @given(JSON)
    def test_anything_is_a_rate_or_refused(self, said) -> None:
        try:
            rate = rate_of(said)
        except ValueError:
            return
        assert rate is None or 0 < rate < float("inf")


class TestStamps:
    def test_maps_and_lists(self) -> None:
        assert revoked_stamps({"batch": ["a", "b"], "user": 7}) == [("batch", "a"), ("batch", "b"), ("user", "7")]
        assert revoked_stamps(["batch=a", "batch=a=b", "nothing"]) == [("batch", "a"), ("batch", "a=b")]

    @given(JSON)
    def test_anything_is_read(self, found) -> None:
        for name, stamp in revoked_stamps(found):
            f"{name}={stamp}".encode()


class TestEvents:
    def test_those_of_tasks_go_together_and_in_order(self) -> None:
        events = [("worker-online", {}, 1.0), *(("task-started", {"uuid": str(n)}, 2.0) for n in range(150))]
        clock = iter(range(1000))
        messages = list(event_messages("n@h", [*events, ("worker-offline", {}, 3.0)], lambda: next(clock)))
        assert [one.routing_key for one in messages] == ["worker.online", "task.multi", "task.multi", "worker.offline"]
        assert [len(one.body) for one in messages[1:3]] == [100, 50]
        told = [event for one in messages for event in (one.body if isinstance(one.body, list) else [one.body])]
        assert [event["clock"] for event in told] == list(range(152))
        assert {event["hostname"] for event in told} == {"n@h"}
        json.dumps(told)


class Loud:
    def __repr__(self) -> str:
        raise AssertionError("code of users does not run here")


class TestShown:
    def test_values(self) -> None:
        assert value_text({"a": [1, 2.5, None, True, "x"]}) == "{'a': [1, 2.5, None, True, 'x']}"
        assert value_text([Loud()]) == "[<Loud>]"
        assert len(value_text({str(number): "y" * 10_000 for number in range(1000)})) <= LONGEST + 50

    def test_errors(self) -> None:
        assert error_text(ErrorInfo(type="app.errors.OutOfPaper", message="no more")) == "OutOfPaper('no more')"
        apart = ErrorInfo(type="builtins.KeyError", message="('user', 7)", arguments=["user", 7])
        assert error_text(apart) == "KeyError('user', 7)"
        assert len(error_text(ErrorInfo(type="app.Big", message="m" * 10**6))) <= LONGEST + 50


def test_queues_are_added_paused_and_resumed() -> None:
    queues = ConsumedQueues(["a", "b"])
    queues.pause("a")
    queues.add("c")
    assert list(queues.names) == ["b", "c"]
    queues.pause("b")
    assert not queues.none_left
    queues.pause("c")
    assert queues.none_left
    queues.resume("a")
    assert list(queues.names) == ["a"]
