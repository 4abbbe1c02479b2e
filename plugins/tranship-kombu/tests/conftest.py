"""What every test of this plugin may use: places of each transport that needs no server, and results in memory."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from servers.s3 import s3_service  # noqa: F401 - a fixture: moto plays SQS, too
from tranship.testing.harness import Harness


@pytest.fixture
def memory_harness() -> Harness:
    """kombu's broker in this process."""
    return Harness("kombu+memory://conformance")


@pytest.fixture
def filesystem_harness(tmp_path: Path) -> Harness:
    """A directory of files."""
    harness = Harness(f"kombu+filesystem://{tmp_path}/spool")
    (tmp_path / "file").touch()
    harness.refused_url = f"kombu+filesystem://{tmp_path}/file/below"
    return harness


@pytest.fixture
def sqla_harness(tmp_path: Path) -> Harness:
    """kombu's tables in a file of SQLite."""
    harness = Harness(f"kombu+sqla+sqlite:///{tmp_path}/queues.db")
    harness.refused_url = f"kombu+sqla+sqlite:///{tmp_path}/no/such/directory.db"
    return harness


@pytest.fixture
def unused_tcp_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
