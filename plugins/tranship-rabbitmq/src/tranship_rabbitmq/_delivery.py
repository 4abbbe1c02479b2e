"""What arrives becomes what the kit takes, with everything that is needed to end it, and to copy it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tranship.driver import Taken
from tranship.protocol import RawMessage
from tranship_rabbitmq._names import Names, Physical
from tranship_rabbitmq._tables import DELIVERIES, Tables, ours
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import NO_TABLE, Properties, properties_of
from tranship_rabbitmq.amqp.table import TableError, extended

__all__ = ["DeliveryToken", "taken_of"]


class DeliveryToken:
    """What a message in our hands is to this driver.

    Args:
        channel: what it came over; it is ours as long as that lives.
        arrived, properties: as it came.
        physical: where it came from.
        settled: called when it has ended.

    Attributes:
        count: how often it was delivered, this time included.
        aside: whether it was only looked at: it goes back as it is, without a copy.
        heard: called when the server has heard of its end.
    """

    __slots__ = ("_settled", "arrived", "aside", "channel", "count", "done", "heard", "physical", "properties")

    def __init__(
        self,
        channel: Channel,
        arrived: Arrived,
        properties: Properties,
        physical: Physical,
        settled: Callable[[Arrived], None],
    ) -> None:
        self.channel, self.arrived, self.properties, self.physical = channel, arrived, properties, physical
        self._settled, self.heard = settled, _ignored
        self.count, self.aside, self.done = 1, False, False

    @property
    def ours(self) -> bool:
        """Whether it can still be ended."""
        return not self.done and self.channel.ended is None

    def remove(self) -> None:
        """Acknowledge it."""
        self._end("basic.ack", self.arrived.tag, False)

    def give_back(self) -> None:
        """Give it back, to where it was; the server marks it as delivered before."""
        self._end("basic.nack", self.arrived.tag, False, True)

    def _end(self, name: str, *arguments: object) -> None:
        self.done = True
        self.channel.send(name, *arguments)
        self._settled(self.arrived)

    def copy(self, *, counted: bool) -> tuple[Properties, bytes, str]:
        """Return a copy, for the queue that it is from.

        Args:
            counted: with this delivery on its record; otherwise as if it had not been delivered this time.
        """
        return _with_count(self.properties, self.count - (not counted)), self.arrived.body, self.physical.name


def taken_of(
    channel: Channel,
    arrived: Arrived,
    physical: Physical,
    *,
    tables: Tables,
    names: Names,
    settled: Callable[[Arrived], None],
) -> Taken:
    """Return what is taken with a message that arrived; nothing in it is believed."""
    try:
        properties = properties_of(arrived.header)
    except TableError:
        properties = Properties()
    read = tables.read(properties.table, properties.correlation_id)
    rest = {"reply_to": properties.reply_to, "correlation_id": properties.correlation_id}
    raw = RawMessage(read.headers, arrived.body, properties.content_type, properties.content_encoding, rest)
    token = DeliveryToken(channel, arrived, properties, physical, settled)
    token.count = read.deliveries + 1
    taken = Taken(token, physical.queue, names.level(physical, properties.priority), raw, token.count)
    taken.scheduled = read.scheduled
    return taken


def _ignored() -> None:
    """Nobody wants to know."""


def _with_count(properties: Properties, deliveries: int) -> Properties:
    try:
        headers = ours(properties.headers())
    except TableError:
        headers = {}
    count = {DELIVERIES: deliveries} if deliveries else {}
    try:
        return properties.with_headers({**headers, **count})
    except TableError:
        # It can be read and not be written, as 64 bits without a sign: as it came, with the count behind it.
        return replace(properties, table=extended(properties.table or NO_TABLE, count))
