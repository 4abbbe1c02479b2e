"""Other processes that use a backend by URL, and die without warning.

``Child`` starts ``python -m tranship.testing.process ACTION JSON``; the child tells what it does in lines
of JSON and is ended by SIGKILL, at a point of the case's choosing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

from tranship.envelope import Envelope
from tranship.ports import Backend, Settlement, Verdict
from tranship.protocol import Encoder

__all__ = ["Child"]


class Child:
    """A child process and the lines it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, action: str, arguments: Mapping[str, Any], *, quiet: bool = False) -> Self:
        """Start a process for one of the actions of this module; ``quiet``: what it logs is seen by nobody."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            action,
            json.dumps(arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL if quiet else None,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return cls(process)

    async def line(self, *, within: float = 20.0) -> Any:
        """Return the next thing the child says.

        Raises:
            AssertionError: it ended, or said nothing in time.
        """
        said = await self.line_or_end(within=within)
        assert said is not None, "the child process ended without a word; its stderr says why"
        return said

    async def line_or_end(self, *, within: float = 20.0) -> Any:
        """Return the next thing the child says, or None when it has ended.

        A line that was cut by the kill was never said.
        """
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            data = await self._process.stdout.readline()
        return json.loads(data) if data.endswith(b"\n") else None

    async def kill(self) -> None:
        """Kill it (SIGKILL) and wait until it is gone. Idempotent."""
        if self._process.returncode is None:
            self._process.kill()
        # Reads the rest as well: an open pipe would outlive the loop.
        await self._process.wait()

    async def rest(self) -> list[Any]:
        """Return everything the killed child had said and nobody has read."""
        lines = []
        while (line := await self.line_or_end()) is not None:
            lines.append(line)
        return lines


def say(value: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def submit(backend: Backend, queue: str, ids: list[str]) -> None:
    """Submit a message for each id in one batch, say so, and hang."""
    encoder = Encoder()
    messages = [encoder.encode(Envelope(id=one, task="conformance.echo", queue=queue)) for one in ids]
    answers = await backend.submitter().submit(messages)
    say([type(answer).__name__ for answer in answers])
    await asyncio.Event().wait()


async def hold(backend: Backend, queue: str, count: int) -> None:
    """Receive ``count`` messages, say their ids, and hang without settling."""
    consumer = backend.consumer([queue])
    while count > 0:
        received = await consumer.receive(count, 20.0)
        say([_id(delivery.message.headers) for delivery in received.deliveries])
        count -= len(received.deliveries)
    await asyncio.Event().wait()


async def work(backend: Backend, queue: str, limit: int) -> None:
    """Receive, say the ids, acknowledge, for ever."""
    consumer = backend.consumer([queue])
    while True:
        received = await consumer.receive(limit, 5.0)
        say([_id(delivery.message.headers) for delivery in received.deliveries])
        await consumer.settle([Settlement(delivery, Verdict.ACK) for delivery in received.deliveries])


async def cancel(backend: Backend, kind: str, value: str, expires: float) -> None:
    """Store a tombstone, say so, and hang."""
    from tranship.ports import Tombstone

    report = await backend.control().cancel([Tombstone(kind=kind, value=value, expires=expires)])
    say(list(report.removed))
    await asyncio.Event().wait()


async def serve(backend: Backend, queue: str, url: str) -> None:
    """Run a worker that says which tasks it runs, with their arguments; ``kit.twice`` fails at first."""
    from tranship.retry import FixedBackoff, RetryPolicy
    from tranship.task import current, task
    from tranship.worker import Worker

    await backend.aclose()

    @task(name="kit.said", queue=queue)
    async def said(value: Any) -> Any:
        say(value)
        return value

    @task(name="kit.twice", queue=queue, retry=RetryPolicy(max_attempts=2, backoff=FixedBackoff(0.5)))
    async def twice(value: Any) -> Any:
        say([value, current().attempt])
        if not current().attempt:
            raise ConnectionError("once")
        return value

    await Worker(url, tasks=[said, twice], queues=[queue]).serve()


ACTIONS: Final[Mapping[str, Callable[..., Awaitable[None]]]] = {
    "submit": submit,
    "hold": hold,
    "work": work,
    "cancel": cancel,
    "serve": serve,
}


def _id(headers: bytes | Mapping[str, Any]) -> str:
    return str((json.loads(headers) if isinstance(headers, bytes) else headers)["id"])


def _shift(seconds: float) -> None:
    """Have this process' wall clock be wrong by ``seconds``; positive: ahead."""
    right = time.time
    time.time = lambda: right() + seconds


async def _main(action: str, url: str, wrong_by: float = 0.0, **arguments: Any) -> None:
    from tranship.registry import Registry

    _shift(wrong_by)
    if action == "serve":
        arguments["url"] = url
    backend = Registry().create(url)
    await backend.open()
    try:
        await ACTIONS[action](backend, **arguments)
    finally:
        await backend.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], **json.loads(sys.argv[2])))
