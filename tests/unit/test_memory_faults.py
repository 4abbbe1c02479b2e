"""Faults by URL: everything of it goes wrong as often as was asked for, and nothing is lost or run twice."""

from __future__ import annotations

from collections import Counter

import pytest

from tranship import Client, RetryPolicy, Worker, task
from tranship.backends.memory import make_backend
from tranship.errors import BrokerUnreachable, InvalidOptionError, SubmitTimeout
from tranship.protocol import Encoder
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.background import BackgroundWorker
from tranship.testing.harness import Harness

RUNS: Counter[int] = Counter()


@task(retry=RetryPolicy(max_attempts=1))
def square(number: int) -> int:
    RUNS[number] += 1
    return number * number


@pytest.mark.parametrize(
    "fail",
    ["submit:5", "submit-unknown:5", "receive:3", "settle:4", "settle-unknown:4", "submit:0.3,settle:.3,receive:.2"],
)
def test_what_goes_wrong_is_done_once_all_the_same(fail, tranship_url):
    RUNS.clear()
    url = f"{tranship_url}?fail={fail}&seed=7"
    with BackgroundWorker(Worker(url, tasks=[square])), Client(url) as client:
        handles = client.submit_many(square.call(number) for number in range(20))
        assert [handle.result(timeout=20) for handle in handles] == [number * number for number in range(20)]
    assert dict.fromkeys(range(20), 1) == RUNS


async def outcomes(seed: str) -> list[bool]:
    """Which of twenty submits fail, at a broker of their own."""
    url = BrokerURL.parse(f"memory://?fail=submit:0.5&seed={seed}")
    backend = make_backend(BackendConfig(url, Harness("memory://").shared))
    await backend.open()
    messages = [Encoder().encode(square.envelope((number,), {}, now=0.0)) for number in range(20)]
    answers = await backend.submitter().submit(messages)
    await backend.aclose()
    return [isinstance(answer, BrokerUnreachable) for answer in answers]


async def test_the_same_seed_fails_the_same_submits():
    first, again, other = [await outcomes(seed) for seed in "337"]
    assert first == again != other
    assert 0 < sum(first) < 20


def test_a_submit_that_never_works_is_given_up(tranship_url):
    with (
        Client(f"{tranship_url}?fail=submit:1000000", submit_timeout=0.2) as client,
        pytest.raises(SubmitTimeout, match="was not submitted"),
    ):
        client.submit(square, 1)


@pytest.mark.parametrize("fail", ["submit", "submit:2.5", "submit:-1", "sbmit:1", "receive:1%", "settle:1.0"])
def test_a_mistake_names_what_is_expected(fail):
    with pytest.raises(InvalidOptionError, match=r"fail is .*expected parts such as submit:0\.1"):
        make_backend(BackendConfig(BrokerURL.parse(f"memory://x?fail={fail}"), Harness("memory://").shared))
