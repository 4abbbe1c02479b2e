"""Who wants to know what happens on a connection."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tranship.ports import ConnectionEvent
from tranship_redis._wire import PushHandler

__all__ = ["Audience", "Hook", "Listener", "Remove"]

log = logging.getLogger("tranship.redis")

Hook = Callable[[], Awaitable[None]]
Listener = Callable[[ConnectionEvent, int], None]
Remove = Callable[[], None]
"""Takes back what was registered; a second call does nothing."""


class Audience:
    """Hooks for each new connection, listeners for losing and regaining it, handlers for what is pushed."""

    def __init__(self) -> None:
        self._pushes: dict[bytes, tuple[PushHandler, ...]] = {}
        self._hooks: list[Hook] = []
        self._listeners: list[Listener] = []

    def on_up(self, hook: Hook) -> Remove:
        """Await ``hook`` after each connect from now on, the first included, in order of registration.

        A hook registered by a hook is run the same time; one registered later, the next time. Until the last
        has returned nobody but the hooks, and callbacks of answers and pushes, can post; then RESTORED is
        announced. A hook that raises gives the connection up, and the next one is tried.
        """
        self._hooks.append(hook)
        return _remover(self._hooks, hook)

    def on_event(self, listener: Listener) -> Remove:
        """Call ``listener(event, generation)`` when the connection was lost and when it is back."""
        self._listeners.append(listener)
        return _remover(self._listeners, listener)

    def on_push(self, kind: bytes, handler: PushHandler) -> Remove:
        """Call ``handler`` with every push of a kind: ``b"message"``, ``b"pmessage"``, ``b"invalidate"``.

        There may be several; each gets all of them. What one raises is logged, and harms nobody.
        """
        self._pushes[kind] = (*self._pushes.get(kind, ()), handler)

        def remove() -> None:
            self._pushes[kind] = tuple(one for one in self._pushes[kind] if one is not handler)

        return remove

    async def _run_hooks(self) -> None:
        done: list[Hook] = []
        while hook := next((one for one in self._hooks if one not in done), None):  # one may bring others
            done.append(hook)
            await hook()

    def _announce(self, event: ConnectionEvent, generation: int) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event, generation)
            except Exception:
                log.exception("telling of %s failed", event)


def _remover(registered: list[Any], one: object) -> Remove:
    def remove() -> None:
        registered[:] = [other for other in registered if other is not one]

    return remove
