"""``amqps://``: whom we trust, who trusts us, certificates that expire under us; and TLS where there is none."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rabbitmq_kit import Authority, control_of, opened, refusal, until, url_of, works

from tranship import AsyncClient, Worker, task
from tranship.errors import BrokerRefused, BrokerUnreachable, ConfigurationError
from tranship.testing.pytest_plugin import own_services
from tranship.testing.services import Service, rabbitmq_recipe

pytestmark = pytest.mark.timeout(120)

SECRET = "sw0rdf1sh"


@task(name="transport.double", queue="q")
def double(value: int) -> int:
    return 2 * value


@asynccontextmanager
async def _serving(worker: Worker) -> AsyncIterator[None]:
    serving = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await serving


class Secure:
    """A node that speaks TLS, whose certificate can be exchanged while it runs."""

    def __init__(self, service: Service, authority: Authority, certificate: tuple[Path, Path]) -> None:
        self.service = service
        self._authority = authority
        self._certificate = certificate

    def show(self, certificate: tuple[Path, Path]) -> None:
        """Have every new connection see this certificate."""
        for source, target in zip(certificate, self._certificate, strict=True):
            shutil.copyfile(source, target)
        control_of(self.service)("eval", "ssl:clear_pem_cache().")

    def drop_all(self) -> None:
        """End every connection, as a restart would."""
        control_of(self.service)("close_all_connections", "certificates have been exchanged")

    def url(self, user: str = "guest:guest", *, trusted: bool = True, **options: Any) -> str:
        """A URL of it, that trusts its authority unless told otherwise."""
        more = {"ca_certs": self._authority.certificate} if trusted else {}
        return url_of(self.service, user, scheme="amqps", **{**more, **options})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def start(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Secure]]:
    """Start a node; arguments: more lines of its configuration, and options of its recipe."""
    with own_services() as begin:

        def start(*lines: str, **options: Any) -> Secure:
            certificate = authority.issue("server")
            shown = tuple(Path(shutil.copy(one, tmp_path_factory.mktemp("shown"))) for one in certificate)
            probe = ssl.create_default_context(cafile=str(authority.certificate))
            probe.load_cert_chain(*authority.issue("probe"))
            given = [f"ssl_options.{name} = {path}" for name, path in zip(("certfile", "keyfile"), shown, strict=True)]
            recipe = rabbitmq_recipe(
                *given, f"ssl_options.cacertfile = {authority.certificate}", *lines, tls=probe, **options
            )
            return Secure(begin(recipe), authority, (shown[0], shown[1]))

        yield start


@pytest.fixture(scope="module")
def _secure(start: Callable[..., Secure]) -> Secure:
    secure = start()
    control_of(secure.service)("change_password", "guest", SECRET)
    return secure


@pytest.fixture
def secure(_secure: Secure, authority: Authority) -> Secure:
    """A node that shows a good certificate."""
    _secure.show(authority.issue("server"))
    return _secure


@pytest.fixture(scope="module")
def careful(start: Callable[..., Secure]) -> Secure:
    """A node that wants to see the certificates of its clients, and takes them for a name."""
    secure = start(
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
        plugins=["rabbitmq_auth_mechanism_ssl"],
    )
    control = control_of(secure.service)
    control("add_user", "known", "unused")
    control("set_permissions", "-p", "/", "known", ".*", ".*", ".*")
    return secure


# --- whom we trust --------------------------------------------------------------------------------


async def test_tls_with_a_ca_of_ones_own(secure: Secure) -> None:
    url = secure.url(f"guest:{SECRET}")
    async with opened(url) as backend:
        assert await works(backend)
        assert SECRET not in backend.url
    async with AsyncClient(url) as client:
        worker = Worker(url, tasks=[double])
        async with _serving(worker):
            assert await (await client.submit(double, 21)).result(15) == 42


async def test_a_certificate_of_an_unknown_ca_is_refused(
    secure: Secure, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("other-ca"), "theirs")
    user = f"guest:{SECRET}"
    for url in (secure.url(user, trusted=False), secure.url(user, ca_certs=stranger.certificate)):
        error = await refusal(url)
        assert isinstance(error, BrokerRefused)
        assert not error.retryable
        assert "name its authority in ca_certs" in str(error)
        assert "127.0.0.1" in str(error)
        assert SECRET not in f"{error!r} {error.__cause__!r}"


async def test_without_verification_anybody_is_believed(secure: Secure) -> None:
    async with opened(secure.url(f"guest:{SECRET}", trusted=False, cert_reqs="none")) as backend:
        assert await works(backend)


async def test_a_certificate_for_another_host(secure: Secure, authority: Authority) -> None:
    secure.show(authority.issue("elsewhere", subject="DNS:elsewhere.example"))
    error = await refusal(secure.url(f"guest:{SECRET}"))
    assert isinstance(error, BrokerRefused)
    assert "check_hostname=false" in str(error)
    async with opened(secure.url(f"guest:{SECRET}", check_hostname="false")) as backend:
        assert await works(backend)


async def test_a_certificate_that_has_expired(secure: Secure, authority: Authority) -> None:
    secure.show(authority.issue("expired", days=-1))
    error = await refusal(secure.url(f"guest:{SECRET}"))
    assert isinstance(error, BrokerRefused)
    assert "its certificate has expired; the server needs a new one" in str(error)


@pytest.mark.campaign
async def test_a_certificate_that_expires_under_a_worker(secure: Secure, authority: Authority) -> None:
    """Refused for as long as it is bad, in words that say so; back at work by itself with a new one."""
    async with opened(secure.url(f"guest:{SECRET}")) as backend:
        assert await works(backend)
        secure.show(authority.issue("expired", days=-1))
        secure.drop_all()

        async def told() -> bool:
            try:
                await backend.ping()
            except BrokerUnreachable as error:
                return "certificate has expired" in str(error)
            return False

        await until(told)
        secure.show(authority.issue("renewed"))
        await until(lambda: works(backend))


# --- who trusts us --------------------------------------------------------------------------------


async def test_a_server_that_wants_our_certificate(careful: Secure, authority: Authority) -> None:
    certificate, key = authority.issue("client", subject="DNS:client")
    async with opened(careful.url(certfile=certificate, keyfile=key)) as backend:
        assert await works(backend)
    error = await refusal(careful.url())
    assert isinstance(error, BrokerRefused), repr(error)
    assert "certfile" in str(error)


async def test_our_certificate_has_expired(careful: Secure, authority: Authority) -> None:
    certificate, key = authority.issue("old-client", subject="DNS:client", days=-1)
    error = await refusal(careful.url(certfile=certificate, keyfile=key))
    assert isinstance(error, BrokerRefused), repr(error)
    assert "our certificate" in str(error)
    assert "expired" in str(error)


async def test_our_certificate_is_of_an_authority_that_the_server_does_not_know(
    careful: Secure, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("other-ca"), "theirs")
    certificate, key = stranger.issue("client", subject="DNS:client")
    error = await refusal(careful.url(certfile=certificate, keyfile=key))
    assert isinstance(error, BrokerRefused), repr(error)
    assert "our certificate" in str(error)


async def test_our_certificate_says_who_we_are(careful: Secure, authority: Authority) -> None:
    """No password is sent, nor asked for; a name that the server does not know is refused."""
    certificate, key = authority.issue("known", subject="DNS:client")
    options = {"certfile": certificate, "keyfile": key, "auth": "external"}
    async with opened(careful.url("nobody:wrong", **options)) as backend:
        assert await works(backend)
    certificate, key = authority.issue("unknown", subject="DNS:client")
    error = await refusal(careful.url(**{**options, "certfile": certificate, "keyfile": key}))
    assert isinstance(error, BrokerRefused)


# --- TLS where there is none, and the other way round ---------------------------------------------


async def test_tls_and_plain_text_do_not_mix(secure: Secure, rabbitmq_service: Service) -> None:
    """Both ways round: an error in time that says what to look at."""
    started = time.monotonic()
    plain = await refusal(url_of(secure.service))
    assert "amqps://" in str(plain)
    tls = await refusal(url_of(rabbitmq_service, scheme="amqps"))
    assert "does not speak TLS" in str(tls)
    assert time.monotonic() - started < 15


async def test_certificates_that_cannot_be_read_are_named(secure: Secure, tmp_path: Path) -> None:
    for option in ("ca_certs", "certfile"):
        missing = tmp_path / f"{option}.pem"
        error = await refusal(secure.url(**{option: missing}))
        assert isinstance(error, ConfigurationError)
        assert str(missing) in str(error)
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    assert str(empty) in str(await refusal(secure.url(ca_certs=empty)))
