"""Handing a batch to the driver: through a callback where it can, else in a task; always answered, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from tranship.errors import SubmitUnknown, TranshipError
from tranship.ports import Backend, PromptSubmitter, Submitter
from tranship.protocol import Message
from tranship.submission._jobs import Answer

if TYPE_CHECKING:
    from tranship.ports import IdKeeper

__all__ = ["HandOver", "submitter_of", "unknown"]

log = logging.getLogger("tranship.submission")

Answered = Callable[[Sequence[Answer]], None]


class HandOver:
    """The driver, as the submission sees it.

    Args:
        submitter: the driver's.
        loop: the loop it lives on.
    """

    def __init__(self, submitter: Submitter, loop: asyncio.AbstractEventLoop) -> None:
        self._submitter = submitter
        self._prompt = submitter if isinstance(submitter, PromptSubmitter) else None
        self._loop = loop
        self._calls: set[asyncio.Task[Sequence[Answer]]] = set()

    def submit(self, messages: Sequence[Message], answered: Answered) -> None:
        """Begin one round trip; ``answered`` is called later, once, with an answer for each message."""
        if self._prompt is not None:
            try:
                self._prompt.post(messages, partial(_answer, messages, answered))
            except Exception as error:
                # A driver's bug must not leave callers waiting.
                log.exception("the backend's post failed in an unexpected way")
                self._loop.call_soon(answered, [unknown(message, error) for message in messages])
            return
        call = self._loop.create_task(self._call(messages))
        self._calls.add(call)
        call.add_done_callback(lambda call: self._ended(call, messages, answered))

    def _ended(self, call: asyncio.Task[Sequence[Answer]], messages: Sequence[Message], answered: Answered) -> None:
        self._calls.discard(call)
        # Only a loop that is being shut down cancels it.
        answered([unknown(message) for message in messages] if call.cancelled() else call.result())

    async def _call(self, messages: Sequence[Message]) -> Sequence[Answer]:
        try:
            return _checked(await self._submitter.submit(messages), messages)
        except TranshipError as error:
            return [error] * len(messages)
        except Exception as error:
            # A driver's bug must not leave callers waiting.
            log.exception("the backend's submit failed in an unexpected way")
            return [unknown(message, error) for message in messages]


def submitter_of(backend: Backend, store: Backend | None = None) -> Submitter:
    """Return the submitter of a broker; where results are at a store that has to be told of ids, one that tells it.

    Args:
        backend: the broker.
        store: where results are kept; None: at the broker.
    """
    keeper = store or backend
    if not keeper.capabilities.told_of_ids:
        return backend.submitter()
    # Loaded by those who have asked for it.
    from tranship.submission._telling import TellingSubmitter

    return TellingSubmitter(backend.submitter(), cast("IdKeeper", keeper.results()))


def unknown(message: Message, cause: BaseException | None = None) -> SubmitUnknown:
    """The answer for a message whose fate nobody knows."""
    error = SubmitUnknown(
        f"the broker's answer for task {message.envelope.id} was lost: it may have been submitted, or not",
        task_id=message.envelope.id,
    )
    error.__cause__ = cause
    return error


def _answer(messages: Sequence[Message], answered: Answered, answers: Sequence[Answer]) -> None:
    answered(answers if len(answers) == len(messages) else _checked(answers, messages))


def _checked(answers: Sequence[Answer], messages: Sequence[Message]) -> Sequence[Answer]:
    if len(answers) == len(messages):
        return answers
    error = ValueError(f"the backend gave {len(answers)} answers for {len(messages)} messages")
    log.error("the backend's submit failed in an unexpected way", exc_info=error)
    return [unknown(message, error) for message in messages]
