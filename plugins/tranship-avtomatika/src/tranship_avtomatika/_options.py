"""The URL options of an orchestrator."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from tranship.checks import invalid, positive
from tranship.errors import InvalidOptionError
from tranship.settings import CommonOptions

__all__ = ["AvtomatikaOptions", "tls_context"]


@dataclass(frozen=True, kw_only=True)
class AvtomatikaOptions(CommonOptions):
    """Options after the ``?`` of an ``avtomatika+http://`` URL; times are seconds.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    client_token: str | None = None
    """The token of who submits jobs; without one a URL is good for workers only."""
    jobs: str = "/api/v1/jobs"
    """Where the orchestrator has its jobs: a task ``name`` is the blueprint with the endpoint ``/jobs/name``."""
    sts: bool = False
    """Whether a worker shows its own token only to get one that is good for an hour, which it then shows instead."""
    secret_key: str | None = None
    """``ORCHESTRATOR_SECRET_KEY``; with it a worker runs only what the orchestrator has signed."""
    websocket: bool = True
    """Whether cancels are heard over a WebSocket at once; otherwise they are heard with the next heartbeat."""
    poll_timeout: float = 60.0
    """How long the orchestrator may keep a worker waiting for a task: more than its ``WORKER_POLL_TIMEOUT_SECONDS``."""
    connect_timeout: float = 5.0
    """For one attempt to connect."""
    command_timeout: float = 10.0
    """For an answer to everything but the question for a task."""
    worker_type: str = "tranship"
    """What a worker says that it is, unless its label ``worker_type`` says it."""
    ca_certs: str | None = None
    """``avtomatika+https``: file with the certificates to trust; None: the system's."""
    certfile: str | None = None
    """``avtomatika+https``: file with our own certificate, for orchestrators that know workers by it."""
    keyfile: str | None = None
    """``avtomatika+https``: file with its key."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("poll_timeout", "connect_timeout", "command_timeout"):
            positive(name, getattr(self, name))
        if not self.jobs.startswith("/"):
            raise invalid("jobs", self.jobs, "a path such as /api/v1/jobs")
        if self.namespace:
            raise invalid("namespace", self.namespace, "none: an orchestrator has no namespaces")


def tls_context(options: AvtomatikaOptions) -> ssl.SSLContext:
    """Return how ``https`` is spoken.

    Raises:
        InvalidOptionError: a file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_certs)
        if options.certfile:
            context.load_cert_chain(options.certfile, options.keyfile)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(one for one in (options.ca_certs, options.certfile, options.keyfile) if one)
        raise InvalidOptionError(f"TLS cannot be set up with {files}: {error}", option="ca_certs") from error
    return context
