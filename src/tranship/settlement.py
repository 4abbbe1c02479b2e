"""Ending deliveries: store the result, then settle; batched, and retried, which the handler never is.

Where consumer and result store are one backend (FUSED_SETTLE) both happen in one step. Otherwise the result is
put first and the delivery is settled only after that: a crash in between means a second run whose result
is refused, never a lost result.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tranship.errors import TranshipError
from tranship.ports import Consumer, ResultStore, Settled, Settlement

__all__ = ["ENOUGH", "Settling"]

log: logging.Logger = logging.getLogger("tranship.settlement")

BATCH: Final = 500
ENOUGH: Final = 64
"""Settlements that are worth a round trip of their own while more are sure to come."""
LINGER: Final = 0.002
"""Seconds that fewer wait for company then."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0

Answer = Settled | TranshipError
Settler = Callable[[Answer], None]
_Entry = tuple[Consumer, Settlement, Settler]


class Settling:
    """Settles the deliveries of one worker, on its loop.

    Args:
        results: where results go, or None when nothing is kept.
        fused: whether ``consumer.settle`` stores results itself, in one step.
        patience: seconds for which settling is retried while the broker cannot be reached; after that the
            delivery is left to its lease and will be redelivered.
        backlog: whether more deliveries are waiting than the worker has slots. Then a few settlements wait for
            more, :data:`LINGER` at most: a commit for every handful would be the limit of short tasks.
    """

    def __init__(
        self,
        results: ResultStore | None,
        *,
        fused: bool,
        patience: float,
        backlog: Callable[[], bool] = lambda: False,
    ) -> None:
        self._results = results
        self._fused = fused
        self._patience = patience
        self._backlog = backlog
        self._enough = asyncio.Event()
        self._queue: collections.deque[_Entry] = collections.deque()
        self._flusher: asyncio.Task[None] | None = None

    def post(self, consumer: Consumer, settlement: Settlement, settled: Settler) -> None:
        """Queue ``settlement`` of a delivery from ``consumer``; ``settled`` hears the broker's word, or the error."""
        self._queue.append((consumer, settlement, settled))
        if len(self._queue) >= ENOUGH:
            self._enough.set()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def drain(self) -> None:
        """Return when everything posted so far has been settled or given up."""
        self._backlog = lambda: False
        self._enough.set()
        while self._flusher is not None and not self._flusher.done():
            await asyncio.wait({self._flusher})

    async def _flush(self) -> None:
        # One round trip at a time: what finishes meanwhile makes the next batch.
        while self._queue:
            if len(self._queue) < ENOUGH and self._backlog():
                await self._linger()
            batch = self._batch()
            answers = await self._settle(batch[0][0], [settlement for _, settlement, _ in batch])
            for (_, _, settled), answer in zip(batch, answers, strict=True):
                settled(answer)

    async def _linger(self) -> None:
        self._enough.clear()
        timer = asyncio.get_running_loop().call_later(LINGER, self._enough.set)
        await self._enough.wait()
        timer.cancel()

    def _batch(self) -> list[_Entry]:
        """Take what is next for one consumer."""
        batch = [self._queue.popleft()]
        while self._queue and len(batch) < BATCH and self._queue[0][0] is batch[0][0]:
            batch.append(self._queue.popleft())
        return batch

    async def _settle(self, consumer: Consumer, settlements: Sequence[Settlement]) -> Sequence[Answer]:
        """Settle, and try again what may succeed then, for as long as there is patience."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        pause = FIRST_PAUSE
        answers = list(await self._once(consumer, settlements))
        while left := [at for at, one in enumerate(answers) if isinstance(one, TranshipError) and one.retryable]:
            if loop.time() + pause > until:
                break
            log.warning("settling %d deliveries failed, trying again: %s", len(left), answers[left[0]])
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            again = await self._once(consumer, [settlements[at] for at in left])
            for at, answer in zip(left, again, strict=True):
                answers[at] = answer
        return answers

    async def _once(self, consumer: Consumer, settlements: Sequence[Settlement]) -> Sequence[Answer]:
        try:
            return await self._attempt(consumer, settlements)
        except TranshipError as error:
            return await self._one_by_one(consumer, settlements, error)
        except Exception as error:
            # A driver's bug must not leave deliveries unsettled for ever without a word.
            log.exception("the backend's settle failed in an unexpected way")
            return [TranshipError(f"settling failed in the backend: {error!r}")] * len(settlements)

    async def _one_by_one(
        self, consumer: Consumer, settlements: Sequence[Settlement], error: TranshipError
    ) -> Sequence[Answer]:
        """A batch was refused for good: one bad settlement must not take its neighbours along."""
        if len(settlements) == 1 or error.retryable:
            return [error] * len(settlements)
        answers: list[Answer] = []
        for one in settlements:
            try:
                answers.extend(await self._attempt(consumer, [one]))
            except TranshipError as own:
                answers.append(own)
            except Exception as bug:
                log.exception("the backend's settle failed in an unexpected way")
                answers.append(TranshipError(f"settling failed in the backend: {bug!r}"))
        return answers

    async def _attempt(self, consumer: Consumer, settlements: Sequence[Settlement]) -> Sequence[Answer]:
        if not self._fused:
            await self._put_results(settlements)
        answers = await consumer.settle(settlements)
        if len(answers) != len(settlements):
            raise ValueError(f"the backend gave {len(answers)} answers for {len(settlements)} settlements")
        return answers

    async def _put_results(self, settlements: Sequence[Settlement]) -> None:
        results = [one.result for one in settlements if one.result is not None]
        if results and self._results is not None:
            await self._results.put(results)
        for one in settlements:
            # Stored, or refused because another was first: either way not the consumer's business any more.
            one.result = None
