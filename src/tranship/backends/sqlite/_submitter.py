"""The submitter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tranship.backends.sqlite._enqueue import SUBMIT
from tranship.backends.sqlite._faults import again, too_large
from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._log import ROW
from tranship.backends.sqlite._results import SqliteResults
from tranship.backends.sqlite._rows import NewTask, new_task
from tranship.envelope import Receipt
from tranship.errors import BrokerGone, ClosedError, TranshipError
from tranship.protocol import Message

__all__ = ["SqliteSubmitter"]

BATCH = 1000
"""Rows per piece of work for the writer, which bounds how long a transaction takes."""


class SqliteSubmitter:
    """Stores messages; see :class:`tranship.ports.Submitter`.

    Args:
        hub: the backend's.
        results: told the ids whose results come back here.
    """

    def __init__(self, hub: Hub, results: SqliteResults) -> None:
        self._hub = hub
        self._results = results

    @property
    def max_message_size(self) -> int:
        """The option of that name."""
        return self._hub.options.max_message_size

    async def submit(self, messages: Sequence[Message]) -> Sequence[Receipt | TranshipError]:
        """Store ``messages``, in pieces of a thousand."""
        self._hub.check()
        if len(messages) <= BATCH:
            return await self._submit(messages)
        parts = [messages[start : start + BATCH] for start in range(0, len(messages), BATCH)]
        return [answer for part in await asyncio.gather(*map(self._submit, parts)) for answer in part]

    async def _submit(self, messages: Sequence[Message]) -> list[Receipt | TranshipError]:
        rows = list(map(self._row, messages))
        good = [row for row in rows if isinstance(row, NewTask)]
        address = self._hub.address
        ours = [row.id for row in good if row.body[2] == address] if address is not None else []
        self._results.announce(ours)
        try:
            answers = await self._hub.writer.call(SUBMIT, good, weight=_weight(good)) if good else []
        except (ClosedError, BrokerGone):
            raise
        except TranshipError as error:
            return [row if isinstance(row, TranshipError) else _about(error, row) for row in rows]
        if ours and any(answers):
            self._results.disown([row.id for row, known in zip(good, answers, strict=True) if known is not None])
        found = iter(answers)
        return [row if isinstance(row, TranshipError) else Receipt(row.id, next(found)) for row in rows]

    def _row(self, message: Message) -> NewTask | TranshipError:
        if message.size > self.max_message_size:
            return too_large(message.envelope.id, message.size, self.max_message_size)
        try:
            return new_task(message, dedup_window=self._hub.options.dedup_window)
        except TranshipError as error:
            return error


def _weight(rows: Sequence[NewTask]) -> int:
    return max(len(rows), sum(len(row.body[3]) + len(row.body[4]) for row in rows) // ROW)


def _about(error: TranshipError, row: NewTask) -> TranshipError:
    copy = again(error)
    copy.task_id = row.id
    return copy
