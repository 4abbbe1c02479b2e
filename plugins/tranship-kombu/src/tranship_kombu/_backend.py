"""The backend: what the driver kit makes of a connection to kombu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tranship.driver import DriverBackend
from tranship.ports import Capability, Level, Support
from tranship.settings import BackendConfig
from tranship_kombu._client import load
from tranship_kombu._connection import KombuConnection
from tranship_kombu._errors import Explainer
from tranship_kombu._options import read_options
from tranship_kombu._place import Place
from tranship_kombu._transports import Transport

__all__ = ["declared", "make_backend"]

_LOST: Final = (
    "a worker that is killed loses what it holds: kombu's transport takes a message away before it is done; use a "
    "broker that keeps it, such as redis://, amqp:// or kombu+sqla+postgresql://"
)


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of any transport of kombu; the registry calls this."""
    options, given = read_options(config.url)
    place = Place.of(config.url, options, given)
    transport_class = load(place)

    def kinds() -> tuple[type[BaseException], ...]:
        return (*transport_class.connection_errors, *transport_class.channel_errors)

    explain = Explainer(config.url, place.transport.install, kinds)
    prefix = f"{options.namespace}." if options.namespace else ""

    async def connect() -> KombuConnection:
        return await KombuConnection.open(place, prefix, explain)

    timing = options.timing
    opening = options.connect_timeout * len(config.url.hosts) + 1.0
    if place.transport.opens_by_request:
        opening += options.command_timeout
    return DriverBackend(
        f"kombu+{place.transport.name}",
        config,
        options=options,
        connect=connect,
        classify=explain,
        declared=declared(place.transport, place.polling),
        timing=timing._replace(connect=opening),
        warnings=lambda: _warnings(place.transport),
    )


def declared(transport: Transport, polling: float) -> Mapping[Capability, Support | Level]:
    """Return what no verb shows of a transport."""
    delay = {"resolution": polling, "clock": "host", "held_by": "workers"}
    found: dict[Capability, Support | Level] = {Capability.DELAY: Support(Level.EMULATED, delay)}
    if transport.durable:
        lost = {"held": "lost"} if transport.held == "lost" else {}
        found[Capability.DURABLE] = Support(Level.NATIVE, lost)
    if transport.shared:
        found[Capability.CROSS_PROCESS] = Level.NATIVE
    if transport.levels:
        found[Capability.PRIORITY] = Support(Level.NATIVE, {"strict": "per queue"})
    return found


def _warnings(transport: Transport) -> Sequence[str]:
    return [_LOST] if transport.held == "lost" and transport.shared else []
