"""An operator on plain Celery over RabbitMQ, which answers over ``rpc://``: Celery's reply queues."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from field import CeleryOperator
from operators import need_plugin
from sides import KINDS, VIDEO, Side, side_of

from tranship.compat.sandai import TaskExecutionError, TaskTimeoutError

pytestmark = pytest.mark.usefixtures("no_links_left")


@pytest.fixture(scope="module")
def url(tranship_service) -> str:
    need_plugin("rabbitmq")
    return tranship_service("rabbitmq").url


@pytest.fixture(scope="module")
def _operator(url, tmp_path_factory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("rabbit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTEROP_LOG", str(folder / "runs"))
        with CeleryOperator(url, folder, result_backend="rpc://", name="rabbit"):
            yield


@pytest.fixture(params=KINDS)
def side(request, url, _operator) -> Iterator[Side]:
    with side_of(request.param, broker_url=url, result_backend="rpc://", timeout=20) as side:
        yield side


def test_every_way_of_asking(side):
    client = side.client("rabbit", "v1")
    artifacts, results = side(client.sync([VIDEO], {"clip_duration": 10}))
    assert artifacts == [VIDEO]
    assert (results["payload"]["options"], results["queue"]) == ({"clip_duration": 10}, "normal.rabbit.v1")
    assert side.desc(client)["doc"] == "rabbit v1"
    handle = side(client.async_call([], {}, "high"))
    assert side(handle.get(timeout=10))["results"]["queue"] == "high.rabbit.v1"
    assert side(client.probe()).response_ok
    assert side(client.ping()) is True


def test_batches_beside_single_calls(side):
    # With the package a batch starves over rpc:// once sync() was used.
    client = side.client("rabbit", "v1")
    side(client.sync([], {}))
    found = side(client.batch_sync_detailed([([], {"n": n}) for n in range(30)], timeout=15))
    assert [one.results["payload"]["options"]["n"] for one in found] == list(range(30))


def test_errors(side):
    client = side.client("rabbit", "v1")
    with pytest.raises(TaskExecutionError, match="no good"):
        side(client.sync([], {"do": "fail"}))
    with pytest.raises(TaskExecutionError) as crashed:
        side(client.sync([], {"do": "crash", "text": "timed out"}))
    assert crashed.value.error_details["exception_type"] == "RuntimeError"
    with pytest.raises(TaskTimeoutError):
        side(side.client("nobody", "v1").sync([], {}, timeout=2))
