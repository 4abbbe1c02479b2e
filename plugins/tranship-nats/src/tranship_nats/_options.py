"""The URL options of the NATS backend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from tranship.checks import invalid, not_negative, one_of, positive, whole
from tranship.driver import ConnectionOptions

__all__ = ["NatsOptions"]

_SUBJECT: Final = re.compile(r"[^\s.*>$][^\s.*>]*(\.[^\s.*>]+)*")
_WORD: Final = re.compile(r"[^\s.*>/\\]+")


@dataclass(frozen=True, kw_only=True)
class NatsOptions(ConnectionOptions):
    """Options after the ``?`` of a ``nats://`` URL; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    storage: Literal["file", "memory"] = "file"
    """Where new streams are kept; in memory they are lost with the server."""
    replicas: int = 1
    """On how many servers of a cluster new streams are kept: 1 to 5, better 3 than 2."""
    max_bytes: int = 0
    """The most that each new stream may hold; 0: no limit. Accounts with limits may insist on one."""
    duplicate_window: float = 120.0
    """How long a message that is submitted again is recognised. The server remembers each id for so long, in memory."""
    max_ack_pending: int = 20_000
    """The most that all workers together hold of one level of a queue."""
    token: str | None = None
    """Authentication by token; or write it where the user name stands: ``nats://token@host``."""
    credentials: str | None = None
    """File with the JWT and the seed of a user (``.creds``)."""
    nkey_file: str | None = None
    """File with the seed of a user's NKey."""
    ca_certs: str | None = None
    """``tls``: file with the certificates to trust; None: the system's."""
    certfile: str | None = None
    """``tls``: file with our own certificate."""
    keyfile: str | None = None
    """``tls``: file with its key."""
    check_hostname: bool = True
    """``tls``: whether the server's certificate has to be for the host of the URL."""
    tls_first: bool = False
    """``tls``: begin with the handshake, for servers with ``handshake_first``."""
    discover: bool = True
    """Whether other servers of the cluster are used that the URL does not list."""
    domain: str | None = None
    """The JetStream domain, for leaf nodes; None: the server's own."""
    inbox_prefix: str = "_INBOX"
    """Subjects of answers begin with it; for users who may subscribe to nothing else."""
    client_name: str = "tranship"
    """What the server's monitoring calls our connections."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("duplicate_window", self.duplicate_window)
        one_of("storage", self.storage, ("file", "memory"))
        if whole("replicas", self.replicas) > 5:
            raise invalid("replicas", self.replicas, "1 to 5")
        not_negative("max_bytes", self.max_bytes)
        whole("max_ack_pending", self.max_ack_pending)
        if self.lease < 0.1:
            raise invalid("lease", self.lease, "at least 0.1 seconds")
        for name in ("result_ttl", "dedup_window", "duplicate_window"):
            if getattr(self, name) < 0.1:
                raise invalid(name, getattr(self, name), "at least 0.1 seconds, the shortest that the server keeps")
        if not _SUBJECT.fullmatch(self.inbox_prefix):
            raise invalid("inbox_prefix", self.inbox_prefix, "a subject without wildcards, such as '_INBOX_alice'")
        if self.domain is not None and not _WORD.fullmatch(self.domain):
            raise invalid("domain", self.domain, "a name without dots and spaces")
