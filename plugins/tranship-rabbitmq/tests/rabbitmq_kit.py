"""What tests of servers of all kinds have in common."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tranship.envelope import Envelope, Receipt, new_id
from tranship.errors import TranshipError
from tranship.ports import Backend, Settlement, Verdict
from tranship.protocol import Encoder, Message
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext, ids_of
from tranship.testing.services import Service, rabbitmqctl
from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.connection import Place, dial

__all__ = [
    "WITHIN",
    "Authority",
    "control_beside",
    "control_of",
    "message",
    "opened",
    "raw",
    "refusal",
    "until",
    "url_of",
    "works",
]

WITHIN = 30.0


def url_of(
    service: Service, user: str = "guest:guest", *, scheme: str = "amqp", vhost: str = "/", **options: Any
) -> str:
    """Return a URL of ``service`` for ``user`` (``name:password``), with options."""
    place = BrokerURL.parse(service.url)
    bare = BrokerURL.parse(f"{scheme}://{user}@{place.host}:{place.port}/{vhost}")
    return bare.with_options(**options).reveal()


def control_of(service: Service) -> Callable[..., str]:
    """Return ``rabbitmqctl`` for a node that is ours."""
    if not service.controllable:
        pytest.skip("the RabbitMQ that was given by URL is somebody else's")
    return lambda *words: rabbitmqctl(service.place, *words)


def control_beside(service: Service) -> Callable[..., Awaitable[str]]:
    """Return ``rabbitmqctl`` for a node that is ours, for who has connections on the running loop.

    It takes seconds on a busy machine: a loop that it blocked for so long would miss its heartbeats.
    """
    control = control_of(service)

    async def beside(*words: str) -> str:
        return await asyncio.to_thread(control, *words)

    return beside


def message(queue: str = "q", **envelope: Any) -> Message:
    """Return a message for ``queue``."""
    return Encoder("kit").encode(Envelope(**{"id": new_id(), "task": "kit.echo", "queue": queue, **envelope}))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Backend]:
    """Open a backend, and close it."""
    backend = Registry().create(url)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.aclose()


@contextlib.asynccontextmanager
async def raw(lab: CaseContext) -> AsyncIterator[Channel]:
    """A channel of our own, past the backend."""
    url = BrokerURL.parse(lab.url())
    connection = await dial(Place(url.host, url.port or 5672, url.database or "/", "guest", "guest", 10, "raw"))
    try:
        yield await connection.wire.channel()
    finally:
        await connection.aclose()


async def refusal(url: str) -> TranshipError:
    """Insist that ``url`` cannot be opened, and return why."""
    with pytest.raises(TranshipError) as caught:
        async with asyncio.timeout(20), opened(url):
            pass
    return caught.value


async def works(backend: Backend) -> bool:
    """Send a message through the backend and back; False: not at the moment."""
    one = message()
    try:
        if await backend.submitter().submit([one]) != [Receipt(one.envelope.id)]:
            return False
        consumer = backend.consumer(["q"])
        deliveries = (await consumer.receive(100, 5.0)).deliveries
        await consumer.settle([Settlement(delivery, Verdict.ACK) for delivery in deliveries])
        await consumer.aclose()
    except TranshipError as error:
        if not error.retryable:
            # A worker would give up for good.
            raise
        return False
    return one.envelope.id in ids_of(deliveries)


async def until(work: Callable[[], Awaitable[Any]], *passing: type[Exception]) -> Any:
    """Try until it works."""
    end = time.monotonic() + WITHIN
    while True:
        try:
            if found := await work():
                return found
        except passing:
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "not in time"
        await asyncio.sleep(0.1)


class Authority:
    """A certificate authority of one's own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.crt"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
            # From 3.13 on, Python checks certificates by the letter of RFC 5280.
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(self, name: str, *, subject: str = "IP:127.0.0.1", days: int = 2) -> tuple[Path, Path]:
        """A certificate for a host or address, and its key; with negative days it has expired."""
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={subject}\nauthorityKeyIdentifier=keyid\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-days", str(days), "-in", f"{name}.csr", "-out", f"{name}.crt", "-CAcreateserial"),
            *("-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key", "-extfile", f"{name}.ext"),
        )
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True, timeout=60)
