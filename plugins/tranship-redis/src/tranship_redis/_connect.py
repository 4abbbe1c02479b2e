"""Connecting: redis-py's connection does the socket, TLS, AUTH, HELLO and SELECT; then we take the socket over."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from tranship.checks import invalid
from tranship.errors import BrokerRefused, BrokerUnreachable, InvalidURLError, TranshipError
from tranship.settings import BrokerURL
from tranship_redis._errors import error_of, reply_error
from tranship_redis._options import RedisOptions, database

__all__ = ["Dialler"]

log = logging.getLogger("tranship.redis")

_TLS: Final = ("rediss", "valkeys")
_CUT: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
_SAID: Final = (ResponseError, AuthenticationError, BusyLoadingError, InvalidResponse)
"""What redis-py makes of an answer: of an error reply, or of something that is no reply."""
_STATUS: Final = {
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
    NoPermissionError: "NOPERM",
    ReadOnlyError: "READONLY",
}
_INTERRUPTED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Dialler:
    """Opens connections to the server of a URL.

    Attributes:
        place: ``host:port`` or the socket's path, for messages.
        protocol: the RESP version; falls back to 2 where a server or a proxy knows no HELLO.

    Raises:
        InvalidURLError: the URL names no place that can be connected to.
        InvalidOptionError: a file of the TLS options does not exist.
    """

    def __init__(self, url: BrokerURL, options: RedisOptions) -> None:
        self.place = _place(url)
        self.protocol: int = options.protocol
        self.db = database(url, options)
        self._tls = url.scheme in _TLS
        self._kind, self._arguments = _how(url, options)
        self._arguments["db"] = self.db
        self._settled = False
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def dial(self) -> asyncio.StreamWriter:
        """Return the writing end of a connection that is authenticated and in its database.

        Not bounded beyond redis-py's own bound on connecting. Cancelled: closed.

        Raises:
            BrokerUnreachable: nobody there, or it went away.
            BrokerRefused: wrong password, no rights, a certificate we do not trust, no Redis at all.
        """
        # One at a time: they share redis-py's connection object.
        async with self._turn:
            failed = await self._attempt()
            if failed and not self._settled and self.protocol == 3 and _lacks_hello(failed):
                log.warning("%s does not speak RESP3; using RESP2", self.place)
                self.protocol, self._connection = 2, None
                failed = await self._attempt()
            if failed:
                # Raised here, where nothing is being handled: redis-py's text may repeat what we sent.
                raise self._explain(failed)
            self._settled = True
            assert self._connection is not None
            return _detach(self._connection)

    async def _attempt(self) -> Exception | None:
        # Kept between attempts: it holds the TLS context, which takes long to make.
        connection = self._connection or self._kind(**self._arguments, protocol=self.protocol)
        self._connection = connection
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            await _drop(connection)
            return error
        except BaseException:
            await _drop(connection)
            raise
        return None

    def _explain(self, failed: Exception) -> TranshipError:
        chain = _chain(failed)
        tls = next((found for found in chain if isinstance(found, ssl.SSLError)), None)
        if tls is not None and not isinstance(tls, _INTERRUPTED):
            return _because(tls, BrokerRefused(f"{self.place} cannot be trusted, or speaks no TLS ({tls})"))
        denied = next((found for found in chain if isinstance(found, PermissionError)), None)
        if denied is not None:
            return _because(denied, BrokerRefused(f"{self.place} may not be used by this user ({denied})"))
        # Over a Unix socket redis-py wraps what the server said.
        clean = _clean(next((found for found in chain if isinstance(found, _SAID)), failed))
        if isinstance(clean, ResponseError):
            return error_of(clean, doing=f"connecting to {self.place}")
        if isinstance(clean, InvalidResponse):
            return _because(clean, BrokerRefused(f"{self.place} does not answer as Redis does ({clean}){self._hint}"))
        system = next((found for found in chain if isinstance(found, OSError)), None)
        reason = str(clean) if system is None else _reason(system)
        hint = self._hint if "closed" in reason or isinstance(system, _CUT) else ""
        return _because(system or clean, BrokerUnreachable(f"cannot connect to {self.place}: {reason}{hint}"))

    @property
    def silence(self) -> str:
        """Says that nobody has answered in time."""
        return f"{self.place} did not answer{self._hint if self._tls else ''}"

    @property
    def _hint(self) -> str:
        if self._tls:
            return "; does it speak TLS on this port?"
        return "" if self._kind is UnixDomainSocketConnection else "; where it wants TLS, write rediss://"


def _because(cause: BaseException, error: TranshipError) -> TranshipError:
    error.__cause__ = cause
    return error


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _reason(error: OSError) -> str:
    # asyncio's own text names the address and not the reason; a negative number is the resolver's.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _clean(failed: BaseException) -> Exception:
    """Return ``failed`` without its chain and without what an old server repeats of our command."""
    text = str(failed)
    if isinstance(failed, _SAID) and not isinstance(failed, InvalidResponse):
        return reply_error(f"{_status(failed)} {text}")
    kind = InvalidResponse if isinstance(failed, InvalidResponse) else RedisError
    return kind(str(reply_error(text)))


def _status(failed: BaseException) -> str:
    # The code in front of the reply, which redis-py cuts off; older versions say nowhere what it was.
    status = getattr(failed, "status_code", None)
    if isinstance(status, str):
        return status
    if isinstance(failed, AuthenticationError):
        return "NOAUTH" if "Authentication required" in str(failed) or "HELLO must be" in str(failed) else "WRONGPASS"
    return _STATUS.get(type(failed), "ERR")


def _lacks_hello(failed: Exception) -> bool:
    text = str(failed).lower()
    return isinstance(failed, ResponseError) and ("unknown command" in text or "noproto" in text)


def _detach(connection: AbstractConnection) -> asyncio.StreamWriter:
    """Take the socket out of redis-py's hands. The only place that touches what redis-py keeps to itself."""
    writer = connection._writer  # noqa: SLF001
    assert writer is not None
    connection._reader = connection._writer = None  # noqa: SLF001
    return writer


async def _drop(connection: AbstractConnection) -> None:
    try:
        await connection.disconnect(nowait=True)
    except (RedisError, OSError):
        log.debug("closing a connection that failed", exc_info=True)


def _place(url: BrokerURL) -> str:
    if url.scheme == "unix":
        if url.host or not url.path:
            raise InvalidURLError(f"the broker URL '{url}' needs the socket's absolute path: unix:///path/to.sock?db=0")
        return url.path
    if url.more_hosts:
        raise InvalidURLError(f"the broker URL '{url}' lists several hosts; give the one that takes writes")
    host = url.host or "localhost"
    return f"[{host}]:{url.port or 6379}" if ":" in host else f"{host}:{url.port or 6379}"


def _how(url: BrokerURL, options: RedisOptions) -> tuple[type[AbstractConnection], dict[str, Any]]:
    arguments: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "socket_timeout": None,  # no bound per command: the liveness check bounds them all
        "socket_connect_timeout": options.connect_timeout,
        "client_name": options.client_name or None,
    }
    if url.scheme == "unix":
        return UnixDomainSocketConnection, {**arguments, "path": url.path}
    arguments |= {"host": url.host or "localhost", "port": url.port or 6379}
    if url.scheme not in _TLS:
        return Connection, arguments
    return SSLConnection, {**arguments, **_tls(options)}


def _tls(options: RedisOptions) -> dict[str, Any]:
    for name in ("ca_certs", "certfile", "keyfile"):
        file = getattr(options, name)
        if file is None:
            continue
        if not Path(file).is_file():
            raise invalid(name, file, "a file that exists")
        if b"ENCRYPTED" in Path(file).read_bytes():
            # OpenSSL would ask for the password on the terminal, and everything would wait for the answer.
            raise invalid(name, file, "a key without a password of its own")
    return {
        "ssl_ca_certs": options.ca_certs,
        "ssl_certfile": options.certfile,
        "ssl_keyfile": options.keyfile,
        "ssl_cert_reqs": options.cert_reqs,
        "ssl_check_hostname": options.check_hostname,
    }
