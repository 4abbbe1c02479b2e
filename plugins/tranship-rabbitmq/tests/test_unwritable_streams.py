"""Streams that cannot be made: tasks come and go all the same, and their queues are listed once they can."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from rabbitmq_kit import control_beside

from tranship.envelope import Receipt
from tranship.ports import Backend, ConnectionEvent
from tranship.testing.context import CaseContext
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(120)

_RENAME = "P = whereis({}), unregister({}), register({}, P)."
_COORDINATOR, _HIDDEN = "rabbit_stream_coordinator", "hidden_stream_coordinator"
_SILENT = f"sys:suspend({_COORDINATOR})."
_TALKING = f"sys:resume({_COORDINATOR})."
_GONE = _RENAME.format(_COORDINATOR, _COORDINATOR, _HIDDEN)
_BACK = _RENAME.format(_HIDDEN, _HIDDEN, _COORDINATOR)
"""What makes streams. Without it the server ends the connection (541); with one that says nothing it hangs."""


@pytest.fixture(params=["gone", "silent"])
async def mend(
    request: pytest.FixtureRequest, rabbitmq_service: Service, lab: CaseContext
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Keep the server from making streams; the value lets it."""
    harm, cure = {"gone": (_GONE, _BACK), "silent": (_SILENT, _TALKING)}[request.param]
    control = control_beside(rabbitmq_service)
    cures = [cure]

    async def mended() -> None:
        if cures:
            await control("eval", cures.pop())

    await control("eval", harm)
    try:
        yield mended
    finally:
        await mended()


async def test_tasks_go_on_without_streams_and_are_listed_with_them(
    lab: CaseContext, mend: Callable[[], Awaitable[None]]
) -> None:
    """The first submit waits for one attempt, no other for any; no connection is lost over it; nothing is forgotten."""
    backend, lost = await lab.open(), []
    backend.on_event(lambda event, _: lost.append(event) if event is ConnectionEvent.LOST else None)
    assert await seconds_to_submit(lab, backend, "first") < 4
    assert await seconds_to_submit(lab, backend, "second") < 1
    ids = await lab.submit(backend, lab.message(queue="third"))
    assert await lab.drain(backend.consumer(["third"]), 1) == ids
    assert not lost
    await mend()
    inspector = (await lab.open()).inspector()

    async def listed() -> bool:
        return {info.name for info in await inspector.queues()} == {"first", "second"}

    # Asking for them makes the stream if nobody has yet; who submitted writes into it by himself.
    await lab.eventually(listed, "both queues are listed")


async def seconds_to_submit(lab: CaseContext, backend: Backend, queue: str) -> float:
    """Submit one message, which has to be accepted, and say how long that took."""
    started = time.monotonic()
    (answer,) = await backend.submitter().submit([lab.message(queue=queue)])
    assert isinstance(answer, Receipt), answer
    return time.monotonic() - started
