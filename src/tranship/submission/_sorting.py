"""What becomes of each message of a round trip: answered for good, or tried again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tranship.envelope import Receipt
from tranship.errors import BrokerUnreachable, PluginError, SubmitTimeout, SubmitUnknown, TranshipError
from tranship.protocol import Message
from tranship.submission._handover import unknown
from tranship.submission._jobs import Answer, Doubtful, Flight, Job, Span

__all__ = ["Sorting"]

_ACCEPTED: Final = {Receipt}


class Sorting:
    """Hands answers to their jobs.

    Args:
        timeout: seconds until a submit is given up, for the error.
        retry_safe: whether the backend recognises a message that it has already (RETRY_SAFE).
    """

    def __init__(self, *, timeout: float, retry_safe: bool) -> None:
        self._timeout = timeout
        self._retry_safe = retry_safe

    def sort_out(self, flight: Flight, answers: Sequence[Answer]) -> list[Span]:
        """Answer what is final; return what is to be tried again."""
        again: list[Span] = []
        offset = 0
        for job, start, stop in flight.batch:
            part = answers[offset : offset + stop - start]
            offset += stop - start
            # Never tried before: messages that are tried again travel one by one.
            if not job.messages[start].tries and set(map(type, part)) == _ACCEPTED:
                job.answer(start, part)
            else:
                again.extend(self._one_by_one(job, start, part, flight.doubtful))
        return again

    def refuse(self, flight: Flight) -> None:
        """Answer everything of ``flight``: time is up."""
        for job, start, stop in flight.batch:
            for index in range(start, stop):
                job.answer(index, [self._late(job.messages[index], flight.doubtful)])

    def _one_by_one(self, job: Job, start: int, answers: Sequence[Answer], doubtful: Doubtful) -> list[Span]:
        again: list[Span] = []
        for index, answer in enumerate(answers, start):
            message = job.messages[index]
            if self._try_again(message, answer, doubtful):
                again.append((job, index, index + 1))
            else:
                job.answer(index, [_own(message, answer)])
        return again

    def _try_again(self, message: Message, answer: Answer, doubtful: Doubtful) -> bool:
        if isinstance(answer, SubmitUnknown):
            # A driver's bug would be there the next time, too.
            if not self._retry_safe or isinstance(answer.__cause__, PluginError):
                return False
            doubtful[message.envelope.id] = answer
        elif not isinstance(answer, BrokerUnreachable):
            return False
        message.tries += 1
        message.check_id = True
        return True

    def _late(self, message: Message, doubtful: Doubtful) -> TranshipError:
        task_id = message.envelope.id
        if task_id in doubtful:
            return _about(message, doubtful[task_id])
        return SubmitTimeout(
            f"the broker could not be reached for {self._timeout:g} s; task {task_id} was not submitted",
            task_id=task_id,
        )


def _own(message: Message, answer: Answer) -> Answer:
    """The retried copy of a message we submitted ourselves is no duplicate to its caller."""
    if message.tries and isinstance(answer, Receipt) and answer.duplicate_of == message.envelope.id:
        return Receipt(message.envelope.id)
    return _about(message, answer) if isinstance(answer, SubmitUnknown) else answer


def _about(message: Message, said: SubmitUnknown | None) -> SubmitUnknown:
    """What was said of one message; if of a whole batch, or nothing, the caller is told which task it is about."""
    return unknown(message, said) if said is None or said.task_id is None else said
