"""What arrives becomes a delivery, with everything that is needed to settle it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tranship.ports import CountKind, Delivery
from tranship.protocol import RawMessage
from tranship_rabbitmq._names import Names, Physical
from tranship_rabbitmq._tables import DELIVERIES, Tables, ours
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import NO_TABLE, Properties, properties_of
from tranship_rabbitmq.amqp.table import TableError, extended

__all__ = ["DeliveryToken", "delivery_of", "recounted", "token_of", "uncounted"]


@dataclass(slots=True, eq=False)
class DeliveryToken:
    """What a delivery is to this driver."""

    channel: Channel
    arrived: Arrived
    properties: Properties
    physical: Physical
    settled: bool = False

    @property
    def ours(self) -> bool:
        """Whether it can still be settled."""
        return not self.settled and self.channel.ended is None


def delivery_of(
    channel: Channel, arrived: Arrived, physical: Physical, *, tables: Tables, names: Names, generation: int
) -> Delivery:
    """Return the delivery for a message that arrived; nothing in it is believed."""
    try:
        properties = properties_of(arrived.header)
    except TableError:
        properties = Properties()
    read = tables.read(properties.table, properties.correlation_id)
    raw = RawMessage(
        read.headers, arrived.body, properties.content_type, properties.content_encoding, _rest(properties)
    )
    return Delivery(
        message=raw,
        queue=physical.queue,
        priority=names.level(physical, properties.priority),
        token=DeliveryToken(channel, arrived, properties, physical),
        delivery_count=read.deliveries + 1,
        count_kind=CountKind.AT_LEAST,
        generation=generation,
        scheduled=read.scheduled,
    )


def token_of(delivery: Delivery) -> DeliveryToken:
    """The driver's part of a delivery."""
    token: DeliveryToken = delivery.token
    return token


def recounted(delivery: Delivery) -> Properties:
    """Return the message's properties with this delivery on its record, for a copy of it."""
    return _with_count(token_of(delivery).properties, delivery.delivery_count)


def uncounted(delivery: Delivery) -> Properties:
    """Return the message's properties as if it had not been delivered this time, for a copy of it."""
    return _with_count(token_of(delivery).properties, delivery.delivery_count - 1)


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


def _rest(properties: Properties) -> Mapping[str, Any]:
    return {"reply_to": properties.reply_to, "correlation_id": properties.correlation_id}
