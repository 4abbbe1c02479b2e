"""What the tests of the SDK's shape share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tranship import Client, TaskResult, named

T = TypeVar("T")


def ask(client: Client, skill: str, params: Any = None, **options: Any) -> Any:
    """Submit a task by its name, as the guide says; return the handle."""
    return client.submit(named(skill, queue=skill, **options), *([] if params is None else [params]))


def answer(client: Client, skill: str, params: Any = None, **options: Any) -> TaskResult:
    return ask(client, skill, params, **options).wait(timeout=20)


def until(look: Callable[[], T], within: float = 30.0) -> T:
    """Return the first of what ``look`` returns that is true."""
    give_up = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.01)
    return found
