"""One worker at work, from the moment that it hears what is cancelled until everything is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tranship.clocks import look
from tranship.ports import Backend, ConnectionEvent, ControlChannel, Signal
from tranship.worker._cancels import Cancels
from tranship.worker._checkup import WorkerStatus
from tranship.worker._consumed import ConsumedQueues
from tranship.worker._flow import Flow
from tranship.worker._heartbeats import Heartbeats
from tranship.worker._intake import close
from tranship.worker._name import WorkerName
from tranship.worker._namesakes import Namesakes
from tranship.worker._record import Run
from tranship.worker._remote import RemoteCommands
from tranship.worker._setup import Setup
from tranship.worker._threads import HandlerThreads

if TYPE_CHECKING:
    from tranship.worker._history import History
    from tranship.worker._isolation import Isolation

__all__ = ["Session"]


class Session:
    """Everything of a worker that lives as long as its connection; on the I/O loop. Made by a ``SessionBuilder``.

    Args:
        setup: what the worker was given.
        backend: opened.
        flow: what becomes of its deliveries.
        queues: what it consumes.
        control: where cancels and commands are heard; None: the broker has no such thing.
        cancels: what is known to be cancelled.
        name: its own, at a broker that keeps names; None: it keeps none.
        namesakes: other workers of the same name; None: nobody could tell.
        commands: what operators command; None: nobody could.
        heartbeats: say that it is there.
        history: remembers how tasks have ended; None: nothing does.
        threads: where ``def`` handlers run.
        isolation: where isolated tasks run; None: there are none.
    """

    def __init__(
        self,
        setup: Setup,
        backend: Backend,
        flow: Flow,
        queues: ConsumedQueues,
        *,
        control: ControlChannel | None,
        cancels: Cancels,
        name: WorkerName | None,
        namesakes: Namesakes | None,
        commands: RemoteCommands | None,
        heartbeats: Heartbeats,
        history: History | None,
        threads: HandlerThreads,
        isolation: Isolation | None,
    ) -> None:
        self._setup = setup
        self._backend = backend
        self._flow = flow
        self._queues = queues
        self.intake = flow.intake
        self._control = control
        self._cancels = cancels
        self._name = name
        self._namesakes = namesakes
        self._commands = commands
        self._heartbeats = heartbeats
        self._history = history
        self._threads = threads
        self._isolation = isolation
        self._helpers: list[asyncio.Task[None]] = []
        self._hurried = asyncio.Event()
        backend.on_event(self._connection)

    @property
    def url(self) -> str:
        """Where it consumes from, without secrets."""
        return self._backend.url

    async def take_name(self, stack: AsyncExitStack) -> None:
        """Have the name that the worker was given; ``stack`` gives it up.

        Raises:
            WorkerNameTaken: another worker has it.
            BrokerError.
        """
        if self._name is not None:
            # Also where it was taken and nobody heard of it.
            stack.push_async_callback(self._name.free)
            await self._name.take()

    async def listen(self) -> None:
        """Hear what is cancelled. To be done before :meth:`run`: nothing is admitted before we know.

        Raises:
            BrokerError.
        """
        if self._control is not None:
            await self._control.listen(self._heard, worker=self._setup.name)

    async def run(self) -> None:
        """Work until cancelled or :meth:`drain`; returns when intake has ended.

        Raises:
            BrokerError: a permanent one.
        """
        if self._isolation is not None:
            self._isolation.warm()
        await look(self._backend, self._backend.url)
        self._helpers = [asyncio.create_task(self._flow.leases.keep()), asyncio.create_task(self._heartbeats.keep())]
        self._helpers += map(asyncio.create_task, self._flow.helpers())
        if self._flow.events is not None:
            self._helpers.append(asyncio.create_task(self._flow.events.keep()))
        if self._name is not None:
            self._name.keep()
        await self.intake.run()

    async def drain(self, patience: float) -> None:
        """Stop taking in, let what runs finish for ``patience`` seconds, give back the rest, settle everything."""
        flow = self._flow
        self.intake.stop()
        if self._commands is not None:
            await self._commands.end()
        await flow.run_out(patience, self._hurried)
        await flow.settling.drain()
        await flow.finish()
        await flow.following.aclose()
        flow.unsettled.stop()
        if flow.tellers is not None:
            flow.tellers.close()
        # The leases were kept until here: settling may have had to wait for the broker.
        for helper in self._helpers:
            helper.cancel()
        await asyncio.gather(self.intake.aclose(), *map(close, flow.retired))
        self._threads.stop()
        if self._isolation is not None:
            await asyncio.to_thread(self._isolation.close)
        if self._history is not None:
            await self._history.aclose()
        await self._heartbeats.end()
        if flow.events is not None:
            await flow.events.end()

    def hurry(self) -> None:
        """Cut the patience of :meth:`drain` short."""
        self._hurried.set()

    async def idle(self) -> bool:
        """Whether nothing is left to do: nothing runs or is settled here, nothing is ready, scheduled or in flight."""
        if self._flow.busy:
            return False
        for queue in await self._backend.inspector().queues():
            ours = queue.name in self._queues.names
            if ours and (any(queue.ready.values()) or queue.delayed or queue.in_flight):
                return False
        return not self._flow.busy

    # What others ask; any thread.

    def status(self) -> WorkerStatus:
        """What a health check wants to know."""
        problem = self._problem()
        return WorkerStatus(
            ready=self.intake.ready and problem is None,
            connected=self.intake.failed is None and not self._heartbeats.cut_off,
            # A copy in one step: health checks ask from other threads.
            running=[run.id for run in self.runs() if run.id is not None],
            done=self._flow.done,
            problem=problem,
            capacity=self.capacity(),
        )

    def _problem(self) -> str | None:
        if self.intake.stopping:
            return "stopping"
        if self.intake.failed is not None:
            return str(self.intake.failed)
        return "the broker cannot be reached" if self._heartbeats.cut_off else None

    @property
    def commands(self) -> RemoteCommands | None:
        """What obeys commands; None: nobody may command, or the worker stops."""
        return None if self.intake.stopping else self._commands

    @property
    def lease(self) -> float | None:
        """Seconds that a delivery is ours without being renewed; None: as long as the connection lives."""
        return self.intake.consumer.lease

    def capacity(self) -> Mapping[str, int]:
        """How many more tasks of each limited type may run now."""
        return {} if self._flow.types is None else self._flow.types.capacity()

    def shared_types(self) -> Mapping[str, Sequence[str]]:
        """Each limited type whose queue is not its own, with the queues that it shares."""
        return {} if self._flow.types is None else self._flow.types.shared

    def runs(self) -> Sequence[Run]:
        """What runs."""
        return self._flow.runs()

    def latest(self) -> Run | None:
        """What was the last to begin."""
        return self._flow.handlers.latest

    # What it hears.

    def _heard(self, signals: Sequence[Signal]) -> None:
        self._cancels.heard(signals)
        if self._name is not None:
            self._name.heard(signals)
        if self._namesakes is not None and self._namesakes.heard(signals):
            self._heartbeats.hurry()
        if self._commands is not None:
            self._commands.heard(signals)

    def _connection(self, event: ConnectionEvent, _generation: int) -> None:
        if event is ConnectionEvent.RESTORED:
            self.intake.hurry()
            if self._name is not None:
                self._name.hurry()
            if self._namesakes is not None:
                self._namesakes.ask_again()
        # Whether it can be reached is found out now.
        self._heartbeats.hurry()
        self._flow.leases.look()
