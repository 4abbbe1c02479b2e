"""A connection to an orchestrator or to a shepherd, as the driver kit has it. It is never lost: gRPC's comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tranship.driver import Ending, LocalConnection, Outgoing, QueueTraits, Slot, TakenBatch
from tranship.errors import TranshipError, UnsupportedError
from tranship.ports import Settled
from tranship_azolla import wire_pb2 as wire
from tranship_azolla._link import Link
from tranship_azolla._methods import WAIT_FOR_TASK

__all__ = ["NOBODY", "NO_WORKERS", "AzollaConnection", "ShepherdConnection"]

NOBODY: Final = "00000000-0000-0000-0000-000000000000"
"""The id of no task."""
NO_WORKERS: Final = (
    "an Azolla orchestrator hands its tasks to shepherds, which start a process for each; its protocol has no way to "
    "give one back, so that no worker can take them: have a shepherd start azolla-worker"
)
_SHEPHERD: Final = (
    "an Azolla shepherd is told how a task ended, and nothing else can be done with it: submit to its orchestrator, "
    "azolla://host:52710"
)


class NoQueue:
    """The queue of a server from which nobody takes.

    Args:
        reason: why, and what to do.
    """

    traits = QueueTraits()

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[TranshipError | None]:
        """Refuse each."""
        return [UnsupportedError(self.reason, task_id=one.id) for one in batch]

    async def take(self, slots: Sequence[Slot], limit: int, wait: float) -> TakenBatch:  # noqa: ARG002 - as any queue
        """Refuse."""
        raise UnsupportedError(self.reason)

    async def end(self, endings: Sequence[Ending]) -> Sequence[Settled | TranshipError]:  # noqa: ARG002 - likewise
        """Refuse."""
        raise UnsupportedError(self.reason)


class ShepherdConnection(LocalConnection):
    """A connection to a shepherd, which can be asked for nothing."""

    def __init__(self, link: Link, reason: str = _SHEPHERD) -> None:
        super().__init__(NoQueue(reason), native=link.channel)
        self.link = link

    async def aclose(self) -> None:
        """Close the channel."""
        self.link.close()


class AzollaConnection(ShepherdConnection):
    """A connection to an orchestrator."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, NO_WORKERS)

    async def ping(self, *, timeout: float | None = None) -> None:
        """Ask after a task that there cannot be.

        Raises:
            BrokerUnreachable, BrokerRefused, BrokerError: what became of it.
        """
        await self.link.asked(WAIT_FOR_TASK, wire.WaitForTaskRequest(task_id=NOBODY, timeout_ms=0), timeout=timeout)
