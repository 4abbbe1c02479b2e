"""Cancels follow the tasks: what is cancelled at the source is cancelled at the target, before it arrives there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

from tranship.envelope import Envelope
from tranship.ports import Backend, Capability, Signal, Tombstone

__all__ = ["Cancels"]


Answer = Callable[[Sequence[str]], Awaitable[None]]


class Cancels:
    """Hears the source's cancels and repeats them at the target.

    Args:
        source, target: opened.
        answer: gives tasks that the target has removed at once their results, where it keeps none itself.
    """

    def __init__(self, source: Backend, target: Backend, answer: Answer) -> None:
        self.repeated = 0
        self._answer = answer
        self._removed: list[str] = []
        self._source = source
        self._target = target
        self._hears = source.capabilities.has(Capability.CONTROL)
        self._repeats = target.capabilities.has(Capability.CONTROL)
        self._known: dict[tuple[str, str], float] = {}
        self._fresh: list[Tombstone] = []

    async def listen(self) -> None:
        """Begin to hear; on return every cancel of the past has been heard."""
        if self._hears:
            name = f"move-{os.getpid()}@{socket.gethostname()}"
            await self._source.control().listen(self._heard, worker=name)

    @property
    def pending(self) -> bool:
        """Whether there is something that the target has not been told."""
        return self._repeats and bool(self._fresh or self._removed)

    async def repeat(self) -> None:
        """Tell the target what was heard; raises what its control channel raises."""
        fresh, now = tuple(self._fresh), time.time()
        live = [one for one in fresh if one.expires > now]
        if live:
            report = await self._target.control().cancel(live)
            self._removed += report.removed
        self.repeated += len(live)
        del self._fresh[: len(fresh)]
        await self.tell()

    async def tell(self) -> None:
        """Answer for what the target has removed, if that has not been done; raises what the result store raises."""
        removed = tuple(self._removed)
        if removed:
            await self._answer(removed)
            del self._removed[: len(removed)]

    def strands(self, envelope: Envelope) -> bool:
        """Whether the task is cancelled, and the target would not know."""
        if self._repeats:
            return False
        key = envelope.cancel_key
        return ("id", envelope.id) in self._known or (key is not None and ("key", key) in self._known)

    def _heard(self, signals: Sequence[Signal]) -> None:
        for signal in signals:
            # After a lost connection all of them come again.
            if isinstance(signal, Tombstone) and signal.expires > self._known.get((signal.kind, signal.value), 0.0):
                self._known[signal.kind, signal.value] = signal.expires
                self._fresh.append(signal)
