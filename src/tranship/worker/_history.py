"""What a worker remembers of the tasks that it has ended: the latest, in a ring of records."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from tranship.envelope import Ending, Envelope, made_at
from tranship.errors import TranshipError
from tranship.finished import CHUNK, Finished, Later, encode_finished, slot_key, slots
from tranship.pauses import Pauses
from tranship.ports import Record, Records
from tranship.protocol import Signature, SignatureKind, decode_signature, signatures_in
from tranship.worker._record import Run, Sequel
from tranship.worker._shorten import beginning, ending

__all__ = ["History"]

log = logging.getLogger("tranship.worker")

EVERY: Final = 1.0
"""Seconds between two writes, at least."""
DAY: Final = 86_400.0
"""Seconds that it is remembered."""
ERROR: Final = 500
TRACEBACK: Final = 3_000
"""Characters."""
AHEAD: Final = 64
"""Tasks that follow one, as far as they are remembered."""
_OUTCOMES: Final = frozenset(
    {Ending.SUCCEEDED, Ending.FAILED, Ending.RETRY, Ending.CANCELLED, Ending.EXPIRED, Ending.DEAD}
)


class History:
    """Of one worker at work; on its I/O loop.

    Args:
        records: where they are kept.
        worker: its name.
        keep: how many tasks, at most.
    """

    def __init__(self, records: Records, worker: str, keep: int) -> None:
        self._records = records
        self._worker = worker
        self._slots = slots(keep)
        self._keep = keep
        self._chunk: list[Finished] = []
        """What is in the slot that is being filled."""
        self._pending: deque[Finished] = deque(maxlen=keep)
        self._writer: asyncio.Task[None] | None = None
        self.count = 0
        """How many were written in all."""

    def ended(self, run: Run) -> None:
        """Remember how a delivery has ended."""
        envelope, outcome = run.envelope, run.outcome
        if envelope is None or outcome not in _OUTCOMES or outcome is None or run.broken:
            return
        if outcome is Ending.RETRY and (not run.started or run.snoozed):
            return
        error = run.error
        self._pending.append(
            Finished(
                id=envelope.id,
                task=envelope.task,
                queue=run.delivery.queue,
                outcome=outcome.value,
                at=round(time.time(), 3),
                seconds=round(time.monotonic() - run.began, 4) if run.began else None,
                due=_due(envelope, run.ahead),
                attempt=envelope.attempt,
                worker=self._worker,
                error="" if error is None else beginning(f"{_short(error.type)}: {error.message}", ERROR),
                traceback="" if error is None or not error.traceback else ending(error.traceback, TRACEBACK),
                root_id=envelope.root_id,
                parent_id=envelope.parent_id,
                cancel_key=envelope.cancel_key,
                later=() if run.sequel is None else _later(envelope.id, run.sequel),
            )
        )
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_soon())

    async def aclose(self) -> None:
        """Write what is left, in one go."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
        if self._pending:
            await self._write()

    async def _write_soon(self) -> None:
        pauses, pause = Pauses(), EVERY
        try:
            while self._pending:
                # What ends meanwhile is written with it.
                await asyncio.sleep(pause)
                pause = EVERY if await self._write() else max(EVERY, pauses.next())
        finally:
            self._writer = None

    async def _write(self) -> bool:
        """Write what there is; False: it is to be tried again."""
        pending, chunk, number = list(self._pending), list(self._chunk), self.count
        self._pending.clear()
        made: dict[int, bytes] = {}
        for one in pending:
            if len(chunk) == CHUNK:
                chunk = []
            chunk.append(one)
            number += 1
            if len(chunk) == CHUNK or one is pending[-1]:
                made[(number - 1) // CHUNK % self._slots] = encode_finished(chunk)
        records = [Record(slot_key(self._worker, slot), value, ttl=DAY) for slot, value in made.items()]
        try:
            await self._records.put(records)
        except asyncio.CancelledError:
            # Nobody knows whether it was written: it is written again, in the same place.
            self._put_back(pending)
            raise
        except TranshipError as error:
            log.debug("%d finished tasks were not remembered: %r", len(pending), error)
            if not error.retryable:
                log.warning("finished tasks cannot be remembered: %s", error)
                return True
            self._put_back(pending)
            return False
        self._chunk, self.count = chunk, number
        return True

    def _put_back(self, pending: Sequence[Finished]) -> None:
        room = self._keep - len(self._pending)
        self._pending.extendleft(reversed(pending[len(pending) - min(room, len(pending)) :]))


def _due(envelope: Envelope, ahead: float) -> float | None:
    """Return from when on an attempt could have begun; None: nobody has said so."""
    made = made_at(envelope.id) if envelope.attempt == 0 else None
    known = [made, None if envelope.not_before is None else envelope.not_before - ahead]
    latest = max((one for one in known if one is not None), default=None)
    return None if latest is None else round(latest, 3)


def _short(kind: str) -> str:
    return kind.removeprefix("builtins.")


def _later(task_id: str, sequel: Sequel) -> tuple[Later, ...]:
    """Return what a message says is to follow its task, in order, as far as it has ids."""
    embed, found = sequel.embed, list[Later]()
    try:
        ends: Sequence[str] = [task_id]
        steps = (
            [] if embed.next is None else [embed.next, *(decode_signature(one, "chain") for one in embed.later[::-1])]
        )
        for step in steps[:AHEAD]:
            ends = _follow(step, ends, found)
        for one in embed.callbacks:
            _follow(one, [task_id], found)
        if embed.chord is not None:
            _follow(decode_signature(embed.chord, "chord"), ends, found)
    except TranshipError:
        # What cannot be read is nobody's to follow, and its task says so.
        return tuple(found)
    return tuple(found[:AHEAD])


def _follow(step: Signature, after: Sequence[str], found: list[Later]) -> Sequence[str]:
    """Note the tasks of ``step``, which follow those of ``after``; return the ids of those that end it."""
    if step.kind is SignatureKind.GROUP:
        return [end for one in step.members for end in _follow(one, after, found)]
    if step.kind is None:
        return _follow_task(step, after, found)
    several = step.members if step.kind is SignatureKind.CHAIN else (step.header, step.body)
    for one in several:
        after = after if one is None else _follow(one, after, found)
    return after


def _follow_task(step: Signature, after: Sequence[str], found: list[Later]) -> Sequence[str]:
    if step.task_id is None or len(found) >= AHEAD:
        return after
    found.append(Later(id=step.task_id, task=step.task, after=tuple(after)))
    after = [step.task_id]
    # What comes after a body is written down with it, in reverse order.
    for one in reversed(signatures_in(step.options.get("chain"), "chain")):
        after = _follow(decode_signature(one, "chain"), after, found)
    return after
