"""A real Redis, and operators on it as they are in the field."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from field import CeleryOperator

from interop.runs import LOG
from tranship.connections import process_table
from tranship.testing.services import Service, ServiceFinder

if find_spec("tranship_redis") is None and "redis" in ServiceFinder().required:
    raise pytest.UsageError("the tests of operator clients need tranship_redis, not installed here")


@pytest.fixture(scope="session")
def field_service(tranship_service: Callable[[str], Service]) -> Service:
    """A Redis that runs; skipped where there is none, failed where one is required."""
    for module in ("celery", "tranship_redis"):
        pytest.importorskip(module)
    return tranship_service("redis")


@pytest.fixture(scope="session")
def databases(field_service: Service) -> Callable[[], str]:
    """Hand out empty databases of that Redis."""
    from redis import Redis

    numbers = itertools.cycle(range(1, 16))

    def empty() -> str:
        url = f"{field_service.url.rpartition('/')[0]}/{next(numbers)}"
        with Redis.from_url(url) as redis:
            redis.flushdb()
        return url

    return empty


@pytest.fixture(scope="module")
def field_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For the logs of the module's processes, and the log of what was run."""
    folder = tmp_path_factory.mktemp("field")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG, str(folder / "runs"))
        yield folder


@pytest.fixture(scope="module")
def field_url(databases: Callable[[], str]) -> str:
    """An empty database that this module has to itself."""
    return databases()


@pytest.fixture(scope="module")
def field_operator(field_url: str, field_folder: Path) -> Iterator[CeleryOperator]:
    """The operator, serving."""
    with CeleryOperator(field_url, field_folder) as operator:
        yield operator


@pytest.fixture
def field_redis(field_url: str) -> Iterator[Any]:
    """A plain connection to the module's database."""
    from redis import Redis

    with Redis.from_url(field_url) as redis:
        yield redis


@pytest.fixture(autouse=True)
def _own_operator_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SANDAI_OPERATOR_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def no_links_left() -> Iterator[None]:
    """After the test, this process has no more connections than before."""
    before = process_table().links()
    yield
    assert process_table().links() == before
