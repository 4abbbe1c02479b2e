"""Broker URLs as Celery users write them, and the options under which our backends are the peers of operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tranship.errors import InvalidOptionError
from tranship.settings import MODES, BrokerURL

__all__ = ["operator_url"]

_REDIS: Final = ("redis", "rediss", "unix", "valkey", "valkeys")
_SCHEMES: Final[Mapping[str, str]] = {"pyamqp": "amqp", "rpc": "amqp", "redis+socket": "unix"}

_PEER: Final[Mapping[str, str]] = {"normal_step": "0", "cancel_template": "{key}"}
"""Operators read the plain list of each of their queues, and look for a key of the very name of a cancel key."""

_RENAMED: Final[Mapping[str, str]] = {
    "ssl_ca_certs": "ca_certs",
    "ssl_cert_reqs": "cert_reqs",
    "ssl_certfile": "certfile",
    "ssl_check_hostname": "check_hostname",
    "ssl_keyfile": "keyfile",
    "socket_connect_timeout": "connect_timeout",
    "socket_timeout": "command_timeout",
    "health_check_interval": "keepalive",
    "virtual_host": "db",
}
"""Redis options by the names that Celery's transport and redis-py have for them."""

_WITHOUT_MEANING: Final = frozenset({"max_connections", "retry_on_timeout", "socket_keepalive", "decode_responses"})
"""About a pool of connections, or always so here."""


def operator_url(text: str) -> BrokerURL:
    """Return the URL of a broker or result backend that operators use, with the options that make us their peer.

    Names of schemes and of Redis options that only Celery knows are translated; what the URL says itself goes
    before the options of a peer.

    Raises:
        InvalidURLError: ``text`` is no URL.
        InvalidOptionError: an option is given twice, under its old name and its new one.
    """
    url = BrokerURL.parse(text)
    url = replace(url, scheme=_SCHEMES.get(url.scheme, url.scheme))
    if url.scheme in MODES:
        # Several brokers as one: their URLs are its numbered options.
        return replace(url, options={name: _member(name, value) for name, value in url.options.items()})
    if url.scheme not in _REDIS:
        return url
    return replace(url, options={**_PEER, **_translated(url)})


def _member(name: str, value: str) -> str:
    return operator_url(value).reveal() if name.isascii() and name.isdigit() else value


def _translated(url: BrokerURL) -> dict[str, str]:
    options: dict[str, str] = {}
    for given, value in url.options.items():
        name = _RENAMED.get(given, given)
        if given in _WITHOUT_MEANING or (given == "health_check_interval" and value in ("", "0")):
            continue
        if name in options:
            raise InvalidOptionError(f"option {name} is given twice in {url}; write it once", option=name)
        options[name] = value.lower().removeprefix("cert_") if name == "cert_reqs" else value
    return options
