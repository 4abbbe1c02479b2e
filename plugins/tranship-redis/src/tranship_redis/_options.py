"""The URL options of the Redis backend, and what else a URL says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tranship import codec
from tranship.checks import invalid, one_of, positive, text, whole
from tranship.errors import InvalidURLError
from tranship.settings import BrokerURL, CommonOptions

__all__ = ["CeleryQueues", "RedisOptions", "database"]

_MODES = ("auto", "off", "on")


@dataclass(frozen=True, kw_only=True)
class RedisOptions(CommonOptions):
    """Options after the ``?`` of a ``redis://`` URL; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    connect_timeout: float = 5.0
    """How long opening a connection may take, a server that is still loading its data included."""
    command_timeout: float = 10.0
    """A server that answers nothing for so long is given up and connected to anew."""
    keepalive: float = 5.0
    """After so long without a word from the server it is asked whether it is still there."""
    protocol: Literal[3, 2] = 3
    """RESP version; 2 for proxies that know no better: results then come over a connection of their own."""
    tracking: Literal["auto", "off"] = "auto"
    """Whether idle workers are woken by the server (CLIENT TRACKING); off: they look every few milliseconds."""
    celery: str = "auto"
    """Which queues have Celery peers: ``auto`` (those a Celery client or worker has declared), ``on``, ``off``,
    or names separated by commas."""
    visibility_timeout: float = 3600.0
    """What Celery holds is never restored by us sooner than this; at least what its workers are told."""
    normal_step: Literal[3, 0] = 3
    """Celery's priority step of our level *normal*; 0: Celery's default priority counts as normal."""
    result_serializer: Literal["json", "msgpack"] = "json"
    """How results are written; the same as the Celery peers' setting of that name."""
    cancel_template: str = ""
    """On cancel by key, also set this key: ``{key}`` stands for the cancel key. Empty: no such key."""
    db: int | None = None
    """The number of the database, where the path does not give it (``unix://``)."""
    ca_certs: str | None = None
    """``rediss``: file with the certificates to trust; None: the system's."""
    certfile: str | None = None
    """``rediss``: file with our own certificate."""
    keyfile: str | None = None
    """``rediss``: file with its key."""
    cert_reqs: Literal["required", "optional", "none"] = "required"
    """``rediss``: whether the server has to show a certificate we trust."""
    check_hostname: bool = True
    """``rediss``: whether its certificate has to be for the host of the URL."""
    client_name: str = ""
    """What the server's CLIENT LIST calls our connections."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("connect_timeout", "command_timeout", "keepalive", "visibility_timeout"):
            positive(name, getattr(self, name))
        self._check_choices()
        text("celery", self.celery)
        if "\0" in self.namespace:
            raise invalid("namespace", self.namespace, "a text without zero characters")
        if self.db is not None:
            whole("db", self.db, minimum=0)
        if self.cancel_template and "{key}" not in self.cancel_template:
            raise invalid("cancel_template", self.cancel_template, "a text with {key} in it")
        if not all("!" <= character <= "~" for character in self.client_name):
            raise invalid("client_name", self.client_name, "ASCII without spaces, as CLIENT SETNAME wants it")

    def _check_choices(self) -> None:
        one_of("protocol", self.protocol, (3, 2))
        one_of("tracking", self.tracking, ("auto", "off"))
        one_of("normal_step", self.normal_step, (3, 0))
        one_of("result_serializer", self.result_serializer, ("json", "msgpack"))
        one_of("cert_reqs", self.cert_reqs, ("required", "optional", "none"))

    @property
    def prefix(self) -> str:
        """In front of every name on the server."""
        return f"{self.namespace}:" if self.namespace else ""

    @property
    def result_type(self) -> str:
        """The content type of result documents."""
        return codec.JSON if self.result_serializer == "json" else codec.MSGPACK

    @property
    def celery_queues(self) -> CeleryQueues:
        """The option ``celery``, read."""
        if self.celery in _MODES:
            return CeleryQueues(self.celery, frozenset())
        return CeleryQueues("some", frozenset(name.strip() for name in self.celery.split(",") if name.strip()))


@dataclass(frozen=True, slots=True)
class CeleryQueues:
    """Which queues have Celery peers, as far as the options say."""

    mode: str
    """``"auto"``, ``"on"``, ``"off"`` or ``"some"``."""
    names: frozenset[str]
    """For ``"some"``: which."""

    def of(self, queue: str) -> bool | None:
        """Whether ``queue`` has Celery peers; None: the server knows (mode ``auto``)."""
        if self.mode == "some":
            return queue in self.names
        return None if self.mode == "auto" else self.mode == "on"


def database(url: BrokerURL, options: RedisOptions) -> int:
    """Return the number of the database: the URL's path, or the option ``db``; 0 where neither is given.

    Raises:
        InvalidURLError: the path is no number, or both say something different.
    """
    if url.scheme == "unix":
        return options.db or 0
    path = url.database
    if not path:
        return options.db or 0
    if not (path.isascii() and path.isdigit()):
        raise InvalidURLError(f"the broker URL '{url}' has the path {url.path!r}; expected a database such as '/0'")
    if options.db not in (None, int(path)):
        raise InvalidURLError(f"the broker URL '{url}' names two databases: {path} and {options.db}")
    return int(path)
