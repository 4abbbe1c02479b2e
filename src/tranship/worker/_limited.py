"""The flow of a worker that has tasks with limits: those wait for their turn before they start."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from tranship.errors import TranshipError
from tranship.ports import Settled
from tranship.worker._flow import Flow
from tranship.worker._record import Run, Stop
from tranship.worker._turns import Turns

__all__ = ["LimitedFlow"]


class LimitedFlow(Flow):
    """See :class:`Flow`.

    Attributes:
        turns: whose turn it is.
    """

    turns: Turns

    @property
    def busy(self) -> bool:
        """Whether something runs, is settled, or gives its slot back."""
        return super().busy or self.turns.busy

    def helpers(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What goes on while the worker works."""
        return [self.turns.keep(), self.turns.look()]

    async def finish(self) -> None:
        """Give slots back, after everything is settled."""
        await self.turns.aclose()
        await self.turns.free()

    def _begin(self, run: Run) -> None:
        if self.turns.concerns(run):
            self._start(self._take_turn(run))
        else:
            super()._begin(run)

    async def _take_turn(self, run: Run) -> None:
        try:
            await self.turns.take(run)
        except TranshipError as error:
            # Left to its lease, it comes again: the lines may be there then.
            self._broken(run, error)
        except Exception as error:  # noqa: BLE001 - a bug of ours may be any
            self._broken(run, error)
        super()._begin(run)

    def _settled(self, run: Run, answer: Settled | TranshipError) -> None:
        if answer is not Settled.LOST and not isinstance(answer, TranshipError):
            self.turns.settled(run)
        super()._settled(run, answer)

    def drop(self, run: Run) -> None:
        """``run`` is not held any more."""
        super().drop(run)
        self.turns.dropped(run)

    def freed(self, run: Run) -> None:
        """``run`` takes no slot of the worker any more."""
        super().freed(run)
        self.turns.freed(run)

    def stop(self, run: Run, why: Stop) -> None:
        """Tell ``run`` to stop, also one that waits for its turn."""
        super().stop(run, why)
        self.turns.wake(run)

    async def run_out(self, patience: float, hurried: Any) -> None:
        """Let what runs finish; what waits for its turn is given back."""
        for run in self.turns.waiting:
            self.stop(run, Stop.SHUTDOWN)
        await super().run_out(patience, hurried)
