"""Duplicates: by dedup key for a window, and by id for who submits again. Owns the rows ``k/`` and ``i/``.

A key's row holds the id that the key was taken for. Who finds his own id there sends again: between the row and the
send his predecessor, himself, may have died. An id's row says *sent* only after the send, for the same reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tranship.driver._nouns import Answer, Row
from tranship.driver._outcomes import Outcomes
from tranship.driver._results import result_key
from tranship.driver._rows import Rows
from tranship.errors import SubmitUnknown, TranshipError
from tranship.protocol import Message

__all__ = ["Dedup"]

SENT: Final = b"sent"


class Dedup:
    """Knows what has been submitted before.

    Args:
        rows: the table.
        outcomes: where results are.
        window: seconds for which a key is taken, where the message does not say.
        unique: whether the queue recognises ids by itself: then only results tell of those that have ended.
    """

    def __init__(self, rows: Rows, outcomes: Outcomes, window: float, unique: Callable[[], bool]) -> None:
        self._rows, self._outcomes = rows, outcomes
        self._window, self._unique = window, unique

    def first(self, message: Message) -> Row | None:
        """Return the row that takes the message's key; None: it has no key."""
        envelope = message.envelope
        if envelope.dedup_key is None:
            return None
        window = self._window if envelope.dedup_window is None else envelope.dedup_window
        digest = hashlib.sha256(envelope.dedup_key.encode(errors="surrogatepass")).hexdigest()
        return Row(f"k/{digest}", envelope.id.encode(errors="surrogatepass"), window)

    @staticmethod
    def unless(message: Message) -> str | None:
        """Return the key of the result that would show that the message has run; None: nobody asks."""
        return result_key(message.envelope.id) if message.check_id else None

    @property
    def asks_a_store(self) -> bool:
        """Whether results are no rows, so that no send finds them by itself."""
        return not self._outcomes.are_rows

    async def ended(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        """Return those that have run, by their index, as duplicates of themselves."""
        asked = {at: one.envelope.id for at, one in messages.items() if one.check_id}
        ended = await self._outcomes.ended(list(asked.values()))
        return {at: one for at, one in asked.items() if one in ended}

    async def known(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        """Take the keys of ``messages`` and return those that are duplicates, by their index."""
        duplicates = self._twins(messages)
        duplicates |= await self._sent_before({at: one for at, one in messages.items() if at not in duplicates})
        firsts = {at: row for at, one in messages.items() if at not in duplicates and (row := self.first(one))}
        taken = await self._rows.create(list(firsts.values()))
        for (at, row), other in zip(firsts.items(), taken, strict=True):
            if other is not None and other != row.value:
                duplicates[at] = other.decode()
        return duplicates

    async def told(self, messages: Sequence[Message], answers: Sequence[Answer]) -> None:
        """Note what has been sent, and free the keys of what definitely has not.

        Raises:
            TranshipError: not noted; a retry then sends a second time, or finds its own key.
        """
        pairs = list(zip(messages, answers, strict=True))
        if not self._unique():
            ids = [one.envelope.id for one, answer in pairs if one.check_id and answer is None]
            await self._rows.put([Row(f"i/{one}", SENT, self._window) for one in ids])
        refused = [one for one, answer in pairs if _is_refused(answer)]
        await self._rows.delete([row.key for one in refused if (row := self.first(one))])

    async def forget(self, task_id: str) -> None:
        """Let the id be submitted as if it were new."""
        if not self._unique():
            await self._rows.delete([f"i/{task_id}"])

    def _twins(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        """Find those whose key another message of the same batch has."""
        owners: dict[str, str] = {}
        found: dict[int, Answer] = {}
        for at, message in messages.items():
            key, task_id = message.envelope.dedup_key, message.envelope.id
            if key is not None and owners.setdefault(key, task_id) != task_id:
                found[at] = owners[key]
        return found

    async def _sent_before(self, messages: Mapping[int, Message]) -> dict[int, Answer]:
        unique = self._unique()
        # What is sent for the first time is not asked about where the queue answers for that, in one step.
        asked = {at: one.envelope.id for at, one in messages.items() if one.check_id and (one.tries or not unique)}
        rows = {} if unique else await self._rows.get(f"i/{one}" for one in asked.values())
        ended = await self._outcomes.ended([one for one in asked.values() if f"i/{one}" not in rows])
        return {at: one for at, one in asked.items() if f"i/{one}" in rows or one in ended}


def _is_refused(answer: Answer) -> bool:
    return isinstance(answer, TranshipError) and not isinstance(answer, SubmitUnknown)
