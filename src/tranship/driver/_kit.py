"""Ports, or single verbs of ports, that a driver serves itself, and what the kit has for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tranship.clocks import Clock
from tranship.driver._connection import Connection
from tranship.driver._supervisor import Supervisor
from tranship.guards import Gate
from tranship.ports import ConnectionEvent, Consumer, ControlChannel, Inspector, ResultStore, Submitter

if TYPE_CHECKING:
    from tranship.driver._control import DriverControl
    from tranship.ports import ChordStore

__all__ = ["Kit", "OwnPorts", "instead"]

T = TypeVar("T")


class Kit:
    """What the kit has, for a driver that serves a port itself.

    Args:
        supervisor: of the backend.
        submitter, results: the kit's own ports, made of the primitives.
        control, inspector, consumer: make the others.

    Attributes:
        name, url: of the backend, the latter without secrets.
        gate: says whether the backend is open: the first line of each public verb of a port checks it.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        submitter: Submitter,
        results: ResultStore,
        control: Callable[[], DriverControl],
        inspector: Callable[[], Inspector],
        consumer: Callable[[Sequence[str]], Consumer],
    ) -> None:
        self.name: str = supervisor.name
        self.url: str = supervisor.url
        self.gate: Gate = supervisor.gate
        self.submitter: Submitter = submitter
        self.results: ResultStore = results
        self._supervisor, self._consumer = supervisor, consumer
        self._make_control, self._make_inspector = control, inspector

    @cached_property
    def control(self) -> DriverControl:
        """The kit's own control channel. ``keep`` stores what was cancelled elsewhere, by who has told every worker
        himself; ``kept`` returns every cancel that is not over.
        """
        return self._make_control()

    @cached_property
    def inspector(self) -> Inspector:
        """The kit's own inspector."""
        return self._make_inspector()

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Return one of the kit's consumers; it is closed with the backend, if nobody closes it before."""
        return self._consumer(queues)

    @property
    def connection(self) -> Connection:
        """The connection that is there now.

        Raises:
            ClosedError: the backend is closed, or was never opened.
            BrokerUnreachable: there is none.
        """
        return self._supervisor.current

    @property
    def generation(self) -> int:
        """How many connections there have been."""
        return self._supervisor.generation

    @property
    def clock(self) -> Clock:
        """The broker's clock."""
        return self._supervisor.clock

    @property
    def closed(self) -> bool:
        """Whether the backend has been closed."""
        return self._supervisor.gate.closed

    def check(self) -> None:
        """Return while the backend is open, whether there is a connection at this moment or not.

        Raises:
            ClosedError: it is closed, or was never opened.
            TranshipError: it has ended for good.
        """
        self._supervisor.check()

    async def run(self, verb: str, call: Callable[[Connection], Awaitable[T]], *, wait: float = 0.0) -> T:
        """Call something of the connection as the kit calls a verb: with a time limit, whatever becomes of the caller,
        and with every error as one of tranship's.

        Args:
            verb: its name, for errors.
            call: calls it.
            wait: seconds that it may wait for something beyond its round trip.
        """
        return await self._supervisor.call(verb, call, wait=wait)

    def on_restored(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Run ``hook`` over each later connection, before anybody is told of it: subscribe again, for example."""
        self._supervisor.on_restored.append(hook)

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        """Call ``listener`` when the connection is lost or restored."""
        self._supervisor.listeners.append(listener)


class OwnPorts:
    """The ports that a driver serves itself; the kit supplies the others.

    Each is a function that is called once, when the backend is made, and returns the port: a whole one of the driver's,
    or the kit's with some verbs of the driver's, see :func:`instead`. What such a port can do that the primitives don't
    show has to be declared. A port with an ``aclose`` is closed with the backend.

    Args:
        submitter: makes the submitter.
        consumer: makes a consumer, and is called for each.
        results: makes the result store. What the kit stores, of a task that is cancelled for example, goes there, too.
            No result is one step with a message's end then: FUSED_SETTLE is for a driver that has a consumer of its
            own, too, and declares it.
        control, inspector: make the others.
        chords: makes what counts the parts of chords, where other programs count with it.
    """

    def __init__(
        self,
        *,
        submitter: Callable[[Kit], Submitter] | None = None,
        consumer: Callable[[Kit, Sequence[str]], Consumer] | None = None,
        results: Callable[[Kit], ResultStore] | None = None,
        control: Callable[[Kit], ControlChannel] | None = None,
        inspector: Callable[[Kit], Inspector] | None = None,
        chords: Callable[[Kit], ChordStore] | None = None,
    ) -> None:
        self.submitter: Callable[[Kit], Submitter] | None = submitter
        self.consumer: Callable[[Kit, Sequence[str]], Consumer] | None = consumer
        self.results: Callable[[Kit], ResultStore] | None = results
        self.control: Callable[[Kit], ControlChannel] | None = control
        self.inspector: Callable[[Kit], Inspector] | None = inspector
        self.chords: Callable[[Kit], ChordStore] | None = chords


class _Instead:
    def __init__(self, port: Any, verbs: dict[str, Any]) -> None:
        self.__dict__.update(verbs, _port=port)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def __repr__(self) -> str:
        return f"<{self._port!r} with its own {', '.join(one for one in self.__dict__ if one != '_port')}>"


def instead(port: T, **verbs: Any) -> T:
    """Return a port that is ``port`` but for these verbs: ``instead(kit.results, get_many=...)``.

    Raises:
        TypeError: the port has no such verb.
    """
    for name in verbs:
        if not hasattr(port, name):
            raise TypeError(f"{type(port).__name__} has no verb {name!r}; it has {', '.join(_verbs(port))}")
    return cast("T", _Instead(port, verbs))


def _verbs(port: object) -> list[str]:
    return [name for name in dir(port) if not name.startswith("_")]
