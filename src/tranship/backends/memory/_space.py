"""Everything one namespace holds, and the steps that change it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from tranship.backends.memory._agenda import Expiring
from tranship.backends.memory._clock import Clock
from tranship.backends.memory._dead import DeadLetters
from tranship.backends.memory._guard import Guard
from tranship.backends.memory._queue import Entry
from tranship.backends.memory._results import Results
from tranship.backends.memory._signals import Signals
from tranship.backends.memory._stock import Stock
from tranship.envelope import DeadLetter, ErrorInfo, Receipt, TaskResult, TaskState
from tranship.errors import TaskCancelled
from tranship.ports import Delivery, QueueInfo, Settled, Settlement, StoredResult, Tombstone, Verdict
from tranship.protocol import Message, encode_result, restarted


@dataclass(frozen=True, slots=True)
class Claim:
    """What a delivery's token is: the entry, and the number of the claim that was made on it."""

    entry: Entry
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a backend's options say for messages that say nothing; seconds."""

    lease: float
    result_ttl: float
    dedup_window: float
    aging: float


class Space:
    """Mutable state: stock, dedup keys, results, dead letters, signals; changed only under ``guard``.

    No method blocks or awaits, so nothing can be cancelled half done.
    """

    def __init__(self, clock: Clock, guard: Guard) -> None:
        self.guard = guard
        self.stock = Stock(clock)
        self.results = Results(clock)
        self.signals = Signals(clock)
        self.dead = DeadLetters()
        self._clock = clock
        self._keys: Expiring[str, str] = Expiring()

    def submit(self, message: Message, window: float) -> Receipt:
        """Queue ``message`` unless its id (when it is to be checked) or its dedup key is known."""
        envelope = message.envelope
        if message.check_id and self.knows(envelope.id):
            return Receipt(envelope.id, duplicate_of=envelope.id)
        if envelope.dedup_key is not None:
            now = self._clock.steady()
            if (first := self._keys.get(envelope.dedup_key, now)) is not None:
                return Receipt(envelope.id, duplicate_of=first)
            taken_for = window if envelope.dedup_window is None else envelope.dedup_window
            self._keys.put(envelope.dedup_key, envelope.id, until=now + taken_for)
        self.stock.add(message)
        return Receipt(envelope.id)

    def take(self, rotation: list[str], skip: Collection[str], limit: int, defaults: Defaults) -> list[Entry]:
        """Claim up to ``limit`` messages of the queues in ``rotation``."""
        return self.stock.take(rotation, skip, limit, lease=defaults.lease, aging=defaults.aging)

    def settle(self, settlement: Settlement, ttl: float) -> Settled:
        """Carry out one verdict with everything that belongs to it, or nothing."""
        entry = self.owned(settlement.delivery)
        if entry is None:
            return Settled.LOST
        if settlement.result is not None:
            self.results.put(settlement.result, ttl=ttl)
        self._end(entry, settlement)
        return Settled.CONFIRMED

    def _end(self, entry: Entry, settlement: Settlement) -> None:
        match settlement.verdict:
            case Verdict.ACK:
                self.stock.remove(entry)
            case Verdict.NACK:
                self.stock.restore(entry)
            case Verdict.REJECT:
                self.dead.add(entry, settlement, self._clock.wall())
                self.stock.remove(entry)
            case Verdict.REPLACE:
                if settlement.replacement is not None:
                    self.stock.add(settlement.replacement)
                self.stock.remove(entry)
            case never:
                assert_never(never)

    def extend(self, delivery: Delivery, lease: float) -> bool:
        """Renew the lease of ``delivery`` if it is still held."""
        entry = self.owned(delivery)
        if entry is not None:
            self.stock.renew(entry, lease)
        return entry is not None

    def release(self, delivery: Delivery) -> None:
        """Give ``delivery`` back, not counted, if it is still held."""
        entry = self.owned(delivery)
        if entry is not None:
            entry.count -= 1
            self.stock.restore(entry)

    def owned(self, delivery: Delivery) -> Entry | None:
        """Return the entry of a delivery whose claim still stands."""
        claim: Claim = delivery.token
        return claim.entry if self.stock.holds(claim.entry, claim.number) else None

    def adopt(self, letter: DeadLetter, message: Message) -> None:
        """Keep a dead letter of another broker."""
        self.dead.adopt(letter, Entry(message, self._clock.wall(), count=letter.deliveries))

    def replay(self, ids: Collection[str]) -> list[str]:
        """Queue dead letters again as if they were new; return which of ``ids`` were found."""
        found: set[str] = set()
        for letter, entry in self.dead.find(ids):
            self.dead.drop(letter)
            self.results.forget(entry.message.envelope.id)
            self.stock.add(_fresh(entry.message))
            found |= {letter.id, entry.message.envelope.id}
        return [one for one in ids if one in found]

    def cancel(self, tombstones: Sequence[Tombstone], ttl: float) -> list[str]:
        """Keep the tombstones and remove what they name and nobody holds yet; return the ids removed."""
        removed: list[str] = []
        for tombstone in tombstones:
            self.signals.bury(tombstone)
            for entry in self.stock.named(tombstone):
                self.stock.remove(entry)
                self._put_cancelled(entry.message, ttl)
                removed.append(entry.message.envelope.id)
        return removed

    def knows(self, task_id: str) -> bool:
        """Whether the task is queued, held, or has a result."""
        return self.stock.knows(task_id) or self.results.get(task_id) is not None

    def read(self, task_id: str) -> StoredResult:
        """Return the result of a task, or where it stands."""
        stored = self.results.get(task_id)
        if stored is not None:
            return stored
        return StoredResult(id=task_id, state=self.stock.state(task_id))

    def infos(self) -> list[QueueInfo]:
        """Every queue with something in it, by name."""
        return self.stock.infos(self.dead.counts())

    def _put_cancelled(self, message: Message, ttl: float) -> None:
        envelope = message.envelope
        if not envelope.keeps_result:
            return
        result = TaskResult(
            id=envelope.id,
            state=TaskState.CANCELLED,
            error=ErrorInfo(type="tranship.errors.TaskCancelled", message="cancelled", code=TaskCancelled.code),
            attempt=envelope.attempt,
            finished_at=self._clock.wall(),
        )
        document = encode_result(result)
        stored = StoredResult(id=envelope.id, state=TaskState.CANCELLED, document=document, ttl=envelope.result_ttl)
        self.results.put(stored, ttl=ttl)


def _fresh(message: Message) -> Message:
    """The task as if it were new, its earlier attempts forgotten."""
    envelope = replace(message.envelope, attempt=0, not_before=None)
    return replace(message, envelope=envelope, headers=restarted(message.headers))
