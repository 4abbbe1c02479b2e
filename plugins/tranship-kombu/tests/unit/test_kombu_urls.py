"""URLs of the bridge: what kombu is called with, and what is wrong said before anything is opened."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tranship.errors import (
    BrokerRefused,
    BrokerUnreachable,
    InvalidOptionError,
    InvalidURLError,
    PluginError,
    TranshipError,
    UnknownSchemeError,
)
from tranship.registry import Registry
from tranship.settings import BrokerURL
from tranship_kombu._options import read_options
from tranship_kombu._place import Place
from tranship_kombu._schemes import PREFIXED, SHARED
from tranship_kombu._transports import find

SECRET = "sw0rd/f1sh"


def place(text: str) -> Place:
    url = BrokerURL.parse(text)
    return Place.of(url, *read_options(url))


async def opened_and_closed(url: str) -> None:
    backend = Registry().create(url)
    try:
        await backend.open()
    finally:
        await backend.aclose()


class TestSchemes:
    def test_every_scheme_has_a_transport(self) -> None:
        assert {find(scheme).name for scheme in PREFIXED} == {find(f"kombu+{scheme}").name for scheme in SHARED} | {
            "memory",
            "amqp",
            "amqps",
            "redis",
            "rediss",
        }

    def test_celerys_names_are_served_and_yielded(self) -> None:
        registry = Registry()
        assert registry.create("pyamqp://localhost//").name == "kombu+pyamqp"
        assert registry.create("memory://").name == "memory"

    def test_a_misspelt_one_is_told_with_what_was_meant(self) -> None:
        with pytest.raises(UnknownSchemeError, match="did you mean 'kombu\\+filesystem'") as caught:
            Registry().create("kombu+filesytem:///x")
        assert len(str(caught.value)) < 500


class TestPlaces:
    @pytest.mark.parametrize(
        ("url", "kombus"),
        [
            ("kombu+pyamqp://u:p%2Fw@h:5673//", "pyamqp://u:p%2Fw@h:5673//"),
            ("kombu+sqs://KEY:a%2Fb@localhost:4566", "sqs://KEY:a%2Fb@localhost:4566"),
            ("kombu+gcpubsub://projects/mine", "gcpubsub://projects/mine"),
            ("kombu+redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
            ("sentinel://a:1,b:2/0?transport.master_name=m", "sentinel://a:1/0;sentinel://b:2/0"),
            ("kombu+sqla+postgresql+psycopg://u@h/db", "sqla+postgresql+psycopg://u@h/db"),
            ("kombu+sqla+sqlite:////var/x.db", "sqla+sqlite:////var/x.db"),
            ("kombu+mongodb+srv://h/db", "mongodb+srv://h/db"),
        ],
    )
    def test_kombu_gets_the_url_as_celery_writes_it(self, url: str, kombus: str) -> None:
        assert place(url).kombu_url == kombus

    def test_options_of_the_transport_are_read_as_json_where_they_are(self) -> None:
        found = place("kombu+sqs://?transport.region=eu-west-1&transport.visibility_timeout=60&lease=5")
        assert found.transport_options["region"] == "eu-west-1"
        assert found.longest_hold == 60.0
        assert found.transport_options["client-config"]["retries"] == {"total_max_attempts": 1}
        assert found.options.lease == 5.0

    def test_a_file_has_those_with_secrets(self, tmp_path: Path) -> None:
        file = tmp_path / "options.json"
        queues = {"q": {"url": "https://sqs/q", "secret_access_key": SECRET}}
        file.write_text(json.dumps({"predefined_queues": queues}))
        found = place(f"kombu+sqs://?transport_file={file}")
        assert found.transport_options["predefined_queues"] == queues
        assert SECRET not in repr(found)

    def test_encrypted_places_are_not_anybodys(self) -> None:
        assert place("kombu+amqps://h").arguments["ssl"]["cert_reqs"] is ssl.CERT_REQUIRED
        assert place("kombu+rediss://h").arguments["ssl"]["ssl_cert_reqs"] is ssl.CERT_REQUIRED

    def test_a_directory_is_for_both_ways(self) -> None:
        found = place("filesystem:///var/spool/tasks").transport_options
        assert found["data_folder_in"] == found["data_folder_out"] == "/var/spool/tasks"


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("kombu+filesystem://", InvalidURLError, "names no directory; write kombu\\+filesystem:///path"),
        ("kombu+filesystem://?transport.data_folder_in=/x", InvalidURLError, "or give both"),
        ("kombu+sqla+sqlite://", InvalidURLError, "names no file"),
        ("kombu+memory://?leese=3", InvalidOptionError, "did you mean lease"),
        ("kombu+memory://?polling_interval=0", InvalidOptionError, "polling_interval"),
        ("kombu+sqs://?transport.visibility_timeout=soon", InvalidOptionError, "expected seconds"),
        ("kombu+sqs://?transport.=1", InvalidOptionError, "lacks a name"),
        ("kombu+sqs://?transport.predefined_queues={broken", InvalidOptionError, "begins like JSON and is none"),
        ("kombu+memory://?transport_file=/no/such", InvalidOptionError, "cannot be read"),
        ("kombu+zookeeper://localhost", PluginError, "pip install 'kombu\\[zookeeper\\]'"),
        ("kombu+confluentkafka://localhost", PluginError, "pip install 'kombu\\[confluentkafka\\]'"),
        ("kombu+gcpubsub://projects/x", PluginError, "pip install 'kombu\\[gcpubsub\\]'"),
        ("mongodb://localhost", PluginError, "pip install 'kombu\\[mongodb\\]'"),
        ("kombu+sqla+mysql://localhost/x", PluginError, "MySQLdb.*pip install mysqlclient"),
    ],
)
async def test_what_is_wrong_is_named(url: str, kind: type[TranshipError], says: str) -> None:
    with pytest.raises(kind, match=says):
        await opened_and_closed(url)


async def test_a_secret_in_a_url_option_is_refused_and_not_shown() -> None:
    queues = json.dumps({"q": {"secret_access_key": SECRET}})
    with pytest.raises(InvalidOptionError, match="transport_file") as caught:
        place(f"kombu+sqs://?transport.predefined_queues={queues.replace(' ', '')}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["kombu+pyamqp", "kombu+redis", "kombu+sqs"])
async def test_nobody_there_is_told_in_time_and_without_the_password(scheme: str, unused_tcp_port: int) -> None:
    url = f"{scheme}://user:{SECRET.replace('/', '%2F')}@127.0.0.1:{unused_tcp_port}?connect_timeout=2"
    backend = Registry().create(url)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerUnreachable) as caught:
            await backend.open()
    await backend.aclose()
    assert SECRET not in f"{caught.value} {backend!r} {backend.url}"
    assert caught.value.__cause__ is not None


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    backend = Registry().create(f"kombu+filesystem://{tmp_path}/file/below")
    with pytest.raises(BrokerRefused, match="NotADirectoryError"):
        await backend.open()
    await backend.aclose()


def test_describing_it_imports_neither_kombu_nor_sqlalchemy() -> None:
    program = """
        import sys
        from tranship.registry import Registry
        registry = Registry()
        assert "kombu+sqs" in registry.schemes()
        print({"kombu", "sqlalchemy", "celery"} & {name.partition(".")[0] for name in sys.modules})
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, env=environ
    )
    assert done.stdout.strip() == "set()"
