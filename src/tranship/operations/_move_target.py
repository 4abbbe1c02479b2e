"""The target's side of a move: submitting until each message has an answer that can be relied on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from tranship.envelope import Receipt, TaskState
from tranship.errors import BrokerError, ClosedError, SubmitUnknown, TranshipError
from tranship.operations._move_cancels import Cancels
from tranship.operations._move_item import Fate, Item, Key
from tranship.operations._move_patience import GaveUp, Patience, Stop, Stopped
from tranship.operations._move_report import Tally
from tranship.ports import Backend, Capability, ResultStore, StoredResult
from tranship.protocol import Message
from tranship.submission import submitter_of

__all__ = ["Target"]

log = logging.getLogger("tranship.move")

SLOW: Final = 2.0
"""Seconds without an answer after which somebody is told."""

Answer = Receipt | TranshipError


class Target:
    """Puts messages into the target; one caller at a time.

    What it has answered is written into the items: :attr:`Item.fate`, and :attr:`Item.doubtful` where an answer
    was lost.
    """

    def __init__(self, backend: Backend, cancels: Cancels, patience: Patience, stop: Stop, tally: Tally) -> None:
        self._backend = backend
        self._submitter = submitter_of(backend)
        self._cancels = cancels
        self._patience = patience
        self._stop = stop
        self._tally = tally
        self._tells = backend.capabilities.has(Capability.RETRY_SAFE)
        self._keeps_keys = backend.capabilities.has(Capability.KEY_WINDOW)
        self._moved: set[Key] = set()

    async def put(self, items: Sequence[Item]) -> None:
        """Submit ``items``, in order, until each is moved, known to be there, or refused.

        Raises:
            GaveUp: the target was away for too long, or refuses us as a whole.
            Stopped: the move was asked to stop while it was away.
        """
        pending = [item for item in items if self._may_go(item)]
        while pending:
            if self._cancels.pending:
                await self._patience.insist(self._cancels.repeat)
            answers = await self._submit(pending)
            again, trouble = await self._sort(pending, answers)
            if len(again) < len(pending):
                self._patience.progress()
            if trouble is not None:
                await self._patience.outlast(trouble)
            pending = [item for item in again if not item.lost]

    def _may_go(self, item: Item) -> bool:
        if item.lost or item.message is None:
            return False
        envelope, size, limit = item.message.envelope, item.message.size, self._submitter.max_message_size
        if item.key in self._moved:
            item.fate = Fate.AGAIN
        elif size > limit:
            item.refuse("message_too_large", f"it is {size:,} bytes with its headers, the target takes {limit:,}")
        elif self._cancels.strands(envelope):
            item.refuse("cancelled", "it is cancelled, and the target could not be told: it has no control channel")
        # From the first time on: some backends recognise only what was submitted so.
        item.message.check_id = True
        if not self._keeps_keys:
            _unkey(item.message)
        return item.fate is Fate.WAITING

    async def _submit(self, items: Sequence[Item]) -> Sequence[Answer]:
        messages = [item.message for item in items if item.message is not None]
        call = asyncio.ensure_future(self._submitter.submit(messages))
        await self._stop.wait_for(call, min(SLOW, self._patience.left))
        if not call.done():
            self._patience.waiting("it has not answered")
            await self._stop.wait_for(call, self._patience.left)
        if not call.done():
            # Not cancelled: what becomes of the messages is not known either way.
            call.add_done_callback(_forget)
            self._doubt(items)
            raise Stopped if self._stop.requested else self._patience.gave_up()
        return self._answers(call, items)

    def _answers(self, call: asyncio.Future[Sequence[Answer]], items: Sequence[Item]) -> Sequence[Answer]:
        try:
            answers = call.result()
        except TranshipError as error:
            return [error] * len(items)
        except Exception as error:
            log.exception("the target's submit failed in an unexpected way")
            self._doubt(items)
            raise GaveUp(TranshipError(f"the target's submit failed in an unexpected way: {error!r}")) from error
        if len(answers) != len(items):
            self._doubt(items)
            raise GaveUp(TranshipError(f"the target gave {len(answers)} answers for {len(items)} messages"))
        return answers

    def _doubt(self, items: Sequence[Item]) -> None:
        for item in items:
            item.doubtful = True

    async def _sort(self, items: Sequence[Item], answers: Sequence[Answer]) -> tuple[list[Item], TranshipError | None]:
        """Note what is final; return what is to be submitted again, and why one has to wait before."""
        again: list[Item] = []
        duplicates: list[tuple[Item, str]] = []
        trouble: TranshipError | None = None
        fatal: TranshipError | None = None
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, Receipt):
                if answer.duplicate_of is None:
                    self._arrived(item, Fate.MOVED)
                else:
                    duplicates.append((item, answer.duplicate_of))
            elif answer.retryable:
                self._lost_answer(item, answer)
                again.append(item)
                trouble = answer
            elif isinstance(answer, BrokerError | ClosedError):
                fatal = answer
            else:
                item.refuse(answer.code.lower(), str(answer))
        again += await self._judge(duplicates)
        if fatal is not None:
            raise GaveUp(fatal)
        return again, trouble

    def _lost_answer(self, item: Item, answer: TranshipError) -> None:
        if isinstance(answer, SubmitUnknown):
            if not self._tells:
                self._tally.repeated += 1
            item.doubtful = True

    def _arrived(self, item: Item, fate: Fate) -> None:
        item.fate = fate
        self._moved.add(item.key)

    # The target says that it has the id already.

    async def _judge(self, duplicates: Sequence[tuple[Item, str]]) -> list[Item]:
        """Find out of each what that means; return those that are not there after all."""
        doubted: list[Item] = []
        for item, first in duplicates:
            if item.message is not None and first != item.message.envelope.id:
                key = item.message.envelope.dedup_key
                item.refuse("dedup-key", f"its dedup key {key!r} is taken at the target, by task {first}")
            elif item.doubtful:
                self._arrived(item, Fate.MOVED)
            elif item.key in self._moved:
                item.fate = Fate.AGAIN
            else:
                doubted.append(item)
        return [item for item in await self._missing(doubted) if not self._is_stuck(item)] if doubted else []

    async def _missing(self, items: Sequence[Item]) -> list[Item]:
        """Note which of ``items`` the target really has, as far as it can be known; return the others.

        Marks of ids may outlive the messages at the target, which is where a message comes back to that was moved
        away from there: to believe them would lose it.
        """
        capabilities = self._backend.capabilities
        # A store that is told of ids proves nothing: it was told so before each submit.
        known = capabilities.has(Capability.KNOWS_IDS) and not capabilities.told_of_ids
        states = await self._states([item.key[0] for item in items])
        missing = []
        for item, state in zip(items, states, strict=True):
            told = state is not TaskState.UNKNOWN if known else state not in _SILENT
            if told or (not known and item.seen_before):
                self._arrived(item, Fate.THERE)
            else:
                missing.append(item)
        return missing

    async def _states(self, ids: Sequence[str]) -> Sequence[TaskState]:
        if not self._backend.capabilities.has(Capability.RESULTS):
            return [TaskState.UNKNOWN] * len(ids)
        store = self._backend.results()
        return [found.state for found in await self._patience.insist(lambda: _read(store, ids))]

    def _is_stuck(self, item: Item) -> bool:
        if item.unchecked or item.message is None:
            window = self._backend.capabilities[Capability.RETRY_SAFE].properties.get("window")
            when = "later" if window is None else f"in {window:g} s, when it has forgotten"
            item.refuse("known", f"the target knows its id, and does not say from where: it stays; try again {when}")
            return True
        item.unchecked, item.message.check_id = True, False
        # Its dedup key is its own still.
        _unkey(item.message)
        return False


_SILENT: Final[Collection[TaskState]] = (TaskState.UNKNOWN, TaskState.PENDING, TaskState.SCHEDULED)
"""What a store that does not know ids says of every one."""


def _forget(call: asyncio.Future[Sequence[Answer]]) -> None:
    if not call.cancelled():
        call.exception()


async def _read(store: ResultStore, ids: Sequence[str]) -> Sequence[StoredResult]:
    return await store.get_many(ids)


def _unkey(message: Message) -> None:
    """Have its dedup key not be looked at; the message itself keeps it."""
    if message.envelope.dedup_key is not None:
        message.envelope = replace(message.envelope, dedup_key=None)
