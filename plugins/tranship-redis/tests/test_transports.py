"""Ways to the server: TLS with a CA of one's own, a Unix socket; and namespaces and databases side by side."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis_kit import Raw, lab_of, opened, refusal, said

from tranship import AsyncClient, Worker, task
from tranship.errors import BrokerError, BrokerRefused, BrokerUnreachable, InvalidOptionError
from tranship.ports import Settlement, Tombstone, Verdict
from tranship.settings import BrokerURL
from tranship.testing.context import CaseContext
from tranship.testing.services import ProcessService, Service

pytestmark = pytest.mark.timeout(120)

SECRET = "sw0rdf1sh"


@task(name="transport.double", queue="q")
def double(value: int) -> int:
    return 2 * value


def openssl(*arguments: str, directory: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


class Authority:
    """A certificate authority of one's own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.crt"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
            # From 3.13 on, Python checks certificates by the letter of RFC 5280.
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            directory=directory,
        )

    def issue(self, name: str, subject: str) -> tuple[Path, Path]:
        """A certificate for a host or address, and its key."""
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject}\nauthorityKeyIdentifier=keyid\n")
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
            directory=self.directory,
        )
        openssl(
            *("x509", "-req", "-days", "2", "-in", f"{name}.csr", "-out", f"{name}.crt", "-CAcreateserial"),
            *("-CA", f"{self.name}.crt", "-CAkey", f"{self.name}.key", "-extfile", extensions.name),
            directory=self.directory,
        )
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other-ca"), "theirs")


@pytest.fixture
def secure(authority: Authority, redis_variant: Callable[..., Service]) -> Callable[..., Service]:
    """Start a Redis that speaks TLS, with a certificate for an address."""

    def start(subject: str = "IP:127.0.0.1", *, clients: str = "no", **options: Any) -> Service:
        certificate, key = authority.issue("server", subject)
        mine, my_key = authority.issue("probe", "DNS:probe")
        context = ssl.create_default_context(cafile=str(authority.certificate))
        context.check_hostname = False
        context.load_cert_chain(mine, my_key)
        return redis_variant(
            *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", clients),
            tls=context,
            **options,
        )

    return start


async def run_one(url: str) -> None:
    """Submit, run, wait; all over this URL."""
    async with AsyncClient(url, result_url=url) as client:
        worker = Worker(url, tasks=[double], result_url=url)
        serving = asyncio.create_task(worker.serve())
        handle = await client.submit(double, 21)
        try:
            assert await handle.result(15) == 42
        finally:
            worker.stop()
            await serving


# --- TLS ------------------------------------------------------------------------------------------


async def test_tls_with_a_ca_of_ones_own(secure: Callable[..., Service], authority: Authority) -> None:
    service = secure(password=SECRET)
    url = f"{service.url}?ca_certs={authority.certificate}"
    await run_one(url)
    async with opened(url) as backend:
        assert SECRET not in backend.url


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_a_certificate_of_an_unknown_ca_is_refused(
    secure: Callable[..., Service], stranger: Authority, scheme: str
) -> None:
    service = secure(password=SECRET)
    url = service.url.replace("rediss", scheme, 1)
    for trusting in (url, f"{url}?ca_certs={stranger.certificate}"):
        error = await refusal(trusting, BrokerRefused)
        assert not error.retryable
        assert "certificate verify failed" in str(error)
        assert Raw(service).address in str(error)
        assert SECRET not in said(error)


async def test_a_certificate_for_another_host_is_refused_unless_told_otherwise(
    secure: Callable[..., Service], authority: Authority
) -> None:
    service = secure("DNS:elsewhere.example")
    url = f"{service.url}?ca_certs={authority.certificate}"
    error = await refusal(url, BrokerRefused)
    assert "127.0.0.1" in str(error)
    assert "not valid for" in str(error) or "mismatch" in str(error)
    async with opened(f"{url}&check_hostname=false") as backend:
        await backend.ping()
    async with opened(f"{service.url}?cert_reqs=none&check_hostname=false") as backend:
        await backend.ping()


async def test_a_server_that_wants_our_certificate(secure: Callable[..., Service], authority: Authority) -> None:
    service = secure(clients="yes")
    url = f"{service.url}?ca_certs={authority.certificate}"
    error = await refusal(url, BrokerError)
    assert Raw(service).address in str(error)
    certificate, key = authority.issue("client", "DNS:client")
    await run_one(f"{url}&certfile={certificate}&keyfile={key}")


async def test_a_missing_ca_file_is_told_before_anything_is_tried() -> None:
    error = await refusal("rediss://127.0.0.1:1/0?ca_certs=/no/such/ca.pem", InvalidOptionError)
    assert "/no/such/ca.pem" in str(error)


async def test_tls_and_plain_text_do_not_mix(secure: Callable[..., Service], redis_service: Service) -> None:
    """Both ways round: an error in time that says what to look at."""
    service = secure()
    started = time.monotonic()
    plain = await refusal(service.url.replace("rediss", "redis", 1), BrokerError)
    assert "rediss" in str(plain)
    tls = await refusal(redis_service.url.replace("redis", "rediss", 1), BrokerError)
    assert "TLS" in str(tls) or "SSL" in str(tls)
    assert time.monotonic() - started < 15


async def test_tls_survives_a_restart(secure: Callable[..., Service], authority: Authority) -> None:
    service = secure()
    async with lab_of(f"{service.url}?ca_certs={authority.certificate}") as context:
        backend = await context.open()
        await context.submit(backend, context.message())
        await asyncio.to_thread(service.kill)
        await asyncio.to_thread(service.start)

        async def pinged() -> bool:
            try:
                await backend.ping()
            except BrokerUnreachable:
                return False
            return True

        await context.eventually(pinged, "connected again", within=20.0)
        assert len(await context.drain(backend.consumer(["q"]), 1)) == 1


# --- Unix sockets ---------------------------------------------------------------------------------


async def test_a_unix_socket_carries_everything(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant("--unixsocket", "{directory}/redis.sock")
    if not isinstance(service, ProcessService):
        pytest.skip("the socket is inside of a container")
    path = service.place.directory / "redis.sock"
    await run_one(f"unix://{path}?db=3")
    assert Raw(service)("CONFIG", "GET", "databases")
    assert b"db3" in Raw(service)("INFO", "keyspace")
    async with opened(f"unix://{path}") as backend:
        assert str(path) in backend.url


async def test_a_socket_that_is_not_there_is_unreachable_with_its_path(tmp_path: Path) -> None:
    error = await refusal(f"unix://{tmp_path}/none.sock", BrokerUnreachable)
    assert f"{tmp_path}/none.sock" in str(error)


async def test_a_socket_we_may_not_use_is_told(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant("--unixsocket", "{directory}/redis.sock", "--unixsocketperm", "700", password=SECRET)
    if not isinstance(service, ProcessService):
        pytest.skip("the socket is inside of a container")
    error = await refusal(f"unix://{service.place.directory}/redis.sock", BrokerRefused)
    assert "password" in str(error)


# --- namespaces and databases ---------------------------------------------------------------------


async def test_everything_we_write_begins_with_the_namespace(redis_variant: Callable[..., Service]) -> None:
    """A busy namespace, while another application's keys of the very names Celery uses stay as they are."""
    service = redis_variant()
    raw = Raw(service)
    theirs = {"unacked": "a", "celery-task-meta-same": "b", "q": "c", "tranship:leases": "d"}
    for key, value in theirs.items():
        raw("SET", key, value)
    async with lab_of(service.url) as context:
        await _everything(context)
        strange = [
            key for key in raw.names() if not key.startswith(context.namespace.encode()) and key.decode() not in theirs
        ]
    assert strange == []
    assert {key: raw("GET", key).decode() for key in theirs} == theirs


async def test_a_closed_backend_leaves_no_litter(redis_variant: Callable[..., Service]) -> None:
    """What is left after everything was consumed and forgotten goes by itself, or is one of a few fixed keys."""
    service = redis_variant()
    raw = Raw(service)
    async with lab_of(service.url) as context:
        for _ in range(3):
            backend = await context.open()
            await context.submit(backend, *context.messages(20))
            await context.drain(backend.consumer(["q"]), 20)
            await backend.aclose()
        lasting = [key for key in raw.names() if raw("TTL", key) == -1]
    assert {key.removeprefix(context.namespace.encode() + b":") for key in lasting} <= {b"tranship:queues"}


async def test_databases_do_not_hear_each_other(redis_variant: Callable[..., Service]) -> None:
    """Publish and subscribe know no databases: signals and cancels of another one are not ours."""
    service = redis_variant()
    zero, one = service.url, service.url.removesuffix("/0") + "/1"
    heard: list[Any] = []
    async with opened(zero) as here, opened(one) as there, opened(zero) as canceller:
        await there.control().listen(heard.extend, worker="w-1")
        told = asyncio.Event()
        await here.control().listen(lambda _signals: told.set(), worker="w-2")
        await canceller.control().cancel([Tombstone(kind="id", value="a", expires=time.time() + 60)])
        await asyncio.wait_for(told.wait(), 5)
        assert heard == []


async def test_the_database_is_the_urls(redis_variant: Callable[..., Service]) -> None:
    service = redis_variant()
    url = service.url.removesuffix("/0")
    async with lab_of(f"{url}/5") as context:
        await context.submit(await context.open(), context.message())
        assert b"db5" in Raw(service)("INFO", "keyspace")
        assert BrokerURL.parse((await context.open()).url).database == "5"


async def _everything(context: CaseContext) -> None:
    backend = await context.open()
    await context.submit(
        backend,
        context.message(),
        context.message(check_id=True),
        context.message(dedup_key="k", dedup_window=60),
        context.message(not_before=time.time() + 3600),
        context.message(),
        context.message(),
    )
    consumer = backend.consumer(["q"])
    held = await context.receive(consumer, 4)
    await context.settle(consumer, Verdict.NACK, held[0])
    await context.settle(consumer, Verdict.REJECT, held[1], reason="kit", detail="on purpose")
    replacement = context.message(not_before=time.time() + 60)
    await consumer.settle([Settlement(held[2], Verdict.REPLACE, replacement=replacement)])
    await backend.results().put([context.result("same", 1)])
    await backend.control().cancel([Tombstone(kind="key", value="k", expires=time.time() + 60)])
    await backend.ensure(["other"])
