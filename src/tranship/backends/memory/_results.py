"""Terminal results of one namespace, and who expects them."""

from __future__ import annotations

from collections.abc import Iterable

from tranship.backends.memory._agenda import Expiring
from tranship.backends.memory._clock import Clock
from tranship.backends.memory._loops import Outbox
from tranship.ports import StoredResult


class Results:
    """Mutable state: results and expectations; changed only under the broker's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stored: Expiring[str, StoredResult] = Expiring()
        self._expected: dict[str, set[Outbox[StoredResult]]] = {}

    @property
    def waiting(self) -> int:
        """How many ids somebody expects."""
        return len(self._expected)

    def put(self, result: StoredResult, *, ttl: float) -> bool:
        """Store a terminal result unless there is one; tell those who expect it, who then expect it no more."""
        if self.get(result.id) is not None:
            return False
        kept = StoredResult(id=result.id, state=result.state, document=result.document)
        seconds = ttl if result.ttl is None else result.ttl
        self._stored.put(result.id, kept, until=self._clock.steady() + seconds)
        for outbox in self._expected.pop(result.id, ()):
            outbox.post(kept)
        return True

    def get(self, task_id: str) -> StoredResult | None:
        """Return the terminal result, if there is one."""
        return self._stored.get(task_id, self._clock.steady())

    def forget(self, task_id: str) -> None:
        """Delete the result, if there is one."""
        self._stored.drop(task_id)

    def expect(self, ids: Iterable[str], outbox: Outbox[StoredResult]) -> None:
        """Post the results of ``ids`` to ``outbox`` when they come."""
        for task_id in ids:
            self._expected.setdefault(task_id, set()).add(outbox)

    def unexpect(self, ids: Iterable[str], outbox: Outbox[StoredResult]) -> None:
        """Post the results of ``ids`` there no more."""
        for task_id in ids:
            outboxes = self._expected.get(task_id, set())
            outboxes.discard(outbox)
            if not outboxes:
                self._expected.pop(task_id, None)
