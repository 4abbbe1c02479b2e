"""Telling a result store of tasks before they are submitted, so that it knows their ids (KNOWS_IDS, ``told``)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tranship.envelope import Receipt
from tranship.errors import SubmitUnknown, TranshipError
from tranship.ports import KnownId, Submitter
from tranship.protocol import Message

if TYPE_CHECKING:
    from tranship.ports import IdKeeper

__all__ = ["TellingSubmitter"]

log = logging.getLogger("tranship.submission")


class TellingSubmitter:
    """See :class:`tranship.ports.Submitter`. What the store cannot be told of is not submitted, and so retryable.

    Args:
        submitter: the broker's.
        keeper: the store.
    """

    def __init__(self, submitter: Submitter, keeper: IdKeeper) -> None:
        self._submitter, self._keeper = submitter, keeper

    @property
    def max_message_size(self) -> int:
        """The broker's."""
        return self._submitter.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Tell the store, submit, and take back what was not accepted."""
        envelopes = [one.envelope for one in messages if one.envelope.keeps_result]
        tasks = [KnownId(one.id, one.not_before or 0.0, one.result_ttl) for one in envelopes]
        try:
            fresh = await self._keeper.keep_ids(tasks) if tasks else []
        except TranshipError as error:
            return [error] * len(messages)
        answers = await self._submitter.submit(messages)
        new = {one.id for one, is_new in zip(tasks, fresh, strict=True) if is_new}
        gone = [one.envelope.id for one, answer in zip(messages, answers, strict=True) if _is_elsewhere(one, answer)]
        await self._take_back([one for one in gone if one in new])
        return answers

    async def _take_back(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        try:
            await self._keeper.drop_ids(ids)
        except TranshipError as error:
            log.debug("%d ids of tasks that were not submitted stay known for a while: %s", len(ids), error)


def _is_elsewhere(message: Message, answer: Receipt | TranshipError) -> bool:
    """Whether there is no task of this id: it was refused, or is a duplicate of another one."""
    if isinstance(answer, Receipt):
        return answer.duplicate_of not in (None, message.envelope.id)
    return not isinstance(answer, SubmitUnknown)
