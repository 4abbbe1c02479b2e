"""A real Redis, a database of it for every test, and Celery beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from interop.celery_client import CeleryClient
from interop.runs import LOG
from tranship.testing.services import Service, ServiceFinder

if TYPE_CHECKING:
    from redis import Redis

MISSING = [name for name in ("celery", "tranship_redis") if find_spec(name) is None]
if MISSING and "redis" in ServiceFinder().required:
    raise pytest.UsageError(f"the tests beside Celery need {' and '.join(MISSING)}, not installed here")
collect_ignore_glob = ["test_*.py"] if MISSING else []


@pytest.fixture(scope="session")
def _redis(tranship_service: Callable[[str], Service]) -> Service:
    return tranship_service("redis")


@pytest.fixture(scope="module")
def url(_redis: Service, _numbers: Iterator[int]) -> str:
    """An empty database that this module has to itself."""
    address = f"{_redis.url.rpartition('/')[0]}/{next(_numbers)}"
    with connect(address) as redis:
        redis.flushdb()
    return address


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    # Pub/sub knows no databases, so that ids must not repeat; Redis has sixteen.
    return itertools.cycle(range(16))


@pytest.fixture
def redis(url: str) -> Iterator[Redis]:
    """A plain connection to the same database."""
    with connect(url) as redis:
        yield redis


def connect(url: str) -> Redis:
    """Return an ordinary client. Imported here: without the plugin it may not be installed."""
    from redis import Redis

    return Redis.from_url(url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the logs of the module's processes."""
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Iterator[Path]:
    """The run log, also of handlers in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG, str(folder / "runs"))
        yield folder / "runs"


@pytest.fixture(scope="module")
def celery(url: str) -> Iterator[CeleryClient]:
    """A Celery client that sends JSON."""
    with CeleryClient(url) as client:
        yield client
