"""What tests of servers of all kinds have in common."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tranship.driver import DriverBackend
from tranship.envelope import Envelope, new_id
from tranship.protocol import Encoder, Message
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext
from tranship.testing.service_harness import ServiceHarness
from tranship.testing.services import Service
from tranship_nats._backend import Connected

__all__ = ["Authority", "connected", "make", "message", "opened", "url_of", "variant_lab"]


def url_of(service: Service, user: str = "", *, scheme: str = "nats", **options: Any) -> str:
    """Return a URL of ``service`` for ``user`` (``name:password``), with options."""
    place = BrokerURL.parse(service.url)
    login = f"{user}@" if user else ""
    return BrokerURL.parse(f"{scheme}://{login}{place.host}:{place.port}").with_options(**options).reveal()


def make(url: str) -> DriverBackend:
    """Return a backend that is not opened."""
    backend = Registry().create(url, shared=lambda _key, make: make())
    assert isinstance(backend, DriverBackend)
    return backend


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DriverBackend]:
    """Open a backend, and close it."""
    backend = make(url)
    try:
        await backend.open()
        yield backend
    finally:
        await backend.aclose()


def connected(backend: object) -> Connected:
    """Return what a backend that is open works over now."""
    assert isinstance(backend, DriverBackend)
    found = backend._supervisor.current
    assert isinstance(found, Connected)
    return found


def message(queue: str, **envelope: Any) -> Message:
    """Return a message for ``queue``."""
    return Encoder("kit").encode(Envelope(**{"id": new_id(), "task": "kit.echo", "queue": queue, **envelope}))


def variant_lab(service: Service, name: str = "variant", **options: Any) -> CaseContext:
    """Return a lab on a server of another kind."""
    return CaseContext(ServiceHarness(service, options=options), name)


def _openssl(*arguments: str, directory: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


class Authority:
    """A certificate authority of one's own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.crt"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            directory=directory,
        )

    def issue(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, and its key; with negative days it has expired."""
        extensions = self.directory / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
            directory=self.directory,
        )
        _openssl(
            *("x509", "-req", "-days", str(days), "-in", f"{name}.csr", "-out", f"{name}.crt", "-CAcreateserial"),
            *("-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key", "-extfile", extensions.name),
            directory=self.directory,
        )
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"
