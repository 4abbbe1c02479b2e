"""Dead letters of one namespace."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from tranship.backends.memory._queue import Entry
from tranship.envelope import DeadLetter
from tranship.ports import Settlement


class DeadLetters:
    """Mutable state: letters and the entries they were; changed only under the broker's lock."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._letters: dict[str, tuple[DeadLetter, Entry]] = {}

    def add(self, entry: Entry, settlement: Settlement, now: float) -> None:
        """Keep a rejected message with the reason."""
        letter = _letter(self._next(), entry, settlement, now)
        self._letters[letter.id] = letter, entry

    def adopt(self, letter: DeadLetter, entry: Entry) -> None:
        """Keep a dead letter of another broker, under a number of our own."""
        letter = replace(letter, id=self._next())
        self._letters[letter.id] = letter, entry

    def find(self, ids: Collection[str]) -> list[tuple[DeadLetter, Entry]]:
        """Return those whose own id or whose task's id is among ``ids``."""
        return [found for found in self._letters.values() if found[0].id in ids or found[0].task_id in ids]

    def page(self, queue: str | None, limit: int, after: str) -> list[DeadLetter]:
        """Return up to ``limit`` of a queue, or of all, oldest first, behind ``after``."""
        return [letter for letter in self._of(queue) if letter.id > after][:limit]

    def drop(self, letter: DeadLetter) -> None:
        """Delete one."""
        del self._letters[letter.id]

    def purge(self, ids: Collection[str] | None, queue: str | None) -> int:
        """Delete by id, of a queue, or all; return how many."""
        letters = self._of(queue)
        doomed = letters if ids is None else [one for one in letters if one.id in ids or one.task_id in ids]
        for letter in doomed:
            self.drop(letter)
        return len(doomed)

    def counts(self) -> Counter[str]:
        """How many there are of each queue."""
        return Counter(letter.queue for letter, _ in self._letters.values())

    def _next(self) -> str:
        return f"{next(self._numbers):016d}"

    def _of(self, queue: str | None) -> list[DeadLetter]:
        return [letter for letter, _ in self._letters.values() if queue is None or letter.queue == queue]


def _letter(own_id: str, entry: Entry, settlement: Settlement, now: float) -> DeadLetter:
    message = entry.message
    return DeadLetter(
        id=own_id,
        task_id=message.envelope.id,
        task=message.envelope.task,
        queue=message.envelope.queue,
        priority=message.envelope.priority,
        reason=settlement.reason,
        detail=settlement.detail,
        deliveries=entry.count,
        died_at=now,
        headers=_headers(message.headers),
        body=message.body,
        content_type=message.content_type,
    )


def _headers(data: bytes) -> Mapping[str, Any]:
    # A message may be dead because its headers cannot be read; the body is kept either way.
    try:
        loaded = json.loads(data)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}
