"""The URL options of the bridge, and those of the transport, which it hands to kombu."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tranship.checks import invalid, positive
from tranship.driver import ConnectionOptions
from tranship.errors import InvalidOptionError
from tranship.settings import BrokerURL

__all__ = ["KombuOptions", "read_options", "seconds"]

_PREFIX: Final = "transport."
_SECRETS: Final = ("secret", "password", "token", "access_key", "credential", "connection_string")


@dataclass(frozen=True, kw_only=True)
class KombuOptions(ConnectionOptions):
    """Options after the ``?`` of the URL of any transport; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    polling_interval: float | None = None
    """Seconds between two looks at queues that are empty; None: what suits the transport."""
    ca_certs: str | None = None
    """``amqps``, ``rediss``: file with the certificates to trust; None: the system's."""
    certfile: str | None = None
    """``amqps``, ``rediss``: file with our own certificate."""
    keyfile: str | None = None
    """``amqps``, ``rediss``: file with its key."""
    heartbeat: float = 30.0
    """``pyamqp``, ``amqp``, ``amqps``: seconds after which the server gives up a worker that is not heard of."""
    transport_file: str | None = None
    """File with options of the transport as a JSON object: what Celery calls ``broker_transport_options``. For those
    that hold secrets, above all. ``transport.NAME=VALUE`` in the URL gives single ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.polling_interval is not None:
            positive("polling_interval", self.polling_interval)
        positive("heartbeat", self.heartbeat)


def read_options(url: BrokerURL) -> tuple[KombuOptions, dict[str, Any]]:
    """Return the options in a URL: ours, and the transport's.

    Raises:
        InvalidOptionError: one that does not exist, or a value that it does not take.
    """
    theirs = {name: value for name, value in url.options.items() if name.startswith(_PREFIX)}
    ours = {name: value for name, value in url.options.items() if name not in theirs}
    options = replace(url, options=ours).options_as(KombuOptions)
    given = {} if options.transport_file is None else _from_file(Path(options.transport_file))
    return options, {**given, **{name.removeprefix(_PREFIX): _value(name, text) for name, text in theirs.items()}}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidOptionError(
            f"transport_file {path} cannot be read: {error}; expected a file with a JSON object",
            option="transport_file",
        ) from error
    if not isinstance(found, dict):
        raise InvalidOptionError(
            f"transport_file {path} holds a {type(found).__name__}; expected a JSON object", option="transport_file"
        )
    return found


def _value(name: str, text: str) -> Any:
    """Read a value as JSON, where it is, and otherwise as a text."""
    if name == _PREFIX:
        raise InvalidOptionError("the option 'transport.' lacks a name; expected such as transport.region", option=name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith(("{", "[")):
            # Not shown: it may hold a secret.
            raise InvalidOptionError(f"{name} begins like JSON and is none; mend it", option=name) from None
        return text
    if _holds_a_secret(value):
        raise InvalidOptionError(
            f"{name} holds a secret, and URLs are shown in logs; put it into a file, and name that: transport_file=...",
            option=name,
        )
    return value


def _holds_a_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            any(word in str(name).lower() for word in _SECRETS) or _holds_a_secret(one) for name, one in value.items()
        )
    return isinstance(value, list) and any(map(_holds_a_secret, value))


def seconds(name: str, value: Any) -> float:
    """Return an option of the transport that is a time.

    Raises:
        InvalidOptionError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise invalid(f"{_PREFIX}{name}", value, "seconds, a number above 0")
    return float(value)
