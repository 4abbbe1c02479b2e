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
from tranship.errors import BrokerUnreachable, PluginError
from tranship_kombu._errors import missing
from tranship_kombu._held import Gone, Held
from tranship_kombu._messages import prepared, undecompressed
from tranship_kombu._place import Place
from tranship_kombu._redis import OneStep

__all__ = ["LOOK", "Client", "load"]

log = logging.getLogger("tranship.kombu")

LOOK: Final = 1.0
"""Seconds that one look may take where more and more comes: each message is a round trip, or several, and all of them
have to be done in ``command_timeout``."""
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
    except (ImportError, NameError) as error:
        # Without its library kombu's module for Kafka refers to names that it does not have.
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
        self._native: Any = None
        """py-amqp's connection, on AMQP. Kombu's would open another one in its place when it is lost."""
        self._gets: Any = None
        self._puts: Any = None
        self._one_step: OneStep | None = None
        """What takes messages on Redis."""
        self._declared: set[str] = set()
        self._returned: list[object] = []
        """What the server of AMQP had no queue for."""
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
        if transport.amqp:
            self._native = connection._connection  # noqa: SLF001 - kombu's property would connect again
        self._gets = (self._native or connection).channel()
        self._gets.Message = undecompressed(self._gets.Message)
        self._puts = self._native.channel() if transport.amqp else self._gets
        if transport.amqp:
            self._puts.events["basic_return"].add(lambda *returned: self._returned.append(returned))
        if transport.alias in _REDIS:
            self._one_step = OneStep(self._gets)
            self._gets._get = self._one_step  # noqa: SLF001 - what each transport has
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
        if self._native is not None:
            with _quietly("closing the socket"):
                # A goodbye that fails leaves it open.
                self._native.collect()

    def cut(self) -> None:
        """Break the connection under a call that hangs; called from another thread."""
        with _quietly("cutting"):
            if self._place.transport.name == "sqla" and self._gets is not None:
                self._gets.cut()
                return
            found = getattr(self._native, "sock", None)
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
            channel = self._native.channel()
            channel.queue_declare(queue=name, durable=True, exclusive=False, auto_delete=False)
            channel.close()

    def _there(self, name: str) -> bool:
        channel = self._native.channel()
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
        """Have the queues."""
        self.ensure(list(dict.fromkeys(one.queue for one in messages)))

    def publish(self, outgoing: Outgoing) -> None:
        """Publish one message, and return when the broker has it."""
        transport, name = self._place.transport, self._named(outgoing.queue)
        message = prepared(self._puts, outgoing, levels=transport.levels, amqp=transport.amqp)
        if not transport.amqp:
            self._puts.basic_publish(message, exchange="", routing_key=name)
        elif self._came_back(message, name):
            # The queue was deleted meanwhile.
            self._declared.discard(name)
            self._ensure(name)
            if self._came_back(message, name):
                raise BrokerUnreachable(f"{self._place.url}: the queue {name!r} is deleted again and again")

    def _came_back(self, message: Any, name: str) -> bool:
        """Publish to a queue of AMQP; True: there is none."""
        self._returned.clear()
        self._puts.basic_publish(message, exchange="", routing_key=name, mandatory=True)
        return bool(self._returned)

    # Taking.

    def get(self, slots: Sequence[Slot], limit: int) -> list[tuple[Held, Any]]:
        """Get what is there, up to ``limit``, for a second at most; of several queues one message of each in turn."""
        got: list[tuple[Held, Any]] = []
        until = time.monotonic() + LOOK
        queues = list(dict.fromkeys(queue for queue, _ in slots))
        try:
            self.ensure(queues)
            with self.together():
                while queues and len(got) < limit and (not got or time.monotonic() < until):
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
        elif self._one_step is not None:
            self._one_step.ping()
        elif self._declared:
            # Not by a passive declaration: kombu takes a queue that is empty for one that is not there.
            self._gets._size(next(iter(self._declared)))  # noqa: SLF001 - each transport has it, and nothing else

    def beat(self) -> None:
        """Tell the server now and then that we live, where it wants to know."""
        if self._place.transport.amqp and time.monotonic() - self._beat > _BEAT:
            self._beat = time.monotonic()
            self._native.heartbeat_tick()


@contextlib.contextmanager
def _quietly(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever happens, it is not used any more
        log.debug("%s: %r", doing, error)
