"""Submits of tasks with limits: they go to the line of their key, all others to the broker as ever."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship.limits._lines import Lines
from tranship.protocol import Message, Place, place_of
from tranship.task import Limits

__all__ = ["HandsOver", "LinedHandOver"]

log = logging.getLogger("tranship.limits")

Answer: TypeAlias = Receipt | TranshipError
Answered: TypeAlias = Callable[[Sequence[Answer]], None]


class HandsOver(Protocol):
    """Hands messages to the broker, or sees to it that somebody does."""

    def submit(self, messages: Sequence[Message], answered: Answered) -> None:
        """Begin one round trip; ``answered`` is called later, once, with an answer for each message."""


class LinedHandOver:
    """Hands a client's messages over, some to lines.

    What is delayed, has a dedup key, or does not say which line it belongs to goes to the broker first, and takes its
    place when it comes to a worker.

    Args:
        broker: hands messages to it.
        loop: the loop it lives on.
    """

    lines: Lines

    def __init__(self, broker: HandsOver, loop: asyncio.AbstractEventLoop) -> None:
        self._broker, self._loop = broker, loop
        self._limits: dict[str, Limits] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    def know(self, task: str, limits: Limits) -> None:
        """Have tasks of a name wait in lines; any thread."""
        self._limits[task] = limits

    def submit(self, messages: Sequence[Message], answered: Answered) -> None:
        """Begin one round trip; see :meth:`HandsOver.submit`."""
        if any(self._place(one) is not None for one in messages):
            job = self._loop.create_task(self._submit(messages, answered))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)
        else:
            self._broker.submit(messages, answered)

    async def send(self, messages: Sequence[Message]) -> Sequence[Answer]:
        """Hand messages to the broker."""
        future: asyncio.Future[Sequence[Answer]] = self._loop.create_future()
        self._broker.submit(messages, lambda answers: None if future.done() else future.set_result(answers))
        return await future

    def _place(self, message: Message) -> Place | None:
        """Return where a task is to stand in a line; None: the broker gets it."""
        envelope = message.envelope
        if envelope.task not in self._limits or envelope.not_before is not None or envelope.dedup_key is not None:
            return None
        place = place_of(envelope)
        return None if place is None or place.taken else place

    async def _submit(self, messages: Sequence[Message], answered: Answered) -> None:
        answers: dict[int, Answer] = {}
        lined: defaultdict[tuple[str, Place], list[int]] = defaultdict(list)
        direct = []
        for number, one in enumerate(messages):
            place = self._place(one)
            if place is None:
                direct.append(number)
            else:
                lined[one.envelope.task, place].append(number)
        jobs = [self._enter(task, place, numbers, messages, answers) for (task, place), numbers in lined.items()]
        if direct:
            jobs.append(self._send_direct(direct, messages, answers))
        await asyncio.gather(*jobs)
        answered([answers[number] for number in range(len(messages))])

    async def _enter(
        self, task: str, place: Place, numbers: Sequence[int], messages: Sequence[Message], answers: dict[int, Answer]
    ) -> None:
        entering = [messages[number] for number in numbers]
        try:
            found = await self.lines.enter(place, entering, self._limits[task])
            # A program may end right after its submit.
            await self.lines.sent(task, place.key)
        except BrokerUnreachable as error:
            found = [_unknown(one, error) for one in entering]
        except TranshipError as error:
            found = [error] * len(entering)
        except Exception as error:
            # A bug must not leave callers waiting.
            log.exception("taking a place in a line failed in an unexpected way")
            found = [_unknown(one, error) for one in entering]
        answers.update(zip(numbers, found, strict=True))

    async def _send_direct(
        self, numbers: Sequence[int], messages: Sequence[Message], answers: dict[int, Answer]
    ) -> None:
        found = await self.send([messages[number] for number in numbers])
        answers.update(zip(numbers, found, strict=True))


def _unknown(message: Message, cause: BaseException) -> SubmitUnknown:
    error = SubmitUnknown(
        f"whether task {message.envelope.id} waits in its line is not known: {cause}", task_id=message.envelope.id
    )
    error.__cause__ = cause
    return error
