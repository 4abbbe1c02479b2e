"""The two backends: an orchestrator, which takes tasks, and a shepherd, which is told how one ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tranship.driver import DriverBackend, Kit, OwnPorts
from tranship.errors import InvalidURLError, UnsupportedError
from tranship.ports import Capability, Consumer, Level, Support
from tranship.settings import BackendConfig, BrokerURL
from tranship_azolla._connection import NO_WORKERS, AzollaConnection, ShepherdConnection
from tranship_azolla._link import Link
from tranship_azolla._options import AzollaOptions
from tranship_azolla._results import OrchestratorResults, ShepherdResults
from tranship_azolla._submitter import AzollaSubmitter

__all__ = ["make_orchestrator", "make_shepherd"]

PORT: Final = 52710
SHEPHERD_PORT: Final = 50052
DOMAIN: Final = "default"
"""The domain of those who say none."""

_ORCHESTRATOR: Final[Mapping[Capability, Support | Level]] = {
    Capability.DURABLE: Level.NATIVE,
    Capability.CROSS_PROCESS: Level.NATIVE,
    Capability.RESULTS: Level.NATIVE,
    Capability.KNOWS_IDS: Level.NATIVE,
    Capability.RESULT_TTL: Support(Level.NATIVE, {"ttl": "per-store"}),
}
_SHEPHERD: Final[Mapping[Capability, Support | Level]] = {
    Capability.CROSS_PROCESS: Level.NATIVE,
    Capability.RESULT_PUSH: Support(Level.NATIVE, {"to": "shepherd"}),
}


def make_orchestrator(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``azolla://host:52710``.

    Raises:
        InvalidURLError: a URL with parts that an orchestrator has no use for.
        InvalidOptionError: an option outside what is allowed.
    """
    options = config.options_as(AzollaOptions)
    target, domain = _target(config.url, PORT), options.namespace or DOMAIN

    async def connect() -> AzollaConnection:
        connection = AzollaConnection(_link(target, config.url, options))
        try:
            await connection.ping(timeout=options.connect_timeout)
        except BaseException:
            await connection.aclose()
            raise
        return connection

    def consumer(kit: Kit, queues: Sequence[str]) -> Consumer:  # noqa: ARG001 - as any backend's
        raise UnsupportedError(NO_WORKERS)

    own = OwnPorts(
        submitter=lambda kit: AzollaSubmitter(kit, domain, options.max_message_size),
        results=lambda kit: OrchestratorResults(kit, domain),
        consumer=consumer,
    )
    return DriverBackend("azolla", config, options=options, connect=connect, declared=_ORCHESTRATOR, own=own)


def make_shepherd(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``azolla+shepherd://127.0.0.1:50052``; raises as :func:`make_orchestrator`."""
    options = config.options_as(AzollaOptions)
    target = _target(config.url, SHEPHERD_PORT)

    async def connect() -> ShepherdConnection:
        return ShepherdConnection(_link(target, config.url, options))

    own = OwnPorts(results=ShepherdResults)
    return DriverBackend("azolla-shepherd", config, options=options, connect=connect, declared=_SHEPHERD, own=own)


def _link(target: str, url: BrokerURL, options: AzollaOptions) -> Link:
    return Link(target, str(url), timeout=options.command_timeout, limit=options.max_message_size)


def _target(url: BrokerURL, port: int) -> str:
    if url.username or url.password:
        raise InvalidURLError(f"the broker URL {url} has a user or a password, and Azolla's protocol has neither")
    if url.more_hosts or url.path.strip("/"):
        raise InvalidURLError(f"the broker URL {url} is none of Azolla's; expected {url.scheme}://host:{port}")
    host = url.host or "localhost"
    return f"[{host}]:{url.port or port}" if ":" in host else f"{host}:{url.port or port}"
