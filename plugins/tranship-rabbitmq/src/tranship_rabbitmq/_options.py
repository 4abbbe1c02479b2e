"""The URL options of the RabbitMQ backend, and what else a URL says."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Final, Literal

from tranship.checks import invalid, one_of, positive, whole
from tranship.errors import ConfigurationError, InvalidURLError
from tranship.settings import BrokerURL, CommonOptions
from tranship_rabbitmq.amqp.connection import Place

__all__ = ["RabbitOptions", "places"]

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_LONGEST_HEARTBEAT: Final = 65_534


@dataclass(frozen=True, kw_only=True)
class RabbitOptions(CommonOptions):
    """Options after the ``?`` of an ``amqp://`` URL; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    connect_timeout: float = 5.0
    """How long connecting may take."""
    command_timeout: float = 10.0
    """How long one answer may take."""
    heartbeat: int = 10
    """The server is asked to say something at least twice in so many seconds; silent for one and a half times as
    long, it is given up and connected to anew. 0: never."""
    queue_type: Literal["classic", "quorum"] = "classic"
    """How queues are declared: as Celery does, or replicated, which counts deliveries."""
    max_priority: int = 0
    """``x-max-priority`` of the Celery peers' queues: all levels then share the one queue. 0: a queue per level."""
    consumer_timeout: float | None = 1800.0
    """The server's setting of that name: how long a task may run before the server takes it back. None: off."""
    reply_expires: float = 3600.0
    """How long results for a client that went away are kept, in case it comes back."""
    result_serializer: Literal["json", "msgpack"] = "json"
    """How results are written; the same as the Celery peers' setting of that name."""
    result_persistent: bool = False
    """Whether results on their way outlive a restart of the server."""
    celery: Literal["on", "off"] = "on"
    """Whether Celery's remote control and events are spoken."""
    client_name: str = ""
    """What the server's tools call our connections; empty: ``tranship@<host>``."""
    password_file: str | None = None
    """File with the password, or token, in place of the URL's; written anew, the server is told within seconds."""
    auth: Literal["plain", "external"] = "plain"
    """``external``: our certificate says who we are (``amqps``)."""
    ca_certs: str | None = None
    """``amqps``: file with the certificates to trust; None: the system's."""
    certfile: str | None = None
    """``amqps``: file with our own certificate."""
    keyfile: str | None = None
    """``amqps``: file with its key."""
    cert_reqs: Literal["required", "none"] = "required"
    """``amqps``: whether the server has to show a certificate we trust."""
    check_hostname: bool = True
    """``amqps``: whether its certificate has to be for the host of the URL."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("connect_timeout", "command_timeout", "reply_expires"):
            positive(name, getattr(self, name))
        if self.consumer_timeout is not None:
            positive("consumer_timeout", self.consumer_timeout)
        if whole("heartbeat", self.heartbeat, minimum=0) > _LONGEST_HEARTBEAT:
            raise invalid("heartbeat", self.heartbeat, f"at most {_LONGEST_HEARTBEAT} seconds")
        whole("max_priority", self.max_priority, minimum=0)
        if self.max_priority > 255 or 0 < self.max_priority < 3:
            raise invalid("max_priority", self.max_priority, "0, or 3 to 255: there are four levels")
        self._check_choices()

    def _check_choices(self) -> None:
        one_of("queue_type", self.queue_type, ("classic", "quorum"))
        one_of("result_serializer", self.result_serializer, ("json", "msgpack"))
        one_of("celery", self.celery, ("on", "off"))
        one_of("auth", self.auth, ("plain", "external"))
        one_of("cert_reqs", self.cert_reqs, ("required", "none"))
        if self.password_file is not None and self.auth == "external":
            raise invalid("password_file", self.password_file, "none where auth is external, which sends no password")
        if self.max_priority and self.queue_type == "quorum":
            raise invalid("max_priority", self.max_priority, "0 where queue_type is quorum, which has no priorities")

    @property
    def prefix(self) -> str:
        """In front of every name on the server."""
        return f"{self.namespace}:" if self.namespace else ""


def places(url: BrokerURL, options: RabbitOptions) -> list[Place]:
    """Return the servers that ``url`` names, in order; of a cluster any one will do.

    Raises:
        ConfigurationError: a certificate file that cannot be read, or a password that cannot be one.
    """
    tls = _tls(options) if url.scheme == "amqps" else None
    password = _password(url, options)
    return [
        Place(
            host=host or "localhost",
            port=port or _PORTS[url.scheme],
            # As Celery reads URLs: no path is the virtual host "/", whose own name may be written out, too.
            vhost=url.database or "/",
            username=url.username or "guest",
            password=password,
            heartbeat=options.heartbeat,
            name=options.client_name or f"tranship@{socket.gethostname()}",
            tls=tls,
            external=options.auth == "external",
        )
        for host, port in url.hosts
    ]


def _password(url: BrokerURL, options: RabbitOptions) -> str:
    if options.password_file is not None and url.password is not None:
        raise InvalidURLError(f"{url} has a password, and the option password_file: give one of them")
    if url.password == "" and options.auth != "external":
        # The client library would log in as guest.
        raise InvalidURLError(
            f"{url} has an empty password, which no server takes: write it behind the colon, name a file in "
            "password_file, or leave the colon out for the password 'guest'"
        )
    return "guest" if url.password is None else url.password


def _tls(options: RabbitOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_certs)
        if options.certfile:
            context.load_cert_chain(options.certfile, options.keyfile)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(name for name in (options.ca_certs, options.certfile, options.keyfile) if name)
        raise ConfigurationError(f"the certificates ({names}) cannot be read: {error}") from error
    if options.cert_reqs == "none" or not options.check_hostname:
        context.check_hostname = False
    if options.cert_reqs == "none":
        context.verify_mode = ssl.CERT_NONE
    return context
