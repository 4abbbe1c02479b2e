"""One connection of kombu, used by one thread: everything here blocks, and is called in that thread alone."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import kombu
from kombu.transport import get_transport_cls

from tranship.driver import Outgoing, Slot
from tranship.errors import PluginError
from tranship_kombu._errors import missing
from tranship_kombu._held import Gone, Held
from tranship_kombu._messages import prepared, undecompressed
from tranship_kombu._place import Place

__all__ = ["Client", "load"]

log = logging.getLogger("tranship.kombu")

_RESTORE: Final = 1.0
"""Seconds between two looks for what others hold for too long, on transports where whoever consumes has to look."""
_BEAT: Final = 1.0
_REDIS: Final = ("redis", "rediss", "sentinel")


def load(place: Place) -> type[Any]:
    """Return the class of a transport, with the libraries that it needs.

    Raises:
        PluginError: this kombu does not have it, or one of its libraries is not installed.
    """
    transport = place.transport
    try:
        # kombu's own first: it knows best what is missing.
        found = get_transport_cls(transport.alias)
        found = get_transport_cls(transport.own) if transport.own else found
    except ImportError as error:
        raise missing(place.url.scheme, transport.install, error) from error
    except KeyError as error:
        here = f"kombu {kombu.__version__} has no transport {transport.alias!r}"
        raise PluginError(f"{here}: pip install --upgrade '{transport.install}'") from error
    made: type[Any] = found
    return made


class Client:
    """Opens, publishes, gets and ends.

    Args:
        place: the broker.
        prefix: what the names of its queues begin with there.
    """

    def __init__(self, place: Place, prefix: str) -> None:
        self._place, self._prefix = place, prefix
        self._connection: Any = None
        self._gets: Any = None
        self._puts: Any = None
        self._declared: set[str] = set()
        self._holding: set[Held] = set()
        self._restored = self._beat = 0.0

    # Opening and closing.

    def open(self) -> None:
        """Connect; each host of the URL is tried once."""
        place, transport = self._place, self._place.transport
        found = load(place)
        self._connection = connection = kombu.Connection(**place.arguments)
        if transport.own:
            connection.transport_cls = found
        connection.ensure_connection(
            max_retries=len(place.url.hosts) - 1,
            interval_start=0,
            interval_step=0,
            interval_max=0,
            reraise_as_library_errors=False,
        )
        self._gets = connection.channel()
        self._gets.Message = undecompressed(self._gets.Message)
        self._puts = connection.channel() if transport.amqp else self._gets
        if transport.name == "filesystem" and transport.own:
            self._gets.open_folders()
        elif transport.name == "sqla":
            self._gets.lease = place.options.lease
            self._gets.open_tables()

    def close(self) -> None:
        """Give back what is held, and close. Never raises: whoever calls it has done with it."""
        connection = self._connection
        if connection is None:
            return
        with _quietly("giving back"):
            # Not all transports do that by themselves.
            for held in list(self._holding):
                self.give_back(held)
        self._connection = None
        for channel in {id(one): one for one in (self._gets, self._puts) if one is not None}.values():
            with _quietly("closing a channel"):
                channel.close()
        if self._gets is not None and self._place.transport.name == "sqla":
            with _quietly("closing the pool"):
                self._gets.dispose()
        with _quietly("closing"):
            connection.release()

    def cut(self) -> None:
        """Break the connection under a call that hangs; called from another thread."""
        with _quietly("cutting"):
            if self._place.transport.name == "sqla" and self._gets is not None:
                self._gets.cut()
                return
            native: Any = getattr(self._connection, "_connection", None)
            found = getattr(native, "sock", None)
            if isinstance(found, socket.socket):
                found.shutdown(socket.SHUT_RDWR)

    @property
    def native(self) -> Any:
        """Kombu's connection."""
        return self._connection

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Do what is done meanwhile in one step, where the transport knows such a thing."""
        return self._gets.together() if self._place.transport.name == "sqla" else contextlib.nullcontext()

    # Queues.

    def ensure(self, queues: Sequence[str]) -> None:
        """Make queues that are not there; those of AMQP are looked for first, as they may be of another kind."""
        for queue in queues:
            self._ensure(self._named(queue))

    def _ensure(self, name: str) -> None:
        if name in self._declared:
            return
        if self._place.transport.amqp:
            self._declare_in_amqp(name)
        else:
            self._gets.queue_declare(queue=name, durable=True, exclusive=False, auto_delete=False)
            if self._place.transport.name == "gcpubsub":
                # There a queue is a subscription to the topic of its exchange.
                self._gets.exchange_declare(exchange=name, type="direct", durable=True)
                self._gets.queue_bind(queue=name, exchange=name, routing_key=name)
        self._declared.add(name)

    def _declare_in_amqp(self, name: str) -> None:
        # A refusal closes the channel that it comes on.
        if not self._there(name):
            channel = self._connection.channel()
            channel.queue_declare(queue=name, durable=True, exclusive=False, auto_delete=False)
            channel.close()

    def _there(self, name: str) -> bool:
        channel = self._connection.channel()
        try:
            channel.queue_declare(queue=name, passive=True)
        except self._connection.channel_errors as error:
            if getattr(error, "reply_code", 0) != 404:
                raise
            return False
        channel.close()
        return True

    def _named(self, queue: str) -> str:
        return self._prefix + queue

    # Sending.

    def before_sending(self, messages: Sequence[Outgoing]) -> None:
        """Have the queues; on AMQP those that were deleted meanwhile, too: what is sent to none is dropped there."""
        if self._place.transport.amqp:
            self._declared -= {self._named(one.queue) for one in messages}
        self.ensure(list(dict.fromkeys(one.queue for one in messages)))

    def publish(self, outgoing: Outgoing) -> None:
        """Publish one message, and return when the broker has it."""
        transport = self._place.transport
        message = prepared(self._puts, outgoing, levels=transport.levels, amqp=transport.amqp)
        self._puts.basic_publish(message, exchange="", routing_key=self._named(outgoing.queue))

    # Taking.

    def get(self, slots: Sequence[Slot], limit: int) -> list[tuple[Held, Any]]:
        """Get what is there, up to ``limit``; of several queues one message of each in turn."""
        got: list[tuple[Held, Any]] = []
        queues = list(dict.fromkeys(queue for queue, _ in slots))
        try:
            self.ensure(queues)
            with self.together():
                while queues and len(got) < limit:
                    queues = [queue for queue in queues if len(got) < limit and self._got(queue, got)]
            if not got:
                self._look_around()
        except Exception as error:
            if not got or self._place.transport.name == "sqla":
                raise
            # What was got is served first; what is wrong comes again.
            log.debug("getting from %s: %r", self._place.url, error)
        return got

    def _got(self, queue: str, got: list[tuple[Held, Any]]) -> bool:
        found = self._gets.basic_get(queue=self._named(queue), no_ack=False)
        if found is None:
            return False
        message = self._gets.message_to_python(found)
        held = Held(queue, message.delivery_tag)
        self._holding.add(held)
        got.append((held, message))
        return True

    def _look_around(self) -> None:
        """What a consumer of kombu's does when nothing comes."""
        now = time.monotonic()
        if self._place.transport.timeout is not None and now - self._restored > _RESTORE:
            self._restored = now
            # Only on Redis it does anything: there consumers give back what others hold for too long.
            self._gets.qos.restore_visible()

    # Ending.

    def remove(self, held: Held) -> bool:
        """End a message; False: it was not ours any more."""
        return self._ended(held, lambda: self._gets.basic_ack(held.tag))

    def give_back(self, held: Held) -> bool:
        """Have it come again; False: it was not ours any more."""
        return self._ended(held, lambda: self._gets.basic_reject(held.tag, requeue=True))

    def renew(self, held: Held) -> bool:
        """Keep it for another lease; False: it was not ours any more."""
        if not held.ours:
            return False
        try:
            self._gets.renew(held.tag)
        except Gone:
            held.ours = False
            self._holding.discard(held)
        return held.ours

    def _ended(self, held: Held, end: Any) -> bool:
        if not held.ours:
            return False
        try:
            end()
        except Gone:
            return False
        finally:
            held.ours = False
            self._holding.discard(held)
        return True

    # Keeping.

    def ping(self) -> None:
        """Make one round trip."""
        if self._place.transport.amqp:
            self._gets.basic_qos(0, 0, False)
        elif self._place.transport.name == "sqla":
            self._gets.ping()
        elif self._place.transport.alias in _REDIS:
            self._gets.client.ping()
        elif self._declared:
            # Not by a passive declaration: kombu takes a queue that is empty for one that is not there.
            self._gets._size(next(iter(self._declared)))  # noqa: SLF001 - each transport has it, and nothing else

    def beat(self) -> None:
        """Tell the server now and then that we live, where it wants to know."""
        if self._place.transport.amqp and time.monotonic() - self._beat > _BEAT:
            self._beat = time.monotonic()
            self._connection.heartbeat_check()


@contextlib.contextmanager
def _quietly(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever happens, it is not used any more
        log.debug("%s: %r", doing, error)
