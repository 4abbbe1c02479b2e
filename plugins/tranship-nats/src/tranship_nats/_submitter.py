"""The submitter: one publish for each message, all of a batch under way at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from tranship.envelope import Priority, Receipt
from tranship.errors import BrokerUnreachable, ClosedError, SubmitUnknown, TranshipError
from tranship.protocol import Message
from tranship_nats._asks import Answer, Ask, Round
from tranship_nats._context import Context
from tranship_nats._dedup import Keys
from tranship_nats._errors import ApiError, Lost, again, api_error, error_in, gone, no_responders
from tranship_nats._frames import escaped
from tranship_nats._message import block_of, check_size
from tranship_nats._names import Names, id_token

__all__ = ["NatsSubmitter"]

log = logging.getLogger("tranship.nats")

COUNT: Final = 1000
"""Messages of one call that are under way at once."""
BYTES: Final = 4 << 20

Outcome = Receipt | TranshipError


class NatsSubmitter:
    """Stores messages; see :class:`tranship.ports.Submitter`.

    A message whose answer is lost is unknown, and is never sent again from here.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._keys = Keys(ctx)
        self._work = Subjects(ctx.names)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def max_message_size(self) -> int:
        """The option of that name, or less where the server takes less."""
        return self._ctx.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publish ``messages``, a thousand at a time."""
        self._ctx.check()
        self._own(messages)
        outcomes: list[Outcome] = []
        for part in _parts(messages):
            outcomes += await self._submit(part)
        return outcomes

    def post(self, messages: Sequence[Message], answered: Callable[[Sequence[Outcome]], object]) -> None:
        """The same without a task, for what takes one publish each; sent at once."""
        ready = self._ctx.link.up and "work" in self._ctx.streams.found and not self._ctx.gate.closed
        if not ready or not _are_plain(messages):
            self._post_slowly(messages, answered)
            return
        self._own(messages)
        outcomes: list[Outcome] = [Receipt(message.envelope.id) for message in messages]
        fits = [index for index, message in enumerate(messages) if self._fits(message, index, outcomes)]
        if not fits:
            asyncio.get_running_loop().call_soon(answered, outcomes)
            return

        def then(answers: list[Answer]) -> None:
            for index, answer in zip(fits, answers, strict=True):
                outcomes[index] = self._outcome(messages[index], "work", answer)
            answered(outcomes)

        round_ = Round(len(fits), then)
        for number, index in enumerate(fits):
            self._ctx.link.ask(round_, number, self._ask(messages[index]))

    def _post_slowly(self, messages: Sequence[Message], answered: Callable[[Sequence[Outcome]], object]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(messages, answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, messages: Sequence[Message], answered: Callable[[Sequence[Outcome]], object]) -> None:
        try:
            outcomes: Sequence[Outcome] = await self.submit(messages)
        except TranshipError as error:
            outcomes = [again(error) for _ in messages]
        except Exception as error:
            # Nobody awaits this task: without an answer its callers would wait for ever.
            log.exception("submitting %d messages failed in an unexpected way", len(messages))
            outcomes = [SubmitUnknown(f"the submit failed in an unexpected way: {error!r}") for _ in messages]
        answered(outcomes)

    def _own(self, messages: Sequence[Message]) -> None:
        expected = self._ctx.expected
        for message in messages:
            if message.envelope.reply_to == expected.address:
                expected.submitted(message.envelope.id)

    def _fits(self, message: Message, index: int, outcomes: list[Outcome]) -> bool:
        error = check_size(message.envelope.id, message.size, self._ctx.max_message_size)
        if error is not None:
            outcomes[index] = error
        return error is None

    # One part.

    async def _submit(self, messages: Sequence[Message]) -> list[Outcome]:
        outcomes: list[Outcome] = [Receipt(message.envelope.id) for message in messages]
        left = [index for index, message in enumerate(messages) if self._fits(message, index, outcomes)]
        try:
            left = await self._without_known(messages, left, outcomes)
            for kind in {_kind(messages[index]) for index in left}:
                await self._ctx.streams.need(kind)
            answers = await self._ctx.link.ask_all([self._ask(messages[index]) for index in left])
        except TranshipError as error:
            # Nothing has been published yet.
            self._refuse(left, outcomes, error)
            return outcomes
        for index, answer in zip(left, answers, strict=True):
            outcomes[index] = self._outcome(messages[index], _kind(messages[index]), answer)
        await self._keys.after(messages, left, answers, outcomes)
        return outcomes

    async def _without_known(
        self, messages: Sequence[Message], left: Sequence[int], outcomes: list[Outcome]
    ) -> list[int]:
        """Answer for those whose key is taken, or that have a result already; return the others."""
        known = await self._keys.before(messages, left)
        known |= await self._finished(messages, [index for index in left if messages[index].tries])
        for index, task_id in known.items():
            outcomes[index] = Receipt(messages[index].envelope.id, duplicate_of=task_id)
        return [index for index in left if index not in known]

    async def _finished(self, messages: Sequence[Message], checked: Sequence[int]) -> dict[int, str]:
        if not checked:
            return {}
        ctx = self._ctx
        stream = await ctx.streams.need("results")
        keys = [ctx.names.key("results", id_token(messages[index].envelope.id)) for index in checked]
        answers = await ctx.api.make_all([ctx.api.getting(stream, {"last_by_subj": key}) for key in keys])
        found = [ctx.api.read(answer, stream) for answer in answers]
        return {index: messages[index].envelope.id for index, one in zip(checked, found, strict=True) if one}

    def _refuse(self, left: Sequence[int], outcomes: list[Outcome], error: TranshipError) -> None:
        # Even a lost answer was to a question: nothing is stored.
        definite = BrokerUnreachable(str(error)) if isinstance(error, Lost) else error
        definite.__cause__ = error.__cause__
        for index in left:
            outcomes[index] = again(definite)

    def _ask(self, message: Message) -> Ask:
        envelope = message.envelope
        msg_id = self._keys.msg_id(envelope) if envelope.dedup_key is not None else escaped(envelope.id)
        headers, body = block_of(message, msg_id, not_before=envelope.not_before)
        if envelope.not_before is None:
            return self._work.of(envelope.queue, envelope.priority), headers, body
        subject = self._ctx.names.delayed(envelope.queue, envelope.priority, envelope.id, envelope.not_before)
        return subject.encode(), headers, body

    def _outcome(self, message: Message, kind: str, answer: Answer) -> Outcome:
        task_id = message.envelope.id
        if isinstance(answer, TranshipError):
            return self._failed(answer, task_id)
        headers, data = answer
        if data.startswith(b'{"stream"') and b'"duplicate"' not in data and b'"error"' not in data:
            return Receipt(task_id)
        return self._unusual(task_id, kind, headers, data)

    def _unusual(self, task_id: str, kind: str, headers: bytes | None, data: bytes) -> Outcome:
        link, stream = self._ctx.link, self._ctx.streams.name(kind)
        if no_responders(headers):
            self._ctx.streams.doubt(kind)
            return gone(link.place, stream)
        error = error_in(data)
        if error is not None:
            return self._said(error, stream, task_id)
        return Receipt(task_id, duplicate_of=task_id if b'"duplicate"' in data else None)

    def _said(self, error: ApiError, stream: str, task_id: str) -> TranshipError:
        ours = api_error(error, f"{self._ctx.link.place}: publishing to {stream}")
        ours.task_id = task_id
        return ours

    def _failed(self, error: TranshipError, task_id: str) -> TranshipError:
        if isinstance(error, Lost | ClosedError):
            unknown = SubmitUnknown(f"the answer was lost: {error}", task_id=task_id)
            unknown.__cause__ = error
            return unknown
        return again(error)


class Subjects:
    """Subjects of queues, encoded once."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[tuple[str, Priority], bytes] = {}

    def of(self, queue: str, priority: Priority) -> bytes:
        """Return the subject of one level of a queue."""
        found = self._known.get((queue, priority))
        if found is None:
            if len(self._known) > 10_000:
                self._known.clear()
            found = self._known[queue, priority] = self._names.task(queue, priority).encode()
        return found


def _kind(message: Message) -> str:
    return "work" if message.envelope.not_before is None else "delay"


def _are_plain(messages: Sequence[Message]) -> bool:
    """Whether they take one publish each, and fit into one write."""
    size = 0
    for message in messages:
        envelope = message.envelope
        if message.check_id or envelope.dedup_key is not None or envelope.not_before is not None:
            return False
        size += message.size
    return len(messages) <= COUNT and size <= BYTES


def _parts(messages: Sequence[Message]) -> list[Sequence[Message]]:
    parts, start, size = [], 0, 0
    for index, message in enumerate(messages):
        if index > start and (index - start >= COUNT or size + message.size > BYTES):
            parts.append(messages[start:index])
            start, size = index, 0
        size += message.size
    if start < len(messages):
        parts.append(messages[start:])
    return parts
