"""What a middleware that is around everybody's messages promises."""

from __future__ import annotations

import uuid

import pytest

from tranship.errors import TaskFailed
from tranship.middleware import Middleware
from tranship.sync import Client
from tranship.task import task
from tranship.testing.background import BackgroundWorker
from tranship.worker import Worker

__all__ = ["MiddlewareSuite"]


@task(name="kit.plugin-echo", queue="kit")
def echo(value: object) -> object:
    """Return what it is given."""
    return value


@task(name="kit.plugin-fail", queue="kit")
def fail() -> None:
    """Fail."""
    raise LookupError("the handler's own")


class MiddlewareSuite:
    """Fixture: ``middleware``, an object as the plugin's factory makes it."""

    def test_what_it_is_not_about_passes(self, middleware: Middleware) -> None:
        """A task through client and worker: its value, its id, and a batch; then a failure that stays one."""
        url = f"memory://plugin-{uuid.uuid4().hex}"
        worker = Worker(url, tasks=[echo, fail], middleware=[middleware], result_url=url)
        with BackgroundWorker(worker), Client(url, middleware=[middleware], result_url=url) as client:
            handle = client.submit(echo, {"a": [1, None]})
            assert handle.result(timeout=20) == {"a": [1, None]}
            many = client.submit_many(echo.call(number) for number in range(20))
            assert [one.result(timeout=20) for one in many] == list(range(20))
            with pytest.raises(TaskFailed, match="the handler's own"):
                client.submit(fail).result(timeout=20)
