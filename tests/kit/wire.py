"""A memory broker behind a wire that can be cut, with one flaw each, and the case that has to notice it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tranship.backends.memory import make_backend
from tranship.driver import Outgoing
from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable, SubmitUnknown
from tranship.ports import Capabilities, Capability, ConnectionEvent, Level, Received, Settled
from tranship.settings import BackendConfig, BrokerURL
from tranship.testing.faults import VERBS
from tranship.testing.harness import Harness

NOTICED = 0.2
"""Seconds of silence after which the sound driver gives its connection up."""


@dataclass(frozen=True)
class Flaw:
    """One way to be wrong about an outage."""

    name: str
    caught_by: str


FLAWS = (
    Flaw("denies what was done", "submit_answer_lost"),
    Flaw("denies what was done", "submit_truthful_over_cuts"),
    Flaw("claims what was not done", "submit_request_lost"),
    Flaw("loses the last at a restart", "submit_truthful_over_restart"),
    Flaw("loses what is held at a restart", "deliveries_survive_restart"),
    Flaw("forgets who waits", "waiters_survive_restart"),
    Flaw("forgets who waits", "black_hole_waiter"),
    Flaw("does not fence", "settle_answer_lost"),
    Flaw("drops what was held", "settle_over_reconnect"),
    Flaw("drops what was held", "extend_after_cut"),
    Flaw("drops what it took", "receive_answer_lost"),
    Flaw("drops what it took", "consume_over_cuts"),
    Flaw("misses signals", "control_feed_survives_cut"),
    Flaw("sleeps on", "reconnect_consume"),
    Flaw("never notices", "black_hole_submitter"),
    Flaw("takes silence for an empty queue", "black_hole_consumer"),
)


class WiredHarness(Harness):
    """A broker in memory that lies behind wires and can be restarted."""

    notice = 2.0

    def __init__(self, flaw: str = "") -> None:
        super().__init__("memory://wired")
        self.patience = 2.0 if flaw else 8.0
        self._flaw = flaw
        self._wires: list[Wire] = []

    def make_backend(self, url: str) -> Any:
        """Return a backend behind the wire that the URL names, or behind one of its own."""
        parsed = BrokerURL.parse(url)
        options = dict(parsed.options)
        number = options.pop("wire", None)
        wire = self._new_wire() if number is None else self._wires[int(number)]
        plain = BrokerURL(scheme=parsed.scheme, host=parsed.host, options=options)
        return Wired(make_backend(BackendConfig(plain, self.shared)), wire)

    def make_proxy(self) -> Any:
        """The wire of one backend."""
        return self._new_wire()

    async def restart(self) -> None:
        """Cut every wire; what was stored stays."""
        for wire in self._wires:
            wire.restart()

    def _new_wire(self) -> Wire:
        self._wires.append(Wire(self._flaw, len(self._wires)))
        return self._wires[-1]


class Wire:
    """Between one backend and its broker; offers what a FaultProxy does."""

    def __init__(self, flaw: str, number: int) -> None:
        self.flaw = flaw
        self.refused = self.silent = self.muted = self.noticed = self.forgets = self.again = False
        self.cut = asyncio.Event()
        self.events: list[Callable[[ConnectionEvent, int], None]] = []
        self.restarted: list[Callable[[], None]] = []
        self._number = number

    def start(self) -> Wire:
        return self

    def stop(self) -> None:
        self.events.clear()
        self.reset()

    def url_for(self, url: str) -> str:
        return BrokerURL.parse(url).with_options(wire=self._number).reveal()

    def blackhole(self, on: bool = True) -> None:
        self.silent = on
        if not on:
            self.reset()
        elif self.flaw != "never notices":
            asyncio.get_running_loop().call_later(NOTICED, self._notice)

    def mute(self, on: bool = True) -> None:
        self.muted = on
        if not on:
            self.reset()

    def refuse(self, on: bool = True) -> None:
        self.refused = on
        if not on:
            self._tell(ConnectionEvent.RESTORED)

    def reset(self) -> int:
        self._cut()
        self.again = self.flaw == "drops what it took"
        return 1

    def _cut(self) -> None:
        self._lose()
        if not self.refused:
            self._tell(ConnectionEvent.RESTORED)

    half_close = reset

    def restart(self) -> None:
        for restarted in self.restarted:
            restarted()
        self.reset()

    @property
    def away(self) -> bool:
        """Whether the driver knows that nobody is there."""
        return self.refused or (self.silent and self.noticed)

    def _notice(self) -> None:
        if self.silent:
            self._lose()
            self.noticed = True

    def _lose(self) -> None:
        self.noticed = False
        cut, self.cut = self.cut, asyncio.Event()
        cut.set()
        self._tell(ConnectionEvent.LOST)

    def _tell(self, event: ConnectionEvent) -> None:
        for listener in self.events:
            listener(event, 1)

    async def carry(self, name: str, verb: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """One request there and one answer back."""
        if self.away:
            raise BrokerUnreachable(f"{name}: nobody is there")
        cut = self.cut
        await asyncio.sleep(0.001)
        if self.silent or cut.is_set():
            await cut.wait()
            raise BrokerUnreachable(f"{name}: lost on its way")
        value = await self._done(name, verb(*args, **kwargs), cut)
        if name == "receive" and self.again and value.deliveries:
            # The flaw that shows here only does so each time, wherever chance has put the cut itself.
            self.again = False
            self._cut()
        await asyncio.sleep(0.001)
        if self.muted or cut.is_set():
            await cut.wait()
            raise _AnswerLost(f"{name}: its answer was lost", value)
        return value

    async def _done(self, name: str, work: Any, cut: asyncio.Event) -> Any:
        """What the broker does, unless the wire goes first while it waits."""
        working = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(cut.wait())
        try:
            while not working.done():
                await asyncio.wait({working, ending}, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
                # Only who receives waits at the broker; anything else is done by now, or will be.
                if (self.silent or cut.is_set()) and not working.done() and name == "receive":
                    break
        finally:
            ending.cancel()
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
        if not working.cancelled():
            return working.result()
        if self.flaw == "sleeps on":
            await asyncio.Event().wait()
        await cut.wait()
        raise BrokerUnreachable(f"{name}: lost while it waited")


class _AnswerLost(BrokerUnreachable):
    """It was done; nobody here knows."""

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message)
        self.value = value


class _Port:
    def __init__(self, port: Any, wire: Wire) -> None:
        self._port = port
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if name not in VERBS or name == "open":
            return value
        return lambda *args, **kwargs: self._wire.carry(name, value, args, kwargs)


class Wired(_Port):
    """The backend as it looks from this end of its wire."""

    @property
    def capabilities(self) -> Capabilities:
        durable = {Capability.DURABLE: Level.NATIVE, Capability.CROSS_PROCESS: Level.NATIVE}
        return Capabilities({**self._port.capabilities, **durable})

    def on_event(self, listener: Callable[[ConnectionEvent, int], None]) -> None:
        self._wire.events.append(listener)

    def submitter(self) -> Any:
        return _Submitter(self._port.submitter(), self._wire)

    def consumer(self, queues: Any) -> Any:
        return _Consumer(self._port.consumer(queues), self._wire)

    def results(self) -> Any:
        return _Results(self._port.results(), self._wire)

    def control(self) -> Any:
        return _Control(self._port.control(), self._wire)

    def inspector(self) -> Any:
        return _Port(self._port.inspector(), self._wire)

    async def aclose(self) -> None:
        await self._port.aclose()


class _Submitter(_Port):
    async def submit(self, messages: Any) -> Any:
        if self._wire.flaw == "loses the last at a restart":
            self._wire.restarted = [lambda: setattr(self._wire, "forgets", True)]
        if self._wire.forgets:
            # What was accepted in the very last moment was not kept.
            self._wire.forgets = False
            return [_receipt(message) for message in messages]
        try:
            return await self._wire.carry("submit", self._port.submit, (messages,), {})
        except _AnswerLost as error:
            if self._wire.flaw == "denies what was done":
                return [BrokerUnreachable("not stored")] * len(messages)
            return [SubmitUnknown(str(error))] * len(messages)
        except BrokerUnreachable as error:
            if self._wire.flaw == "claims what was not done":
                return [_receipt(message) for message in messages]
            return [error] * len(messages)


class _Consumer(_Port):
    async def receive(self, limit: int, wait: float, *, skip: Any = ()) -> Any:
        self._wire.restarted = [self._restarted]
        try:
            received = await self._wire.carry("receive", self._port.receive, (limit, wait), {"skip": skip})
        except BrokerUnreachable as error:
            if self._wire.flaw == "drops what it took" and isinstance(error, _AnswerLost):
                for delivery in error.value.deliveries:
                    self._remove(delivery)
            if self._wire.flaw == "takes silence for an empty queue" and self._wire.silent:
                await asyncio.sleep(wait)
                return Received(())
            raise
        if self._wire.flaw == "drops what was held":
            self._held = list(received.deliveries)
            self._wire.events.append(lambda *_event: self._drop())
        return received

    async def settle(self, settlements: Any) -> Any:
        answers = await self._wire.carry("settle", self._port.settle, (settlements,), {})
        if self._wire.flaw == "does not fence" and Settled.LOST in answers:
            space = self._space()
            with space.guard:
                for replacement in filter(None, (one.replacement for one in settlements)):
                    space.stock.add(Outgoing.of(replacement))
        return answers

    def _restarted(self) -> None:
        if self._wire.flaw == "loses what is held at a restart":
            self._drop_all()

    def _drop(self) -> None:
        for delivery in getattr(self, "_held", ()):
            self._remove(delivery)

    def _drop_all(self) -> None:
        for taken in list(self._port._in_flight):
            self._remove(taken)

    def _remove(self, taken: Any) -> None:
        space, (entry, claim) = self._space(), taken.token
        with space.guard:
            if space.stock.holds(entry, claim):
                space.stock.remove(entry)
        self._port._in_flight.pop(taken, None)

    def _space(self) -> Any:
        return self._port._supervisor.current.queue._space


class _Results(_Port):
    def attach(self, sink: Callable[[Any], None]) -> None:
        """Pass on what is pushed while the wire is whole."""
        self._port.attach(lambda results: None if self._wire.silent or self._wire.away else sink(results))
        if self._wire.flaw == "forgets who waits":
            self._wire.events.append(lambda *_event: self._port.unexpect(list(self._port._expected)))


class _Control(_Port):
    async def listen(self, sink: Callable[[Any], None], *, worker: str) -> None:
        """Signals that come while the wire is cut come after it."""
        kept: list[Any] = []

        def hear(signals: Any) -> None:
            if self._wire.refused:
                kept.extend(signals)
            else:
                sink(signals)

        def replay(event: ConnectionEvent, _generation: int) -> None:
            if event is ConnectionEvent.RESTORED and self._wire.flaw != "misses signals":
                sink(kept)

        self._wire.events.append(replay)
        await self._wire.carry("listen", self._port.listen, (hear,), {"worker": worker})


def _receipt(message: Any) -> Receipt:
    return Receipt(message.envelope.id)
