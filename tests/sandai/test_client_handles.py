"""What handles have of Celery's, and that whatever goes wrong with a client is an operator's error."""

from __future__ import annotations

import asyncio

import pytest

from tranship.compat.sandai import (
    OperatorClosedError,
    OperatorError,
    OperatorSetupError,
    TaskTimeoutError,
    create_async_client,
    create_client,
)
from tranship.errors import ClosedError, ConfigurationError


@pytest.fixture
def client():
    with create_client("nobody", "v1", broker_url="memory://sandai-handles") as client:
        yield client


@pytest.mark.parametrize("wait", ["get", "wait"])
def test_a_timeout_is_celerys_too_where_celery_is_imported(client, wait):
    celery = pytest.importorskip("celery.exceptions")
    handle = client.async_call([], {})
    with pytest.raises(celery.TimeoutError) as caught:
        getattr(handle, wait)(timeout=0.02, interval=0.01)
    assert isinstance(caught.value, TaskTimeoutError)
    assert (caught.value.task_id, caught.value.timeout) == (handle.id, 0.02)


def test_a_task_without_an_end_has_neither_info_nor_traceback(client):
    handle = client.async_call([], {})
    assert (handle.info, handle.result, handle.traceback, handle.state) == (None, None, None, "PENDING")


def test_a_failed_task_has_its_error_and_traceback(client):
    handle = client.async_call([], {})
    handle.revoke()
    assert handle.state == "REVOKED"
    assert isinstance(handle.info, OperatorError)


def test_a_closed_client_is_an_operators_error():
    client = create_client("nobody", "v1", broker_url="memory://sandai-closed")
    client.close()
    with pytest.raises(OperatorClosedError) as caught:
        client.async_call([], {})
    assert isinstance(caught.value, ClosedError)

    async def closed():
        client = create_async_client("nobody", "v1", broker_url="memory://sandai-closed")
        await client.aclose()
        await client.async_call([], {})

    with pytest.raises(OperatorClosedError):
        asyncio.run(closed())


def test_a_missing_plugin_is_an_operators_error():
    with (
        create_client("nobody", "v1", broker_url="carrier-pigeon://h") as client,
        pytest.raises(OperatorSetupError, match="carrier-pigeon") as caught,
    ):
        client.async_call([], {})
    assert isinstance(caught.value, ConfigurationError)
