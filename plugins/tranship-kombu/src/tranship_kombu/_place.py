"""Where a URL leads: what kombu's connection is made with."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tranship.errors import InvalidURLError
from tranship.settings import BrokerURL
from tranship_kombu._options import KombuOptions, seconds
from tranship_kombu._schemes import transport_of
from tranship_kombu._transports import Transport, find

__all__ = ["Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A broker as kombu is told of it.

    Args:
        url: as it was given, without options of the transport that it does not show.
        transport: which one.
        options: ours.
        given: the transport's, from the URL and its file.
    """

    url: BrokerURL
    transport: Transport
    options: KombuOptions
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, url: BrokerURL, options: KombuOptions, given: Mapping[str, Any]) -> Place:
        """Return the place of a URL.

        Raises:
            InvalidURLError, InvalidOptionError, UnknownSchemeError: it leads nowhere.
        """
        place = cls(url, find(url.scheme), options, given)
        # Now, and not when it is opened.
        _ = place.transport_options, place.longest_hold
        return place

    @property
    def polling(self) -> float:
        """Seconds between two looks."""
        return self.options.polling_interval or self.transport.polling

    @property
    def longest_hold(self) -> float | None:
        """Seconds after which a held message comes again, whatever its worker does; None: there is no such time."""
        if self.transport.timeout is None:
            return None
        name, usual = self.transport.timeout
        return seconds(name, self.given.get(name, usual))

    @property
    def kombu_url(self) -> str:
        """The URL as kombu reads it, secrets included; several hosts are several URLs."""
        bare = replace(self.url, scheme=transport_of(self.url.scheme), options={}, more_hosts=())
        return ";".join(replace(bare, host=host, port=port).reveal() for host, port in self.url.hosts)

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``kombu.Connection`` is called with."""
        options = self.options
        made: dict[str, Any] = {
            "hostname": self.kombu_url,
            "connect_timeout": options.connect_timeout,
            "transport_options": self.transport_options,
        }
        if self.transport.amqp:
            made["heartbeat"] = options.heartbeat
        if self.transport.name in _ENCRYPTED:
            made["ssl"] = _ENCRYPTED[self.transport.name](options, self.url.host)
        return made

    @property
    def transport_options(self) -> dict[str, Any]:
        """What Celery calls ``broker_transport_options``."""
        adapt = _ADAPTED.get(self.transport.alias)
        adapted = {} if adapt is None else adapt(self)
        return {**self.transport.options, **adapted, **self.given}


def _of_amqp(place: Place) -> dict[str, Any]:
    timeout = place.options.command_timeout
    return {"read_timeout": timeout, "write_timeout": timeout}


def _of_redis(place: Place) -> dict[str, Any]:
    return {
        "socket_timeout": place.options.command_timeout,
        "socket_connect_timeout": place.options.connect_timeout,
    }


def _of_sqs(place: Place) -> dict[str, Any]:
    # An attempt that is repeated blindly may send a task twice.
    client = {
        "connect_timeout": place.options.connect_timeout,
        "read_timeout": place.options.command_timeout,
        "retries": {"total_max_attempts": 1},
    }
    return {"client-config": {**client, **(place.given.get("client-config") or {})}}


def _of_files(place: Place) -> dict[str, Any]:
    path = place.url.path
    if path.strip("/"):
        return {
            "data_folder_in": path,
            "data_folder_out": path,
            "control_folder": str(Path(path) / "control"),
            "processed_folder": str(Path(path) / "processed"),
        }
    if place.given.get("data_folder_in") and place.given.get("data_folder_out"):
        return {}
    # kombu's defaults are two folders below the current one: what is put into one is never read from the other.
    raise InvalidURLError(
        f"{place.url} names no directory; write {place.url.scheme}:///path/of/a/directory, or give both "
        "transport.data_folder_in and transport.data_folder_out"
    )


def _of_tables(place: Place) -> dict[str, Any]:
    if place.url.scheme.endswith("+sqlite") and not place.url.database:
        raise InvalidURLError(
            f"{place.url} names no file, and a database in memory is nobody else's; write "
            f"{place.url.scheme}:////absolute/path.db"
        )
    return {}


def _tls_of_amqp(options: KombuOptions, host: str) -> dict[str, Any]:
    # py-amqp trusts anybody unless it is told not to.
    made = {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": host,
        "ca_certs": options.ca_certs or ssl.get_default_verify_paths().cafile,
        "certfile": options.certfile,
        "keyfile": options.keyfile,
    }
    return {name: value for name, value in made.items() if value is not None}


def _tls_of_redis(options: KombuOptions, _host: str) -> dict[str, Any]:
    made = {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": options.ca_certs,
        "ssl_certfile": options.certfile,
        "ssl_keyfile": options.keyfile,
    }
    return {name: value for name, value in made.items() if value is not None}


_ENCRYPTED: Final[Mapping[str, Callable[[KombuOptions, str], dict[str, Any]]]] = {
    "amqps": _tls_of_amqp,
    "rediss": _tls_of_redis,
}
_ADAPTED: Final[Mapping[str, Callable[[Place], dict[str, Any]]]] = {
    "pyamqp": _of_amqp,
    "amqp": _of_amqp,
    "amqps": _of_amqp,
    "redis": _of_redis,
    "rediss": _of_redis,
    "sentinel": _of_redis,
    "sqs": _of_sqs,
    "filesystem": _of_files,
    "sqla": _of_tables,
}
