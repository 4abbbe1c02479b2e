"""The servers that pages name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tranship.testing.services import Service, ServiceFinder, ServiceNotFound

EXTERNAL = 15
"""The database to use of a Redis that is not ours, where it is empty."""

CLI = """#!{python}
import sys
import redis

def show(reply):
    for one in reply if isinstance(reply, list) else [reply]:
        show(one) if isinstance(one, list) else print("" if one is None else one)

client = redis.Redis.from_url({url!r}, decode_responses=True, protocol=2)
connection = client.connection_pool.get_connection()
connection.send_command(*sys.argv[1:])
show(connection.read_response())
"""


@pytest.fixture
def redis_of_the_page(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Return the URL of a Redis that one page has to itself, started on the first call, with a ``redis-cli`` for it."""
    ours: list[tuple[Service, str]] = []

    def start() -> str:
        if not ours:
            service = _found()
            url = _database(service)
            _install_cli(tmp_path / ".bin", url)
            ours.append((service, url))
        return ours[0][1]

    yield start
    for service, url in ours:
        if not service.controllable:
            redis.Redis.from_url(url).flushdb()
        service.close()


def _found() -> Service:
    finder = ServiceFinder()
    try:
        service = finder.find("redis")
    except ServiceNotFound as error:
        (pytest.fail if "redis" in finder.required else pytest.skip)(str(error))
    service.start()
    return service


def _database(service: Service) -> str:
    """Return where the page may work; on a server that is not ours, an empty database is left as it was."""
    if service.controllable:
        return service.url
    url = f"{service.url.partition('?')[0].rstrip('/').removesuffix('/0')}/{EXTERNAL}"
    if redis.Redis.from_url(url).dbsize():
        pytest.skip(f"database {EXTERNAL} of the Redis that was given is not empty")
    return url


def _install_cli(folder: Path, url: str) -> None:
    """A ``redis-cli`` that knows the server, whether the machine has one or not."""
    folder.mkdir()
    cli = folder / "redis-cli"
    cli.write_text(CLI.format(python=sys.executable, url=url))
    cli.chmod(0o755)
