"""The retry policy: pure, so it is tested for all values."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.errors import InvalidOptionError, Retry, TaskError
from tranship.retry import ExponentialBackoff, FixedBackoff, LinearBackoff, RetryPolicy, exception_names

JITTERS = st.sampled_from(["none", "full", "equal", "around", True, False])
DELAYS = st.floats(min_value=0.001, max_value=1e6)
BACKOFFS = st.one_of(
    st.builds(
        ExponentialBackoff,
        initial=DELAYS,
        multiplier=st.floats(min_value=1.0, max_value=100.0),
        max_delay=DELAYS,
        jitter=JITTERS,
    ),
    st.builds(LinearBackoff, initial=DELAYS, increment=DELAYS, max_delay=st.none() | DELAYS, jitter=JITTERS),
    st.builds(FixedBackoff, delay=DELAYS, jitter=JITTERS),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(min_value=1, max_value=100),
    backoff=BACKOFFS,
    retry_on=st.lists(st.sampled_from([ValueError, OSError, "a.b.Error", "TimeoutError"])),
    stop_on_codes=st.lists(st.text(min_size=1)),
    retry_on_types=st.lists(st.text(min_size=1)),
)
FRACTIONS = st.floats(min_value=0.0, max_value=1.0)
FAILURE = {"names": exception_names(ValueError), "code": "X", "retryable": True}


class QuotaError(ConnectionResetError):
    pass


@given(policy=POLICIES)
def test_a_policy_comes_back_from_its_json(policy):
    assert RetryPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@given(backoff=BACKOFFS, attempt=st.integers(min_value=0, max_value=100_000), fraction=FRACTIONS)
def test_delays_stay_within_their_bounds(backoff, attempt, fraction):
    whole = replace(backoff, jitter="none").seconds(attempt)
    delay = backoff.seconds(attempt, lambda: fraction)
    low = {"none": whole, "equal": whole / 2, "full": 0.0, "around": whole * 0.75}[backoff.jitter]
    more = 1.25 if backoff.jitter == "around" else 1
    assert low <= delay <= whole * more
    if getattr(backoff, "max_delay", None) is not None:
        assert delay <= backoff.max_delay * more


@given(backoff=BACKOFFS, attempt=st.integers(min_value=0, max_value=1000))
def test_delays_never_shrink(backoff, attempt):
    plain = replace(backoff, jitter="none")
    assert plain.seconds(attempt) <= plain.seconds(attempt + 1)


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (ExponentialBackoff(initial=1, multiplier=3, max_delay=10, jitter="none"), [1, 3, 9, 10, None]),
        (LinearBackoff(initial=1, increment=2), [1, 3, 5, 7, None]),
        (LinearBackoff(initial=1, increment=2, max_delay=4), [1, 3, 4, 4, None]),
        (FixedBackoff(2.5), [2.5, 2.5, 2.5, 2.5, None]),
    ],
)
def test_every_backoff_is_honoured_over_the_wire_and_to_the_last_attempt(backoff, delays):
    policy = RetryPolicy.from_dict(json.loads(json.dumps(RetryPolicy(max_attempts=5, backoff=backoff).to_dict())))
    assert [policy.decide(attempt, **FAILURE) for attempt in range(5)] == delays


def test_jitter_spreads_the_delay():
    half = {"random": lambda: 0.5}
    assert FixedBackoff(8, jitter="full").seconds(0, **half) == 4
    assert FixedBackoff(8, jitter="equal").seconds(0, **half) == 6
    assert FixedBackoff(8, jitter=True) == FixedBackoff(8, jitter="full")
    assert FixedBackoff(8, jitter=False) == FixedBackoff(8, jitter="none")


@given(policy=POLICIES, attempt=st.integers(min_value=0, max_value=200))
def test_no_more_than_max_attempts(policy, attempt):
    decision = policy.decide(attempt, **FAILURE)
    if attempt + 1 >= policy.max_attempts:
        assert decision is None


def test_one_attempt_means_never_again():
    assert RetryPolicy(max_attempts=1).decide(0, **FAILURE) is None


def test_retry_on_matches_the_class_and_its_bases_by_name():
    policy = RetryPolicy(retry_on=[ConnectionError, "some.library.Timeout"])
    assert policy.retry_on == ("builtins.ConnectionError", "some.library.Timeout")
    assert _again(policy, exception_names(QuotaError("slow down")))
    assert _again(policy, ["some.library.Timeout", "builtins.Exception"])
    assert not _again(policy, exception_names(ValueError))


def test_exception_names_are_the_qualified_names_nearest_first():
    names = exception_names(QuotaError())
    assert names[0] == f"{__name__}.QuotaError"
    assert names[1:3] == ("builtins.ConnectionResetError", "builtins.ConnectionError")
    assert names[-2:] == ("builtins.BaseException", "QuotaError")
    assert exception_names(QuotaError) == names


def test_retry_on_types_matches_what_a_failure_calls_itself():
    policy = RetryPolicy(retry_on=[TimeoutError], retry_on_types=["QuotaError", "ServiceUnavailable"])
    assert _again(policy, exception_names(QuotaError()))
    assert _again(policy, exception_names(TaskError("down", error_type="ServiceUnavailable")))
    assert _again(policy, exception_names(TimeoutError()))
    assert not _again(policy, exception_names(TaskError("down")))
    assert not _again(policy, exception_names(ConnectionResetError()))
    with pytest.raises(InvalidOptionError, match="retry_on_types is ''"):
        RetryPolicy(retry_on_types=[""])


def test_an_explicit_retry_counts_whatever_retry_on_says():
    assert _again(RetryPolicy(retry_on=[OSError]), exception_names(Retry(5)))


def test_stop_on_codes_wins():
    policy = RetryPolicy(retry_on=[TaskError], stop_on_codes=["BAD_INPUT"])
    names = exception_names(TaskError)
    assert policy.decide(0, names=names, code="BAD_INPUT", retryable=True) is None
    assert policy.decide(0, names=names, code="OTHER", retryable=True) is not None


def test_a_failure_that_is_not_retryable_stops():
    error = TaskError("no", retryable=False)
    decision = RetryPolicy().decide(0, names=exception_names(error), code=error.code, retryable=error.retryable)
    assert decision is None


def test_a_requested_delay_is_a_lower_bound():
    policy = RetryPolicy(backoff=FixedBackoff(10))
    assert policy.decide(0, **FAILURE, requested_delay=120) == 120
    assert policy.decide(0, **FAILURE, requested_delay=3) == 10
    assert policy.decide(2, **FAILURE, requested_delay=3) is None


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1, 0, "soon", True])
def test_a_nonsensical_requested_delay_is_ignored(nonsense):
    assert RetryPolicy(backoff=FixedBackoff(10)).decide(0, **FAILURE, requested_delay=nonsense) == 10


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RetryPolicy(max_attempts=0), "max_attempts is 0"),
        (lambda: RetryPolicy(max_attempts=True), "max_attempts is True"),
        (lambda: RetryPolicy(max_attempts=2.5), "max_attempts is 2.5"),
        (lambda: RetryPolicy(backoff=3), "backoff is 3"),
        (lambda: RetryPolicy(retry_on="ValueError"), "retry_on is 'ValueError'"),
        (lambda: RetryPolicy(retry_on=["Tiemout"]), "such as 'package.module.Tiemout'"),
        (lambda: RetryPolicy(retry_on=[int]), "retry_on is <class 'int'>"),
        (lambda: RetryPolicy(retry_on=["int"]), "retry_on is 'int'"),
        (lambda: RetryPolicy(stop_on_codes="X"), "stop_on_codes is 'X'"),
        (lambda: RetryPolicy(stop_on_codes=[1]), "stop_on_codes is 1"),
        (lambda: ExponentialBackoff(initial=0), "initial is 0"),
        (lambda: ExponentialBackoff(multiplier=0.5), "multiplier is 0.5"),
        (lambda: ExponentialBackoff(max_delay=float("inf")), "max_delay is inf"),
        (lambda: ExponentialBackoff(jitter="some"), "jitter is 'some'"),
        (lambda: LinearBackoff(initial=-1, increment=1), "initial is -1"),
        (lambda: LinearBackoff(initial=1, increment=float("nan")), "increment is nan"),
        (lambda: FixedBackoff(10**400), "delay is 1000"),
        (lambda: FixedBackoff("1"), "delay is '1'"),
        (lambda: RetryPolicy.from_dict([]), r"retry is \[\]"),
        (lambda: RetryPolicy.from_dict({"backoff": {"kind": "random"}}), "backoff kind is 'random'"),
        (lambda: RetryPolicy.from_dict({"backoff": {"kind": ["x"]}}), r"backoff kind is \['x'\]"),
        (lambda: RetryPolicy.from_dict({"backoff": {}}), "backoff kind is None"),
        (lambda: RetryPolicy.from_dict({"backoff": {"kind": "linear"}}), "the fields of LinearBackoff"),
        (lambda: RetryPolicy.from_dict({"retry_on": None}), "retry_on is None"),
    ],
)
def test_a_bad_value_is_named(make, named):
    with pytest.raises(InvalidOptionError, match=named):
        make()


def test_keys_of_a_newer_peer_are_ignored():
    data = RetryPolicy().to_dict() | {"budget": 7}
    data["backoff"]["shape"] = "round"
    assert RetryPolicy.from_dict(data) == RetryPolicy()
    assert RetryPolicy.from_dict({}) == RetryPolicy()


def _again(policy, names):
    return policy.decide(0, names=names, code="X", retryable=True) is not None
