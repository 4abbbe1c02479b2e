"""Real brokers, a part of one for every module, and Celery beside it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from interop.celery_client import CeleryClient
from interop.runs import LOG
from interop.sites import SITES, Site, held_by_rabbitmq
from tranship.testing.services import ProcessService, Service, ServiceFinder, rabbitmqctl

if TYPE_CHECKING:
    from redis import Redis

MISSING = [name for name in ("celery", "tranship_redis", "tranship_rabbitmq") if find_spec(name) is None]
if MISSING and {"redis", "rabbitmq"} & ServiceFinder().required:
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
def vhost(tranship_service: Callable[[str], Service]) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """A virtual host of RabbitMQ that this module has to itself: its URL, and who tells what is left there."""
    server = tranship_service("rabbitmq")
    if not isinstance(server, ProcessService):
        pytest.skip("virtual hosts are made on a RabbitMQ that is a process of ours")
    name = f"interop-{uuid.uuid4().hex[:8]}"
    rabbitmqctl(server.place, "add_vhost", name)
    rabbitmqctl(server.place, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    yield f"{server.url}{name}", partial(held_by_rabbitmq, server.place, name)
    rabbitmqctl(server.place, "delete_vhost", name)


@pytest.fixture(scope="module")
def make_site(request: pytest.FixtureRequest, url: str) -> Iterator[Callable[[str], Site]]:
    """A broker and a place for results, by name; RabbitMQ is started when it is asked for."""
    with connect(url) as redis:

        def make(name: str) -> Site:
            if name == "redis":
                held = ("unacked", "unacked_index", "tranship:leases")
                return Site(name, url, None, url, lambda: redis.exists(*held), redis)
            address, left = request.getfixturevalue("vhost")
            if name == "rabbitmq-rpc":
                return Site(name, address, None, "rpc://", left)
            return Site(name, address, url, url, left, redis)

        yield make


# The third joins what the first two are tested with, so it is a campaign.
@pytest.fixture(scope="module", params=[*SITES[:2], pytest.param(SITES[2], marks=pytest.mark.campaign)])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    """One after the other."""
    return make_site(request.param)


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
def celery(site: Site) -> Iterator[CeleryClient]:
    """A Celery client that sends JSON."""
    with CeleryClient(site.url, **site.config) as client:
        yield client
