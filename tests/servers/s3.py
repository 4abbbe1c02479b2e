"""An S3 that runs, by HTTP, one per pytest process: fixtures to import in a conftest."""

from __future__ import annotations

import secrets
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from tranship.testing.services import Launch, Place, ProcessService, Recipe, Service


def ready(place: Place) -> bool:
    with urllib.request.urlopen(f"http://{place.host}:{place.port}/moto-api/", timeout=2) as answer:
        return bool(answer.status == 200)


@pytest.fixture(scope="session")
def s3_service() -> Iterator[Service]:
    """The server."""
    recipe = Recipe(
        name="moto",
        binaries=[sys.executable],
        url=lambda place: f"http://{place.host}:{place.port}",
        launch=lambda binary, place: Launch(
            command=[binary, "-m", "moto.server", "-H", place.host, "-p", str(place.port)]
        ),
        ready=ready,
        start_timeout=60,
    )
    with ProcessService(recipe) as service:
        yield service


def call(url: str, method: str, body: bytes = b"") -> None:
    urllib.request.urlopen(
        urllib.request.Request(url, data=body, method=method, headers={"Content-Type": "text/plain"}), timeout=20
    ).close()


@pytest.fixture
def s3_bucket(s3_service: Service) -> str:
    """A new bucket's name."""
    name = f"bucket-{secrets.token_hex(4)}"
    call(f"{s3_service.url}/{name}", "PUT")
    return name


@pytest.fixture
def s3_denies(s3_service: Service) -> Iterator[None]:
    """From now on it knows nobody."""
    call(f"{s3_service.url}/moto-api/reset-auth", "POST", b"0")
    yield
    call(f"{s3_service.url}/moto-api/reset-auth", "POST", b"inf")
