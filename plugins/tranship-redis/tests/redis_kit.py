"""Tools of the tests that look past the backend: raw commands, variants of the server, texts of errors."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship.ports import Backend, Consumer, Delivery, Settled, Settlement
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext
from tranship.testing.harness import Harness
from tranship.testing.services import Place, Service, ask_redis

Call = Callable[[], Awaitable[Any]]

NORMAL = b"\x06\x163"
"""Behind a queue's name: its list of the level *normal*."""


class Raw:
    """Raw commands to the server of a service, on a connection each."""

    def __init__(self, service: Service, **credentials: Any) -> None:
        url = BrokerURL.parse(service.url)
        self.place = Place(port=url.port or 6379, directory=Path(), host=url.host)
        self.address = f"{self.place.host}:{self.place.port}"
        self._credentials = credentials

    def __call__(self, *words: str | bytes) -> Any:
        """Return the reply; errors are raised."""
        return ask_redis(self.place, *words, **self._credentials)

    def hash(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        flat = self("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def names(self) -> list[bytes]:
        """The names of all keys of database 0."""
        return sorted(self("KEYS", "*"))


def need_rights_of_subcommands(raw: Raw, command: str) -> None:
    """Skip the test where ``command`` is a subcommand that the server cannot take away by itself: Redis 6.2."""
    (version,) = re.findall(rb"^redis_version:(\d+)", raw("INFO", "server"), re.MULTILINE)
    if "|" in command and int(version) < 7:
        pytest.skip(f"this server has no right for {command!r} alone; Redis has from 7.0 on")


def said(error: BaseException) -> str:
    """Everything that can be read of an error: its text, and the traceback with all causes."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Backend]:
    """An open backend by URL."""
    backend = Registry().create(url)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.aclose()


async def refusal(url: str, kind: type[BaseException]) -> BaseException:
    """Insist that opening ``url`` raises ``kind``; return the error."""
    try:
        async with opened(url):
            pass
    except kind as error:
        return error
    raise AssertionError(f"{BrokerURL.parse(url)} was opened")


def list_of(context: CaseContext, queue: str = "q") -> bytes:
    """The name of the queue's normal list in the context's namespace."""
    return f"{context.namespace}:{queue}".encode() + NORMAL


def ours(context: CaseContext, name: str) -> str:
    """One of our keys, or of Celery's, in the context's namespace."""
    return f"{context.namespace}:{name}"


def element(context: CaseContext, **message: Any) -> dict[str, Any]:
    """A complete list element as Celery would push it, with a task of the context's in it."""
    fields = {"id": f"id-{len(message)}", "task": "conformance.echo", "queue": "q", **message}
    encoded = context.message(**fields)
    return {
        "body": base64.b64encode(encoded.body).decode(),
        "content-encoding": encoded.content_encoding,
        "content-type": encoded.content_type,
        "headers": json.loads(encoded.headers),
        "properties": {
            "correlation_id": encoded.envelope.id,
            "reply_to": "nobody",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": fields["queue"]},
            "priority": 3,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{encoded.envelope.id}",
        },
    }


def lab_of(url: str) -> CaseContext:
    """A context on a server that only this test uses, or as a user that only it knows."""
    return CaseContext(Harness(url), uuid.uuid4().hex[:8])


async def until_raised(call: Call, kind: type[BaseException]) -> BaseException:
    """Call until it raises ``kind``, and return the error."""
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        try:
            await asyncio.wait_for(call(), 10.0)
        except kind as error:
            return error
        except TranshipError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError(f"{kind.__name__} was not raised")


async def until_works(call: Call) -> Any:
    """Call until the broker is reachable and lets us, and return the answer."""
    end = time.monotonic() + 20.0
    while True:
        try:
            return await asyncio.wait_for(call(), 10.0)
        except (BrokerUnreachable, BrokerRefused):
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.02)


async def until_received(consumer: Consumer) -> list[Delivery]:
    """Receive until something comes."""

    async def received() -> list[Delivery]:
        if deliveries := (await consumer.receive(1, 5.0)).deliveries:
            return list(deliveries)
        raise BrokerUnreachable("nothing yet")

    return await until_works(received)


async def settled(consumer: Consumer, settlements: Sequence[Settlement]) -> list[Settled]:
    """Carry out settlements; the first that fails is raised."""
    answers = []
    for one in await consumer.settle(settlements):
        if not isinstance(one, Settled):
            raise one
        answers.append(one)
    return answers
