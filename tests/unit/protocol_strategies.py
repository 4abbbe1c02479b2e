"""Envelopes of every kind, for properties of the protocol."""

from hypothesis import strategies as st

from tranship.envelope import Envelope, Priority
from tranship.retry import ExponentialBackoff, FixedBackoff, RetryPolicy

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
SECONDS = st.none() | st.floats(min_value=0.5, max_value=1e6) | st.integers(min_value=1, max_value=10**6)
EPOCHS = st.none() | st.floats(min_value=0, max_value=4e9)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
RETRIES = st.none() | st.builds(
    RetryPolicy,
    max_attempts=st.integers(min_value=1, max_value=9),
    backoff=st.sampled_from([ExponentialBackoff(), FixedBackoff(2.0)]),
    retry_on=st.sampled_from([(), ("builtins.OSError",)]),
)

PLAIN = st.builds(
    Envelope,
    id=NAMES,
    task=NAMES,
    args=st.lists(JSON, max_size=3),
    kwargs=st.dictionaries(NAMES, JSON, max_size=3),
    queue=st.just("q"),
    priority=st.sampled_from(Priority),
    run_timeout=SECONDS,
    persistent_output=st.booleans(),
    retry=RETRIES,
    store_result=st.none() | st.booleans(),
    result_ttl=SECONDS,
    content_type=st.just("application/json"),
)
"""Those that the encoder's templates serve."""

ENVELOPES = st.builds(
    Envelope,
    id=NAMES,
    task=NAMES,
    args=st.lists(JSON, max_size=3),
    kwargs=st.dictionaries(NAMES, JSON, max_size=3),
    queue=st.just("q"),
    priority=st.sampled_from(Priority),
    deadline=EPOCHS,
    run_timeout=SECONDS,
    cancel_key=st.none() | NAMES,
    persistent_output=st.booleans(),
    not_before=EPOCHS,
    dedup_key=st.none() | NAMES,
    dedup_window=SECONDS,
    retry=RETRIES,
    attempt=st.integers(min_value=0, max_value=99),
    store_result=st.none() | st.booleans(),
    result_ttl=SECONDS,
    headers=st.dictionaries(st.sampled_from(["traceparent", "x-tenant", "Ключ"]), JSON, max_size=2),
    reply_to=st.none() | NAMES,
    group_id=st.none() | NAMES,
    parent_id=st.none() | NAMES,
    root_id=st.none() | NAMES,
    content_type=st.just("application/json"),
)
