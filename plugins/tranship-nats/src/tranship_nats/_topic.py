"""Live signals: a subject for each name, which no stream keeps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tranship.driver import Heard, Subscriptions
from tranship_nats._connection import NatsConnection
from tranship_nats._message import NO_HEADERS, frame
from tranship_nats._naming import Names

__all__ = ["NatsTopic"]


class NatsTopic:
    """See :class:`tranship.driver.Topic`.

    Args:
        connection: what it goes over.
        names: of the namespace.
    """

    def __init__(self, connection: NatsConnection, names: Names) -> None:
        self._connection, self._names = connection, names
        self._subscriptions = Subscriptions()
        self._sids: dict[str, int] = {}

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Send a message for each."""
        for name, value in items:
            self._connection.post(frame(self._names.signal(name).encode(), b"", NO_HEADERS, value))

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Subscribe to each that nobody has subscribed to."""
        for name in self._subscriptions.add(names, heard):
            self._sids[name] = self._connection.listen(self._names.signal(name), partial(self._told, name))

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Unsubscribe from each that nobody wants to hear any more."""
        for name in self._subscriptions.remove(names, heard):
            self._connection.unlisten(self._sids.pop(name))

    def _told(self, name: str, _subject: bytes, _reply: bytes, data: bytes, _block: bytes | None) -> None:
        self._subscriptions.tell(name, data)

    async def active(self) -> None:
        """Return when the server knows of all subscriptions."""
        await self._connection.settled()
