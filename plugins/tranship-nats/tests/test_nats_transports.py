"""Ways to the server: TLS, keys, several servers; and what becomes of refusals that pass."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import nkeys
import pytest
from nats_accounts import Identity, Operator
from nats_kit import Authority, make, message, opened, url_of, variant_lab

from tranship.envelope import Receipt
from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship.ports import ConnectionEvent, Settlement, Verdict
from tranship.testing.context import ids_of
from tranship.testing.services import Service

pytestmark = pytest.mark.timeout(90)

Variant = Callable[..., Service]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture
def secure(nats_variant: Variant, authority: Authority) -> Callable[..., Service]:
    """Start a server that speaks TLS; arguments: its certificate's name, days of validity, more of its tls block."""

    def start(name: str = "server", *, days: int = 2, more: str = "") -> Service:
        certificate, key = authority.issue(name, days=days)
        probe = ssl.create_default_context(cafile=str(authority.certificate))
        probe.check_hostname, probe.verify_mode = False, ssl.CERT_NONE
        if "verify" in more:
            probe.load_cert_chain(*authority.issue("probe"))
        return nats_variant(f'tls {{ cert_file: "{certificate}", key_file: "{key}", {more} }}', tls=probe)

    return start


async def refusal(url: str) -> TranshipError:
    backend = make(url)
    try:
        with pytest.raises(TranshipError) as caught:
            await asyncio.wait_for(backend.open(), 20)
    finally:
        await backend.aclose()
    return caught.value


async def _works(url: str) -> None:
    async with opened(url) as backend:
        one = message("q")
        assert await backend.submitter().submit([one]) == [Receipt(one.envelope.id)]
        consumer = backend.consumer(["q"])
        deliveries = (await consumer.receive(1, 8.0)).deliveries
        assert ids_of(deliveries) == [one.envelope.id]
        await consumer.settle([Settlement(delivery, Verdict.ACK) for delivery in deliveries])


async def test_tls_with_a_ca_of_ones_own(secure: Callable[..., Service], authority: Authority) -> None:
    service = secure()
    await _works(url_of(service, scheme="tls", ca_certs=authority.certificate))
    # A server that insists on TLS gets it under nats:// as well.
    await _works(url_of(service, ca_certs=authority.certificate))


async def test_a_certificate_that_is_not_trusted(secure: Callable[..., Service]) -> None:
    error = await refusal(url_of(secure(), scheme="tls"))
    assert isinstance(error, BrokerRefused)
    assert "renew its certificate, or set ca_certs" in str(error)


async def test_a_certificate_that_has_expired(secure: Callable[..., Service], authority: Authority) -> None:
    error = await refusal(url_of(secure("expired", days=-1), scheme="tls", ca_certs=authority.certificate))
    assert isinstance(error, BrokerRefused)
    assert "certificate has expired" in str(error)


async def test_a_server_that_wants_our_certificate(secure: Callable[..., Service], authority: Authority) -> None:
    service = secure(more=f'ca_file: "{authority.certificate}", verify: true')
    certificate, key = authority.issue("client")
    trusted = {"scheme": "tls", "ca_certs": authority.certificate}
    await _works(url_of(service, certfile=certificate, keyfile=key, **trusted))
    assert isinstance(await refusal(url_of(service, **trusted)), BrokerRefused | BrokerUnreachable)
    old, old_key = authority.issue("old-client", days=-1)
    error = await refusal(url_of(service, certfile=old, keyfile=old_key, **trusted))
    assert isinstance(error, BrokerRefused | BrokerUnreachable)


async def test_tls_is_never_plain(unused_tcp_port_factory: Callable[[], int]) -> None:
    """A server without TLS, or somebody in between who hides it, gets no password."""
    heard: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.9.10", "max_payload": 1048576, "headers": True, "auth_required": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        heard.append(await reader.read(4096))
        writer.close()

    port = unused_tcp_port_factory()
    server = await asyncio.start_server(pretend, "127.0.0.1", port)
    async with server:
        error = await refusal(f"tls://user:hush@127.0.0.1:{port}")
        await asyncio.sleep(0)
    assert isinstance(error, BrokerRefused)
    assert "does not speak TLS; nothing was sent" in str(error)
    assert b"".join(heard) == b""


async def test_an_nkey(nats_variant: Variant, tmp_path: Path) -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "user.nk"
    file.write_bytes(bytes(seed))
    service = nats_variant(f'authorization {{ users: [{{ nkey: "{public}" }}, {{ user: "u", password: "p" }}] }}')
    await _works(url_of(service, nkey_file=file))
    other = tmp_path / "other.nk"
    other.write_bytes(bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)))
    assert isinstance(await refusal(url_of(service, nkey_file=other)), BrokerRefused)


async def test_a_credentials_file(nats_variant: Variant, tmp_path: Path) -> None:
    """An operator's server lets in whom an account of the operator's vouches for, and says no to everybody else."""
    operator = Operator()
    service = nats_variant(*operator.lines)
    await _works(url_of(service, credentials=operator.credentials(tmp_path / "worker.creds")))
    stranger = operator.credentials(tmp_path / "stranger.creds", issuer=Identity(nkeys.PREFIX_BYTE_ACCOUNT))
    old = operator.credentials(tmp_path / "old.creds", expires=time.time() - 60)
    for file in (stranger, old, None):
        error = await refusal(url_of(service, **({"credentials": file} if file else {})))
        assert isinstance(error, BrokerRefused)
        assert "check user, password, token or credentials file, or renew them" in str(error)


async def test_credentials_that_expire_under_a_worker_and_are_renewed(nats_variant: Variant, tmp_path: Path) -> None:
    operator, file = Operator(), tmp_path / "worker.creds"
    service = nats_variant(*operator.lines)
    operator.credentials(file, expires=time.time() + 3)
    async with variant_lab(service) as lab, opened(url_of(service, credentials=file, command_timeout=3)) as backend:
        consumer = backend.consumer(["q"])
        await consumer.receive(1, 0.1)

        async def told() -> bool:
            try:
                await consumer.receive(1, 0.1)
            except (BrokerRefused, BrokerUnreachable) as error:
                return "refused us" in str(error)
            return False

        await lab.eventually(told, "it says that it is refused", within=20)
        operator.credentials(file)
        one = message("q")

        async def accepted() -> bool:
            try:
                (answer,) = await backend.submitter().submit([one])
            except (BrokerRefused, BrokerUnreachable):
                return False
            return isinstance(answer, Receipt)

        await lab.eventually(accepted, "a submit succeeds again", within=20)
        assert ids_of((await consumer.receive(1, 8.0)).deliveries) == [one.envelope.id]


async def test_a_refusal_that_passes(nats_variant: Variant) -> None:
    """The password is changed under a worker, and changed back: it says so meanwhile, and goes on by itself."""
    service = nats_variant('authorization { user: "u", password: "hush" }')
    configuration = service.place.directory / "nats.conf"  # type: ignore[attr-defined]
    right = configuration.read_text()
    async with variant_lab(service) as lab, opened(url_of(service, "u:hush", command_timeout=3)) as backend:
        consumer = backend.consumer(["q"])
        await consumer.receive(1, 0.1)
        await asyncio.to_thread(service.stop)
        configuration.write_text(right.replace("hush", "other"))
        await asyncio.to_thread(service.start)

        async def told() -> bool:
            try:
                await consumer.receive(1, 0.1)
            except (BrokerRefused, BrokerUnreachable) as error:
                return "refused us" in str(error) and "hush" not in str(error)
            return False

        await lab.eventually(told, "it says that it is refused", within=20)
        await asyncio.to_thread(service.stop)
        configuration.write_text(right)
        await asyncio.to_thread(service.start)
        one = message("q")

        async def accepted() -> bool:
            try:
                (answer,) = await backend.submitter().submit([one])
            except (BrokerRefused, BrokerUnreachable):
                return False
            return isinstance(answer, Receipt)

        await lab.eventually(accepted, "a submit succeeds again", within=20)
        assert ids_of((await consumer.receive(1, 8.0)).deliveries) == [one.envelope.id]


async def test_a_server_that_leaves_says_goodbye(nats_variant: Variant) -> None:
    """SIGTERM: the loss is told at once, and whoever waits is served when the server is back."""
    service = nats_variant()
    async with variant_lab(service) as lab:
        backend, events = await lab.open(), []
        backend.on_event(lambda event, generation: events.append((event, generation)))
        consumer = backend.consumer(["q"])
        waiting = lab.start(consumer.receive(1, 30.0))
        await lab.wait_for(waiting, 0.2)
        await asyncio.to_thread(service.restart)

        async def restored() -> bool:
            return bool(events) and events[-1][0] is ConnectionEvent.RESTORED

        await lab.eventually(restored, "the connection is back", within=15)
        assert events[0] == (ConnectionEvent.LOST, 1)
        ids = await lab.submit(backend, lab.message())
        assert ids_of((await asyncio.wait_for(waiting, 10)).deliveries) == ids
