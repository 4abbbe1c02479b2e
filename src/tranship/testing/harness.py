"""What a backend author gives to the kit: how to reach the broker, and what can be done to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from tranship.ports import Backend
from tranship.settings import BrokerURL
from tranship.testing.proxy import FaultProxy

__all__ = ["Harness"]

T = TypeVar("T")


class Harness:
    """One broker under test. ``Harness("redis://localhost/0")`` is enough for a backend that is installed.

    Override what your broker can do more: :meth:`restart`, :meth:`pause`, :meth:`connections`, :meth:`leave_mark`,
    :attr:`refused_url`; and :meth:`make_backend` for a backend that no registry knows. Each of them left
    alone skips the cases that need it, with that reason.

    Args:
        url: where the broker is. The kit adds ``namespace`` and other options to it.
    """

    refused_url: str | None = None
    """A URL of the same broker that it must refuse for good: wrong password, no rights."""

    native_errors: bool = True
    """Whether a refusal comes as an exception of the broker's library; False: the driver speaks its protocol itself."""

    takes_tasks: bool = True
    """False: it keeps results and nothing else, as what a ``ResultStoreSpec`` describes."""

    quiet: bool = False
    """Whether nobody is to see what the processes that a case starts log."""

    stress: bool = False
    """Whether pytest runs the cases of level ``stress``, too; they take a minute or more."""
    patience: float = 16.0
    """Seconds after which something that must happen has not happened. Generous: test machines are busy."""
    many: int = 1000
    """How many messages are many. Fewer where each is several requests over HTTP."""
    results: Harness | None = None
    """Another broker that clients and workers under test keep results at; None: this one. Cases of ports ignore it."""
    notice: float = 30.0
    """Seconds within which a backend must notice by itself that nothing is answered any more."""
    worker_memory: float = 60.0
    """Seconds after which a worker is forgotten of which nothing is heard."""
    impatient: Mapping[str, Any] = {}
    """URL options with which silence is noticed in seconds. Only connections that a case is going to harm have them:
    a busy broker is as silent, for as long."""

    def __init__(self, url: str) -> None:
        self.base_url = url
        self._shared = _Shared()

    def url(self, namespace: str, options: Mapping[str, Any]) -> str:
        """Return the full URL for one namespace with these options."""
        return BrokerURL.parse(self.base_url).with_options(namespace=namespace, **options).reveal()

    def make_backend(self, url: str) -> Backend:
        """Return a backend for ``url`` that is not opened yet."""
        from tranship.registry import Registry

        return Registry().create(url, shared=self.shared, results=True)

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the state of an embedded backend, made by whoever comes first; one per harness."""
        return self._shared.get(key, make)

    async def restart(self) -> None:
        """Stop the broker without warning and start it again with its data; return when it answers."""
        raise NotImplementedError

    async def pause(self) -> None:
        """Freeze the broker: connections stay open, nothing is answered."""
        raise NotImplementedError

    async def resume(self) -> None:
        """End :meth:`pause`."""
        raise NotImplementedError

    def make_proxy(self) -> FaultProxy | None:
        """Return a proxy that forwards to the broker, not started; None: there is no wire that could be cut.

        Every URL with host and port has one.
        """
        place = BrokerURL.parse(self.base_url)
        return FaultProxy(place.host, place.port) if place.host and place.port else None

    async def connections(self) -> int | None:
        """How many connections the broker has from anywhere; None: it cannot tell."""
        return None

    async def leave_mark(self, key: str) -> None:
        """Cancel ``key`` as a program does that knows no tombstones; see :class:`~tranship.ports.CancelMarks`."""
        raise NotImplementedError

    async def take_mark(self, key: str) -> None:
        """Undo :meth:`leave_mark`."""
        raise NotImplementedError

    def can(self, name: str) -> bool:
        """Whether the author has overridden the method ``name``."""
        return getattr(type(self), name) is not getattr(Harness, name)


class _Shared:
    """Mutable state: what was made, by key, changed only under the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            found: T = self._made[key]
            return found
