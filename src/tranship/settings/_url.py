"""Broker URLs: read, shown without secrets, and their options as a dataclass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qsl, unquote

from tranship.errors import InvalidURLError
from tranship.settings._fill import fill
from tranship.settings._redact import REDACTED, is_secret, redact
from tranship.settings._several import quoted, several

__all__ = ["BrokerURL"]

T = TypeVar("T")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_HOST = re.compile(r"(\[(?P<v6>[^\]]*:[^\]]*)\]|(?P<name>[^\[\]:]*))(:(?P<port>.*))?")
_ANOTHER = re.compile(r",[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
_HINT: Final = "; in a password write '/' as %2F, '?' as %3F, '#' as %23, '@' as %40"

Host = tuple[str, int | None]


@dataclass(frozen=True, slots=True, repr=False)
class BrokerURL:
    """Which broker, where, and with which options. ``str()`` and ``repr()`` show no secret.

    All parts are percent-decoded.
    """

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str = ""
    port: int | None = None
    path: str = ""
    """With its leading slash, as written: ``"/0"``, or ``"//var/lib/x.db"`` for an absolute file."""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    more_hosts: tuple[Host, ...] = ()
    """Hosts after the first, where the URL lists several, separated by commas."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``scheme://[user[:password]@][host[:port][,host[:port]...]][/path][?option=value&...]``.

        Several of them, separated by white space or semicolons, or a list in JSON, become one URL of the
        scheme ``failover`` or ``round-robin``, whose numbered options are the brokers.

        Raises:
            InvalidURLError: ``text`` is no such URL; the message shows it without secrets.
        """
        text = (several(text) if isinstance(text, str) else None) or text
        scheme, rest = _scheme(text)
        try:
            return cls._parse(scheme, rest, text)
        except UnicodeDecodeError:
            raise _error(text, "its percent-encoded parts are not UTF-8") from None

    @classmethod
    def _parse(cls, scheme: str, rest: str, text: str) -> Self:
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        user, at, places = authority.rpartition("@")
        if places and not at and "@" in path:
            raise _error(text, f"it has an '@' behind a '/'{_HINT}")
        hosts = [_host(place, text) for place in places.split(",")]
        name, colon, password = user.partition(":")
        return cls(
            scheme=scheme,
            username=_plain(name) or None,
            password=_plain(password) if colon else None,
            host=hosts[0][0],
            port=hosts[0][1],
            path=_plain(slash + path),
            options=_options(query, text),
            more_hosts=tuple(hosts[1:]),
        )

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host with its port, the first one included."""
        return ((self.host, self.port), *self.more_hosts)

    @property
    def database(self) -> str:
        """The path without its leading slash: a database number, a virtual host, a file.

        ``sqlite:///rel.db`` is the file ``rel.db``, ``sqlite:////abs.db`` the file ``/abs.db``.
        """
        return self.path.removeprefix("/")

    def options_as(self, cls: type[T]) -> T:
        """Return the dataclass ``cls`` filled from the options; what is not given has its default.

        Raises:
            InvalidOptionError: an option ``cls`` does not have, or a value it does not take.
        """
        return fill(cls, self.options, where=f"in {self}", noun="option")

    def with_options(self, **options: Any) -> Self:
        """Return the same URL with these options added or replaced."""
        return replace(self, options={**self.options, **{name: str(value) for name, value in options.items()}})

    def reveal(self) -> str:
        """Return the full text, secrets included: for a driver, never for a log."""
        return self._text(self.username, self.password, self.options)

    def __str__(self) -> str:
        options = {name: REDACTED if is_secret(name) else redact(value) for name, value in self.options.items()}
        return self._text(self._shown_username(), self.password and REDACTED, options)

    def __repr__(self) -> str:
        return f"BrokerURL({str(self)!r})"

    def _shown_username(self) -> str | None:
        # NATS writes its token where others have a user name.
        token = self.password is None and self.scheme.startswith(("nats", "tls"))
        return REDACTED if self.username and token else self.username

    def _text(self, username: str | None, password: str | None, options: Mapping[str, str]) -> str:
        user = quoted(username or "", safe="*")
        if password is not None:
            user += ":" + quoted(password, safe="*")
        if user:
            user += "@"
        places = ",".join(_place(host, port) for host, port in self.hosts)
        query = "&".join(f"{quoted(name)}={quoted(value, safe='*/:,@')}" for name, value in options.items())
        return f"{self.scheme}://{user}{places}{quoted(self.path, safe='/:')}" + (f"?{query}" if query else "")


def _scheme(text: str) -> tuple[str, str]:
    if not isinstance(text, str) or not text:
        raise InvalidURLError(f"the broker URL is {text!r}; expected a text such as 'redis://localhost:6379/0'")
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise _error(text, "it does not start with a scheme such as 'redis://'")
    if _UNPRINTABLE.search(text):
        raise _error(text, "it contains white space or control characters; write them percent-encoded")
    if _ANOTHER.search(rest.partition("?")[0]):
        raise _error(text, "a comma is between hosts of one URL, without a scheme; between several URLs is a space")
    if "#" in rest:
        raise _error(text, f"it has a '#'{_HINT}")
    return scheme.lower(), rest


def _host(place: str, text: str) -> Host:
    found = _HOST.fullmatch(place)
    if not found:
        raise _error(text, f"its host cannot be read{_HINT}")
    port = found["port"]
    # The text of a bad port is not shown: it may be a part of a password with a raw slash.
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise _error(text, f"its port is not a number from 1 to 65535{_HINT}")
    return _plain(found["v6"] or found["name"] or ""), int(port) if port else None


def _options(query: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, errors="strict"):
        if not name or "@" in name:
            raise _error(text, f"it has an option without a name{_HINT}")
        if name in options:
            raise _error(text, f"it has the option {name!r} twice")
        options[name] = value
    return options


def _plain(text: str) -> str:
    return unquote(text, errors="strict")


def _place(host: str, port: int | None) -> str:
    name = f"[{quoted(host, safe=':')}]" if ":" in host else quoted(host, safe="")
    return name if port is None else f"{name}:{port}"


def _error(text: str, why: str) -> InvalidURLError:
    return InvalidURLError(f"the broker URL {redact(text)!r} cannot be read: {why}")
