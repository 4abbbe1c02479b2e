"""Workers and clients in the words of the SDK, on a broker of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from servers.s3 import s3_bucket, s3_denies, s3_service  # noqa: F401 - fixtures
from tranship import Client

VARIABLES = ("ORCHESTRATOR", "WORKER_", "S3_", "MULTI_ORCHESTRATOR", "TASK_FILES_DIR", "MAX_CONCURRENT", "HEARTBEAT_")


@pytest.fixture(autouse=True)
def _own_worker_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(VARIABLES)]:
        monkeypatch.delenv(name)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path) -> str:
    """A broker, which the worker's variable names."""
    made = f"memory://avtomatika-{secrets.token_hex(4)}"
    monkeypatch.setenv("ORCHESTRATOR_URL", made)
    monkeypatch.setenv("WORKER_PAYLOAD_DIR", str(tmp_path / "payloads"))
    return made


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of that broker."""
    with Client(url) as made:
        yield made
