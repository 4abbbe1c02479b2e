"""What a worker holds ready, such as models in memory: handlers say so, heartbeats tell it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tranship.checks import name_text

__all__ = ["HotCache"]

log = logging.getLogger("tranship.worker")

MOST: Final = 1000
"""Names in one cache."""


class HotCache:
    """A set of names, in the order in which they were added. May be used from any thread.

    It holds a thousand; whoever goes on adding, and removes nothing, drops the oldest, and the log says so once.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._lock = threading.Lock()
        self._warned = False
        self.on_change: Callable[[], None] = _nothing
        """Called after each change, on whatever thread; set by the worker."""

    def add(self, name: str) -> None:
        """Say that ``name`` is loaded. That it was already does no harm.

        Raises:
            InvalidOptionError: it is no text, empty, longer than 255 bytes, or has control characters.
        """
        name_text("a name in the hot cache", name)
        with self._lock:
            if name in self._names:
                return
            self._names[name] = None
            dropped = None
            if len(self._names) > MOST:
                dropped = next(iter(self._names))
                del self._names[dropped]
            warn, self._warned = dropped is not None and not self._warned, self._warned or dropped is not None
        if warn:
            log.warning(
                "the hot cache has more than %d names, the oldest are dropped (first: %r); remove what is not loaded "
                "any more",
                MOST,
                dropped,
            )
        self.on_change()

    def remove(self, name: str) -> None:
        """Say that ``name`` is not loaded any more. That it was not does no harm."""
        with self._lock:
            if name not in self._names:
                return
            del self._names[name]
        self.on_change()

    def clear(self) -> None:
        """Say that nothing is loaded."""
        with self._lock:
            changed = bool(self._names)
            self._names.clear()
        if changed:
            self.on_change()

    def hot(self, dependencies: Mapping[str, Sequence[str]]) -> list[str]:
        """Return the skills of which every dependency is here, by name."""
        with self._lock:
            return sorted(skill for skill, needs in dependencies.items() if all(one in self._names for one in needs))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<HotCache of {len(self)} names>"


def _nothing() -> None:
    pass
