"""Submits and results that pass through middleware; clients without any never come here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tranship.envelope import Envelope, Receipt, TaskResult, new_ids
from tranship.errors import ConfigurationError, SubmitError, TranshipError
from tranship.middleware import Chain
from tranship.task import TaskCall, current_or_none

if TYPE_CHECKING:
    # Loaded when the first connection is made: a client that is only constructed costs little.
    from tranship.client._link import ClientLink
    from tranship.protocol import Message
    from tranship.submission import Answer

__all__ = ["envelopes_of", "result_through", "submit_many_through", "submit_through"]


def envelopes_of(link: ClientLink, calls: Sequence[TaskCall[Any]]) -> list[tuple[Envelope, bool]]:
    """Return the envelope of each call, and whether its id is the caller's own; on the caller's thread.

    Raises:
        InvalidArgumentsError: a model that a worker would not read as it is written.
    """
    now, parent, reply_to = link.clock.now(), current_or_none(), link.reply_to
    made = []
    for call, fresh_id in zip(calls, new_ids(len(calls)), strict=True):
        envelope = call.task.envelope(
            call.args, call.kwargs, now=now, reply_to=reply_to, parent=parent, fresh_id=fresh_id
        )
        made.append((envelope, envelope.id is not fresh_id))
    return made


async def submit_through(
    link: ClientLink, chain: Chain[Envelope, Receipt], envelope: Envelope, *, own_id: bool, awaited: bool
) -> tuple[Message, Receipt]:
    """Submit one task through ``chain``, on the link's loop; return the message that was sent.

    Raises:
        EncodeError, MessageTooLarge, SubmitTimeout, SubmitUnknown, StorageFull, and what the middleware raises.
    """
    sent: list[Message] = []

    async def send(changed: Envelope) -> Receipt:
        message = link.encode(changed)
        message.check_id, message.awaited = own_id or changed.id != envelope.id, awaited
        sent[:] = [message]
        (answer,) = await link.submission.submit([message])
        if isinstance(answer, Receipt):
            return answer
        raise answer

    receipt = await chain(envelope, send)
    if not sent or not isinstance(receipt, Receipt):
        raise SubmitError(
            f"a middleware did not hand task {envelope.id} ({envelope.task}) on: its submit returned {receipt!r}; "
            "return what call_next returns, or raise an error that says why not",
            task_id=envelope.id,
        )
    return sent[0], receipt


async def submit_many_through(
    link: ClientLink, chain: Chain[Envelope, Receipt], envelopes: Sequence[tuple[Envelope, bool]]
) -> list[tuple[Any, Answer]]:
    """The same for many at once, which share round trips; message and answer of each, in order."""
    return await asyncio.gather(*(_answer(link, chain, envelope, own_id) for envelope, own_id in envelopes))


async def _answer(
    link: ClientLink, chain: Chain[Envelope, Receipt], envelope: Envelope, own_id: bool
) -> tuple[Any, Answer]:
    try:
        return await submit_through(link, chain, envelope, own_id=own_id, awaited=False)
    except TranshipError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - a middleware of the user's own may raise anything
        failure = SubmitError(f"a middleware raised {type(error).__name__}: {error}", task_id=envelope.id)
        failure.__cause__ = error
        return None, failure


async def result_through(chain: Chain[TaskResult, TaskResult], result: TaskResult) -> TaskResult:
    """Return what ``chain`` makes of a terminal result; another one is not its affair.

    Raises:
        ConfigurationError: it makes something else of it; and what the middleware raises.
    """
    if not result.state.terminal:
        return result
    changed: Any = await chain(result, _same)
    if isinstance(changed, TaskResult):
        return changed
    raise ConfigurationError(
        f"the result of a middleware is {changed!r} for task {result.id}; return a TaskResult, as call_next does"
    )


async def _same(result: TaskResult) -> TaskResult:
    return result
