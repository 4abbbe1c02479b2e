"""Dialling: which server, with which credentials, and what went wrong in words that help."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import nats.errors

from tranship.checks import invalid
from tranship.errors import BrokerRefused, BrokerUnreachable, InvalidURLError, TranshipError
from tranship.settings import BrokerURL
from tranship_nats._client import Client, DialFailed, Plain
from tranship_nats._options import NatsOptions

__all__ = ["Dialler"]

_PORT = 4222
_SECRETS: Final = {"credentials": (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED", b"SU"), "nkey_file": (b"SU",)}
"""What is in a file with a secret, by option."""
_EXPECTED: Final = {
    "credentials": "a .creds file: a user's JWT and seed, as `nsc generate creds` writes it",
    "nkey_file": "a file with the seed of a user's NKey, SU...",
}
_REFUSALS = ("authorization", "authentication", "credentials", "expired", "revoked", "nkey", "jwt")
"""Words of the server's refusals: before it knows who we are it gives no numbers."""


class Dialler:
    """Opens connections to any of the servers of a URL.

    Attributes:
        place: the servers, for messages.

    Raises:
        InvalidURLError: the URL has a path.
        InvalidOptionError: a file that does not exist, or is of another kind.
    """

    def __init__(self, url: BrokerURL, options: NatsOptions) -> None:
        if url.database:
            raise InvalidURLError(f"the broker URL '{url}' has the path {url.path!r}; NATS knows none: use namespace=")
        self._options = options
        self._encrypted = url.scheme == "tls"
        self._listed = [_place(host, port) for host, port in url.hosts]
        self._found: list[str] = []
        self.place = ",".join(self._listed)
        self._credentials = _credentials(url, options)
        self._context = _tls(options) if self._encrypted or options.ca_certs or options.certfile else None

    async def dial(self, on_lost: Callable[[Exception], None], on_denied: Callable[[str], None]) -> Client:
        """Return a connection to the first server that takes us, the listed ones tried first, in a random order.

        Raises:
            BrokerUnreachable: nobody there.
            BrokerRefused: credentials, or a certificate, and no other server took us.
        """
        errors: list[TranshipError] = []
        found = [server for server in self._found if server not in self._listed]
        for server in [*random.sample(self._listed, len(self._listed)), *random.sample(found, len(found))]:
            connection = Client(encrypted=self._encrypted, on_lost=on_lost, on_denied=on_denied)
            try:
                await self._try(connection, server)
            except TranshipError as error:
                errors.append(error)
                continue
            self._remember(connection)
            return connection
        raise min(errors, key=lambda error: error.retryable)

    async def _try(self, connection: Client, server: str) -> None:
        options = self._options
        how = {**self._credentials, "tls_handshake_first": options.tls_first}
        if self._context is not None:
            how["tls"] = self._context
        try:
            async with asyncio.timeout(options.connect_timeout):
                await connection.dial(
                    f"{'tls' if self._encrypted else 'nats'}://{server}",
                    connect_timeout=options.connect_timeout,
                    ping_interval=options.keepalive,
                    inbox_prefix=options.inbox_prefix,
                    name=options.client_name,
                    **how,
                )
        except BaseException as error:
            await connection.end()
            if isinstance(error, Exception):
                raise self._explain(error, server) from None
            raise

    def _remember(self, connection: Client) -> None:
        if self._options.discover:
            self._found = [_place(uri.hostname or "", uri.port) for uri in connection.discovered_servers]

    def _explain(self, failed: Exception, server: str) -> TranshipError:
        cause = failed.__cause__ if isinstance(failed, DialFailed) else failed
        error = self._meaning(cause, server)
        error.__cause__ = cause
        return error

    def _meaning(self, cause: BaseException | None, server: str) -> TranshipError:
        if isinstance(cause, Plain):
            return BrokerRefused(f"{server} does not speak TLS; nothing was sent: set up TLS there, or write nats://")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return BrokerRefused(f"{server} cannot be trusted, or does not trust us: {_ssl_reason(cause)}")
        if isinstance(cause, TimeoutError):
            return BrokerUnreachable(f"{server} did not answer within {self._options.connect_timeout:g} s")
        if isinstance(cause, OSError):
            return BrokerUnreachable(f"cannot connect to {server}: {_reason(cause)}")
        if isinstance(cause, nats.errors.UnexpectedEOF):
            return BrokerUnreachable(f"{server} closed the connection while it was opened{self._hint}")
        return self._said(str(cause or "it failed without a reason").removeprefix("nats: "), server)

    def _said(self, text: str, server: str) -> TranshipError:
        if any(word in text.lower() for word in _REFUSALS):
            return BrokerRefused(
                f"{server} refused us: {text}; check user, password, token or credentials file, or renew them"
            )
        if "expecting INFO" in text:
            return BrokerRefused(f"{server} does not answer as a NATS server does{self._hint}")
        return BrokerUnreachable(f"{server}: {text}")

    @property
    def _hint(self) -> str:
        return "" if self._options.tls_first else "; where it begins with TLS, set tls_first=true"


def _place(host: str, port: int | None) -> str:
    host = host or "localhost"
    return f"[{host}]:{port or _PORT}" if ":" in host else f"{host}:{port or _PORT}"


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    return os.strerror(error.errno) if error.errno else str(error)


def _ssl_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; renew its certificate, or set ca_certs"
    return f"{(error.reason or str(error)).lower().replace('_', ' ')}; check certfile, keyfile and ca_certs"


def _credentials(url: BrokerURL, options: NatsOptions) -> dict[str, Any]:
    for name, signs in _SECRETS.items():
        file = getattr(options, name)
        if file is None:
            continue
        shown = file if name == "nkey_file" else "***"
        if not Path(file).is_file():
            raise invalid(name, shown, "a file that exists")
        if not all(sign in Path(file).read_bytes() for sign in signs):
            raise invalid(name, shown, _EXPECTED[name])
    given: dict[str, Any] = {
        "user_credentials": options.credentials,
        "nkeys_seed": options.nkey_file,
        "token": options.token,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if url.username is not None and url.password is not None:
        chosen |= {"user": url.username, "password": url.password}
    elif url.username is not None:
        chosen["token"] = url.username
    if len(chosen) > (2 if "user" in chosen else 1):
        raise InvalidURLError(f"the broker URL '{url}' has several kinds of credentials; give one")
    return chosen


def _tls(options: NatsOptions) -> ssl.SSLContext:
    for name in ("ca_certs", "certfile", "keyfile"):
        file = getattr(options, name)
        if file is None:
            continue
        if not Path(file).is_file():
            raise invalid(name, file, "a file that exists")
        if b"ENCRYPTED" in Path(file).read_bytes():
            # OpenSSL would ask for the password on the terminal, and everything would wait for the answer.
            raise invalid(name, file, "a key without a password of its own")
    context = ssl.create_default_context(cafile=options.ca_certs)
    context.check_hostname = options.check_hostname
    if options.certfile is not None:
        context.load_cert_chain(options.certfile, options.keyfile)
    return context
