"""One hand-over to one broker, whose answer is waited for within bounds and listened to for longer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from tranship.envelope import Receipt
from tranship.errors import BrokerError, ClosedError, SubmitUnknown, TranshipError
from tranship.ports import Backend
from tranship.protocol import Message
from tranship.routing._fleet import Fleet
from tranship.routing._member import Member

__all__ = ["Answer", "Errand"]

log = logging.getLogger("tranship.routing")

Answer = Receipt | TranshipError
Late = Callable[[Member, Sequence[Message], Sequence[Answer]], None]


class Errand:
    """Submits to one broker. The driver's call is never cancelled: what is under way arrives or does not.

    Args:
        fleet: whose member it is.
        member: the broker.
        late: hears of answers that came after :meth:`run` had returned.
    """

    def __init__(self, fleet: Fleet, member: Member, late: Late) -> None:
        self._fleet = fleet
        self._member = member
        self._late = late

    async def run(self, messages: Sequence[Message], timeout: float) -> Sequence[Answer]:
        """Return what the broker said; SubmitUnknown of all when it said nothing within ``timeout`` seconds."""
        backend = self._member.backend
        call = self._fleet.background.start(_submitted(backend, messages))
        await self._answered(call, timeout)
        if not call.done():
            call.add_done_callback(lambda done: self._ended(done, messages))
            silent = self._member.silent()
            self._member.failed(silent, backend)
            return [_lost(message, silent) for message in messages]
        answers = call.result()
        if (worst := _worst(answers)) is not None:
            self._member.failed(worst, backend)
        return answers

    async def _answered(self, call: asyncio.Task[Sequence[Answer]], timeout: float) -> None:
        """Wait for ``call``, and not for much longer than the broker is there."""
        options, begun = self._fleet.options, time.monotonic()
        end = begun + timeout
        while not call.done():
            gone = self._member.down_since
            until = end if gone is None else min(end, max(gone, begun) + options.unknown_patience)
            left = until - time.monotonic()
            if left <= 0:
                return
            news = self._fleet.news()
            first: set[asyncio.Future[Any]] = {call, news}
            try:
                await asyncio.wait(first, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()

    def _ended(self, call: asyncio.Task[Sequence[Answer]], messages: Sequence[Message]) -> None:
        if not call.cancelled() and self._fleet.is_open:
            self._late(self._member, messages, call.result())


async def _submitted(backend: Backend, messages: Sequence[Message]) -> Sequence[Answer]:
    """Never raises."""
    try:
        answers = await backend.submitter().submit(messages)
    except TranshipError as error:
        return [error] * len(messages)
    except Exception as error:
        log.exception("the submit of %s failed in an unexpected way", backend.url)
        return [_lost(message, error) for message in messages]
    if len(answers) != len(messages):
        bug = ValueError(f"{backend.url} gave {len(answers)} answers for {len(messages)} messages")
        log.error("the submit of %s failed in an unexpected way", backend.url, exc_info=bug)
        return [_lost(message, bug) for message in messages]
    return answers


def _worst(answers: Sequence[Answer]) -> TranshipError | None:
    """The first error that is about the broker."""
    for answer in answers:
        if isinstance(answer, BrokerError | ClosedError | SubmitUnknown):
            return answer
    return None


def _lost(message: Message, cause: BaseException) -> SubmitUnknown:
    task_id = message.envelope.id
    error = SubmitUnknown(f"the broker's answer for task {task_id} was lost", task_id=task_id)
    error.__cause__ = cause
    return error
