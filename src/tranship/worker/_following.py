"""Plans are carried out before the task that they follow is settled: a worker that dies in between does it again.

Each step has the id that was fixed for it, so that a broker that recognises ids runs it once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from tranship.canvas import Ended, Plan, after_chord, after_lost_chord
from tranship.envelope import Envelope, TaskResult
from tranship.errors import SubmitUnknown, TranshipError
from tranship.pauses import patiently
from tranship.ports import ChordCount, ChordStore, ResultStore, StoredResult
from tranship.protocol import Message, encode_result
from tranship.submission import Submission
from tranship.worker._canvas import Canvas
from tranship.worker._record import Run

__all__ = ["CannotFollow", "Following"]

log = logging.getLogger("tranship.worker")

LOST_AFTER: Final = 60.0
"""Seconds for which a chord may have no size, after the last of its members has ended here: with the last one that it
sends, a Celery client tells how many there are."""
LOOK: Final = 1.0

T = TypeVar("T")


class CannotFollow(Exception):
    """A step can never be sent, for a reason that stays."""

    def __init__(self, reason: TranshipError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Following:
    """Carries out the plans of one worker, on the I/O loop.

    Args:
        canvas: makes messages.
        submission: sends them.
        results: where results go; None: nowhere.
        chords: counts parts; None: nothing does.
        worker: this worker's name, kept with each result.
        content_type: what result documents are written in.
        patience: seconds for which it tries while the broker cannot be reached.

    Attributes:
        routing: what is known of where tasks go.
        lost_after: seconds for which a chord may have no size after the last of its members has ended here.
    """

    def __init__(
        self,
        canvas: Canvas,
        submission: Submission,
        *,
        results: ResultStore | None,
        chords: ChordStore | None,
        worker: str,
        content_type: str,
        patience: float,
    ) -> None:
        self._canvas, self._submission = canvas, submission
        self._results, self._chords = results, chords
        self._worker, self._content_type, self._patience = worker, content_type, patience
        self.routing, self.lost_after = canvas.routing, LOST_AFTER
        self._lost_at: dict[str, float] = {}
        """When each chord that is looked after is given up, by the monotonic clock."""
        self._watches: set[asyncio.Task[None]] = set()

    async def carry_out(self, run: Run) -> None:
        """Do what the plan of ``run`` says.

        Raises:
            CannotFollow: a step can never be sent.
            TranshipError: the broker, or a store, could not be reached for as long as there was patience.
        """
        assert run.envelope is not None
        assert run.sequel is not None
        if run.sequel.plan is not None:
            await self._do(run.sequel.plan, run.sequel.messages, run.envelope)

    async def begin(self, plan: Plan, after: Envelope) -> None:
        """Do what a plan says that a task has made while it runs.

        Raises:
            TranshipError: a step can never be sent; or the broker could not be reached for as long as there was
                patience.
        """
        try:
            await self._do(plan, self._canvas.encoded(plan.envelopes), after)
        except CannotFollow as error:
            raise error.reason from error

    async def aclose(self) -> None:
        """Look no more after chords that nobody has given a size."""
        for one in self._watches:
            one.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)

    async def _do(self, plan: Plan, messages: Sequence[Message], after: Envelope) -> None:
        for chord in plan.chords:
            await self._again(lambda chord=chord: self._store().start(chord))  # type: ignore[misc]
        await self._send(messages)
        await self._put(plan)
        for ended in plan.parts:
            await self._count(ended, after)

    def _store(self) -> ChordStore:
        assert self._chords is not None
        return self._chords

    async def _send(self, messages: Sequence[Message]) -> None:
        """Send all of them, again where that is not known of one."""
        left = list(messages)
        until = time.monotonic() + self._patience
        while left:
            answers = await self._submission.submit(left)
            failed = [(one, said) for one, said in zip(left, answers, strict=True) if isinstance(said, TranshipError)]
            for _, said in failed:
                if not said.retryable and not isinstance(said, SubmitUnknown):
                    raise CannotFollow(said)
            if failed and time.monotonic() > until:
                raise failed[0][1]
            left = [one for one, _ in failed]

    async def _put(self, plan: Plan) -> None:
        if plan.fates and self._results is not None:
            results, stored = self._results, [self._stored(one) for one in plan.fates]
            await self._again(lambda: results.put(stored))

    def _stored(self, fate: Any) -> StoredResult:
        result = TaskResult(
            id=fate.task_id, state=fate.state, error=fate.error, finished_at=time.time(), worker=self._worker
        )
        document = encode_result(result, content_type=self._content_type, group_id=fate.group_id)
        return StoredResult(id=fate.task_id, state=fate.state, document=document, reply_to=fate.reply_to)

    # Chords.

    async def _count(self, ended: Ended, after: Envelope) -> None:
        count = await self._counted(ended)
        if not count.known:
            self._look_after(ended, after)
        elif count.parts is not None:
            await self.complete(ended, count, after)
            await self._again(lambda: self._store().finish(ended.group_id, ended.part))

    async def _counted(self, ended: Ended) -> ChordCount:
        """Count a part; where somebody else has the claim for the body, wait until it is sent, or the claim is ours.

        The part is of a task that came again: its worker died, and perhaps with the claim.
        """
        until = time.monotonic() + self._patience
        while True:
            count = await self._again(lambda: self._store().count(ended.group_id, ended.part))
            if not count.claimed or time.monotonic() > until:
                return count
            await asyncio.sleep(LOOK)

    async def complete(self, ended: Ended, count: ChordCount, after: Envelope) -> None:
        """Send the body of a chord that is complete, or give it up.

        Raises:
            TranshipError: the broker, or a store, could not be reached for as long as there was patience.
        """
        log.debug("chord %s is complete", ended.group_id)
        try:
            plan = after_chord(ended, count, after, time.time(), self.routing)
            messages = self._canvas.encoded(plan.envelopes)
            await self._do(plan, messages, after)
        except (CannotFollow, TranshipError) as error:
            reason = error.reason if isinstance(error, CannotFollow) else error
            if reason.retryable:
                raise
            await self._lose(ended, f"Callback error: {reason}", after)

    async def _lose(self, ended: Ended, why: str, after: Envelope) -> None:
        """Give a chord up: whoever waits for its body is told."""
        log.warning("chord %s is given up: %s", ended.group_id, why)
        try:
            plan = after_lost_chord(ended, why, after, time.time(), self.routing)
            messages = self._canvas.encoded(plan.envelopes)
        except TranshipError as error:
            log.warning("the body of chord %s cannot be read: %s", ended.group_id, error)
            return
        try:
            await self._do(plan, messages, after)
        except CannotFollow as refused:
            log.warning("what follows chord %s cannot be sent: %s", ended.group_id, refused)

    def _look_after(self, ended: Ended, after: Envelope) -> None:
        """A header whose size nobody has told yet is still being sent; or nobody will, because that has expired."""
        is_watched = ended.group_id in self._lost_at
        self._lost_at[ended.group_id] = time.monotonic() + self.lost_after
        if not is_watched:
            watch = asyncio.get_running_loop().create_task(self._watch(ended, after))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)

    async def _watch(self, ended: Ended, after: Envelope) -> None:
        try:
            while time.monotonic() < self._lost_at[ended.group_id]:
                await asyncio.sleep(min(LOOK, self.lost_after / 4))
                if await self._store().is_known(ended.group_id):
                    # The last of its members may have been counted just before the size was told.
                    await self._count(ended, after)
                    return
            await self._lose(ended, "nobody knows how many parts it has: its counter has expired", after)
        except TranshipError as error:
            log.warning("chord %s could not be looked after: %s", ended.group_id, error)
        finally:
            # Here, and not once the task has ended: a member that ends in between would be looked after by nobody.
            del self._lost_at[ended.group_id]

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, self._patience, "following up")
