"""``password_file``: a password that is not in the URL, and tokens that are renewed before they expire."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rabbitmq_kit import control_beside, opened, until, url_of, works

from tranship.errors import BrokerRefused, BrokerUnreachable, ConfigurationError, InvalidOptionError, InvalidURLError
from tranship.registry import Registry
from tranship.testing.services import Service
from tranship_rabbitmq._password import LOOK

pytestmark = pytest.mark.timeout(120)

SECRET = "sw0rdf1sh"


def written(path: Path, text: str) -> Path:
    """Write the file as who rotates secrets does: another one, moved to its name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    return fresh.rename(path)


def url_with(service: Service, path: Path, user: str = "guest", **options: Any) -> str:
    return url_of(service, user, password_file=path, **options)


async def test_the_password_is_the_files_at_each_connect(
    rabbitmq_service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed password is taken up by itself; no word of it in any log."""
    caplog.set_level(logging.DEBUG)
    control, path = control_beside(rabbitmq_service), written(tmp_path / "password", f"{SECRET}\n")
    await control("add_user", "rotated", SECRET)
    try:
        await control("set_permissions", "-p", "/", "rotated", ".*", ".*", ".*")
        async with opened(url_with(rabbitmq_service, path, "rotated", namespace="pw")) as backend:
            assert await works(backend)
            assert str(path) in backend.url
            await control("change_password", "rotated", f"{SECRET}-2")
            await control("close_all_connections", "the password has been changed")
            with pytest.raises(BrokerUnreachable, match="user name or password is wrong"):
                await until(lambda: _pinged(backend, "user name or password"), *())
            written(path, f"{SECRET}-2")
            await until(lambda: works(backend), BrokerUnreachable)
    finally:
        await control("delete_user", "rotated")
    assert SECRET not in caplog.text


async def _pinged(backend: Any, text: str) -> bool:
    """Ask until the error says ``text``, and raise that."""
    try:
        await backend.ping()
    except BrokerUnreachable as error:
        if text in str(error):
            raise
    return False


@pytest.mark.parametrize(("text", "words"), [(None, "No such file"), ("", "is empty"), ("\n", "is empty")])
async def test_a_file_without_a_password_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "password"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        async with opened(f"amqp://guest@127.0.0.1:1/?password_file={path}"):
            pass
    assert str(path) in str(caught.value)


async def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(ConfigurationError, match="no line of UTF-8") as caught:
        async with opened(f"amqp://guest@127.0.0.1:1/?password_file={path}"):
            pass
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_two_passwords_are_one_too_many() -> None:
    with pytest.raises(InvalidURLError, match="give one of them"):
        Registry().create(f"amqp://guest:{SECRET}@127.0.0.1/?password_file=/run/token")
    with pytest.raises(InvalidOptionError, match="auth is external"):
        Registry().create("amqps://127.0.0.1/?password_file=/run/token&auth=external")


# --- tokens that expire -----------------------------------------------------------------------------


class Issuer:
    """Signs tokens (JWT) as an identity provider does, which RabbitMQ's OAuth 2 plugin believes."""

    def __init__(self, directory: Path) -> None:
        self.public, self._private = directory / "public.pem", directory / "private.pem"
        self._openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(self._private))
        self._openssl("pkey", "-in", str(self._private), "-pubout", "-out", str(self.public))

    def token(self, seconds: float) -> str:
        """Return one that is valid for so long."""
        scopes = [f"rabbitmq.{what}:*/*" for what in ("read", "write", "configure")]
        claims = {"aud": ["rabbitmq"], "scope": scopes, "exp": int(time.time() + seconds), "client_id": "tranship"}
        head = {"alg": "RS256", "typ": "JWT", "kid": "ours"}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return b".".join(
            (signed, _base64(self._openssl("dgst", "-sha256", "-sign", str(self._private), of=signed)))
        ).decode()

    @staticmethod
    def _openssl(*arguments: str, of: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=of, check=True, capture_output=True, timeout=60).stdout


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.mark.campaign
async def test_a_token_is_renewed_before_it_expires(
    rabbitmq_variant: Callable[..., Service], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection lives on with the new one; who has no new one is refused when the old one has expired."""
    caplog.set_level(logging.DEBUG)
    issuer = Issuer(tmp_path)
    service = rabbitmq_variant(
        "auth_backends.1 = internal",
        "auth_backends.2 = rabbit_auth_backend_oauth2",
        "auth_oauth2.resource_server_id = rabbitmq",
        "auth_oauth2.default_key = ours",
        f"auth_oauth2.signing_keys.ours = {issuer.public}",
        plugins=["rabbitmq_auth_backend_oauth2"],
    )
    life = 8 * LOOK
    old = issuer.token(life)
    expired = time.time() + life
    renewed, kept = (written(tmp_path / name, old) for name in ("renewed", "kept"))
    async with (
        opened(url_with(service, renewed, "anybody", namespace="a")) as backend,
        opened(url_with(service, kept, "anybody", namespace="b")) as doomed,
    ):
        events: list[Any] = []
        backend.on_event(lambda event, _generation: events.append(event))
        assert await works(backend)
        assert await works(doomed)
        new = issuer.token(600)
        written(renewed, new)

        async def gone() -> bool:
            try:
                return not await works(doomed)
            except BrokerRefused as error:
                return "password_file" in str(error)

        await until(gone)
        assert time.time() >= expired - 1
        assert await works(backend)
        assert not events, "the connection was lost"
    assert sum("has been told the new password" in record.getMessage() for record in caplog.records) >= 1
    assert not any(token in caplog.text for token in (old, new))
