"""The brokers that are soaked, by URL."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.conftest import need_plugin, tell
from tranship.testing.services import Service

__all__ = ["tell"]

LEASE = 5.0
"""Seconds: short, for what died comes back after it, and longer than a busy machine lets a worker wait."""


@pytest.fixture
def seed() -> int:
    """What the order of kinds and the moments of kills follow from."""
    return int(os.environ.get("TRANSHIP_TEST_SOAK_SEED") or secrets.randbelow(10**9))


@pytest.fixture
def amount() -> int:
    """How many tasks; the nox session ``soak`` says it."""
    return int(os.environ.get("TRANSHIP_TEST_SOAK") or 2000)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An embedded broker that processes share."""
    return f"sqlite:///{tmp_path / 'soak.db'}?lease={LEASE:g}"


@pytest.fixture(params=["redis", "nats", "sqlite"])
def url(request: pytest.FixtureRequest, sqlite_url: str, tranship_service: Callable[[str], Service]) -> str:
    """A broker, or a part of one, that this test has to itself."""
    if request.param == "sqlite":
        return sqlite_url
    need_plugin(request.param)
    url = tranship_service(request.param).url
    return f"{url}{'&' if '?' in url else '?'}lease={LEASE:g}&namespace=soak-{secrets.token_hex(6)}"
