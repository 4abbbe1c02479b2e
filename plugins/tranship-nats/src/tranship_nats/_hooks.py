"""Who wants to know of a connection that was lost, and of one that is new."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from tranship.errors import TranshipError
from tranship.ports import ConnectionEvent

__all__ = ["Hooks"]

log = logging.getLogger("tranship.nats")

Hook = Callable[[], Awaitable[None]]
Listener = Callable[[ConnectionEvent, int], None]


class Hooks:
    """Listeners and hooks; one that fails does not keep the others from being called."""

    def __init__(self) -> None:
        self._hooks: list[Hook] = []
        self._listeners: list[Listener] = []

    def on_event(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` when the connection was lost, and when it is back; return what takes it back."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def on_up(self, hook: Hook) -> Callable[[], None]:
        """Await ``hook`` on every further connection, before it is announced; return what takes it back."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook) if hook in self._hooks else None

    async def call(self) -> None:
        """Await every hook."""
        for hook in list(self._hooks):
            try:
                await hook()
            except TranshipError as error:
                log.warning("after a reconnect: %s", error)
            except Exception:
                log.exception("after a reconnect something failed in an unexpected way")

    def tell(self, event: ConnectionEvent, generation: int) -> None:
        """Call every listener."""
        for listener in list(self._listeners):
            try:
                listener(event, generation)
            except Exception:
                log.exception("a listener failed on %s", event)
