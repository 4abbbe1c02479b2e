"""The backend: what the driver kit makes of connections to RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tranship import codec
from tranship.driver import DriverBackend, OwnPorts, Timing
from tranship.errors import TranshipError
from tranship.ports import Capability, CountKind, Level, Support
from tranship.settings import BackendConfig
from tranship_rabbitmq._connection import RabbitConnection
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._control import RabbitControl
from tranship_rabbitmq._delays import TICK
from tranship_rabbitmq._errors import classify, retryable
from tranship_rabbitmq._link import Dialler
from tranship_rabbitmq._options import RabbitOptions, places

__all__ = ["make_backend"]


def make_backend(config: BackendConfig) -> DriverBackend:
    """Return the backend of ``amqp://host``, tasks on Celery's own queues; the registry calls this."""
    return RabbitDriver(config, config.options_as(RabbitOptions)).backend


class RabbitDriver:
    """Connects, and makes the ports that RabbitMQ serves in its own way.

    Args:
        config: of the backend.
        options: of its URL.
    """

    def __init__(self, config: BackendConfig, options: RabbitOptions) -> None:
        self._options, self._ctx = options, Context(options)
        self._dialler = Dialler(places(config.url, options), options)
        self._last: RabbitConnection | None = None
        # Each server of the URL is tried. The driver limits each call by itself: what a server that is blocked does not
        # answer is no reason to give the connection up, nor is what it does not confirm.
        timing = Timing(
            connect=options.connect_timeout * len(config.url.hosts) + options.command_timeout,
            command=None,
            keepalive=None,
            close=5.0,
        )
        self.backend = DriverBackend(
            "rabbitmq",
            config,
            options=options,
            connect=self._connect,
            classify=classify,
            timing=timing,
            declared=_declared(options),
            warnings=self._warnings,
            own=OwnPorts(control=lambda kit: RabbitControl(self._ctx, kit)),
        )

    async def _connect(self) -> RabbitConnection:
        """Connect, and look at the server.

        Raises:
            BrokerUnreachable: nobody there within ``connect_timeout``.
            BrokerRefused: wrong password, no such virtual host, missing rights, a certificate we do not trust.
            UnsupportedError: older than 3.9.
        """
        connection = RabbitConnection(self._ctx, self._dialler)
        try:
            await connection.open()
            if self._last is not None and self._last.consuming.server:
                # Whoever consumed before goes on at once.
                await connection.consuming.open()
        except TranshipError as error:
            await connection.aclose()
            # What worked before will work again when somebody has mended it.
            raise (error if self._last is None else retryable(error)) from error.__cause__
        except BaseException:
            await connection.aclose()
            raise
        self._last = connection
        return connection

    def _warnings(self) -> Sequence[str]:
        """What is set at the server in a way that loses or delays work."""
        publishing = None if self._last is None else self._last.publishing
        blocked = publishing.wire.blocked if publishing is not None and publishing.up else None
        return list(_warnings(self._options, blocked, self._ctx.odd))


def _declared(options: RabbitOptions) -> Mapping[Capability, Support | Level]:
    """What RabbitMQ can do: all but keep results, dedup keys and leases."""
    content_type = codec.JSON if options.result_serializer == "json" else codec.MSGPACK
    back: dict[str, Any] = {"redelivered": "back"}
    return {
        Capability.DURABLE: Level.NATIVE,
        Capability.CROSS_PROCESS: Level.NATIVE,
        Capability.PRIORITY: Support(Level.EMULATED, {"strict": "per message"}),
        Capability.ORDERED: Support(Level.NATIVE, back),
        Capability.DELAY: Support(Level.EMULATED, {"resolution": TICK}),
        Capability.DELIVERY_COUNT: Support(
            Level.NATIVE if options.queue_type == "quorum" else Level.EMULATED, {"kind": CountKind.AT_LEAST}
        ),
        Capability.RESULT_PUSH: Support(Level.NATIVE, {"to": "submitter", "content_type": content_type}),
        Capability.CONTROL: Level.EMULATED,
        Capability.DEAD_LETTERS: Level.EMULATED,
        Capability.INSPECT_DEPTH: Level.NATIVE,
        Capability.INSPECT_IN_FLIGHT: Level.NONE,
        Capability.INSPECT_OLDEST: Level.NONE,
    }


def _warnings(options: RabbitOptions, blocked: str | None, odd: Mapping[str, str]) -> Iterator[str]:
    """Yield what is set in a way that loses or delays work, each with its cure.

    Args:
        options: of the URL.
        blocked: why the server takes no messages; None: it does.
        odd: queues with arguments of their operator's, with the server's words for them.
    """
    if options.consumer_timeout is not None:
        yield (
            f"a task that runs longer than consumer_timeout ({options.consumer_timeout:g} s, as the URL says; the "
            "server's own value cannot be asked for) is taken back by the server while it still runs: raise "
            "consumer_timeout in rabbitmq.conf and in the URL, or give tasks a run_timeout below it"
        )
    if options.queue_type == "classic":
        yield (
            "classic queues do not count deliveries: tranship counts what comes back by sending it again, to the end "
            "of its queue; set queue_type=quorum for queues without Celery peers that are configured otherwise"
        )
    if blocked is not None:
        yield f"the server takes no messages ({blocked}): free memory or disk, or consume what is queued"
    for name, words in odd.items():
        yield f"queue {name!r} has arguments of its own ({words}): what they drop, tranship does not hear of"
