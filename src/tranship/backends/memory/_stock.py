"""All messages of one namespace that are not finished: by queue, and by id."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import count
from typing import Protocol

from tranship.backends.memory._clock import Clock
from tranship.backends.memory._queue import Entry, Queue
from tranship.envelope import TaskState
from tranship.ports import QueueInfo, Tombstone
from tranship.protocol import Message

_TRAVELS_ALONE_AFTER = 2


class Ringable(Protocol):
    """Whoever waits for messages."""

    def ring(self) -> None:
        """Look again."""


class Stock:
    """Mutable state: queues, entries by id, bells; changed only under the broker's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count(1)
        self._queues: dict[str, Queue] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._bells: dict[Ringable, frozenset[str]] = {}

    def knows(self, task_id: str) -> bool:
        """Whether a message of this id is queued or held."""
        return task_id in self._entries

    def add(self, message: Message) -> None:
        """Queue a message."""
        entry = Entry(message, self._clock.wall())
        self._entries.setdefault(message.envelope.id, []).append(entry)
        self._queue(message.envelope.queue).add(entry)
        self.ring(message.envelope.queue)

    def take(
        self, rotation: list[str], skip: Collection[str], limit: int, *, lease: float, aging: float
    ) -> list[Entry]:
        """Claim up to ``limit`` messages; ``rotation`` is turned so that queues take turns inside a level."""
        for name in rotation:
            self._queue(name).refresh()
        taken: list[Entry] = []
        while len(taken) < limit and (head := self._head(rotation, skip, aging)) is not None:
            alone = head.count >= _TRAVELS_ALONE_AFTER
            if alone and taken:
                break
            self._claim(head, rotation, lease)
            taken.append(head)
            if alone:
                break
        return taken

    def take_early(self, rotation: list[str], limit: int, *, lease: float) -> list[Entry]:
        """Claim up to ``limit`` messages that are not due yet, the earliest first."""
        taken: list[Entry] = []
        while len(taken) < limit:
            heads = [head for name in rotation if (head := self._queue(name).earliest()) is not None]
            if not heads:
                break
            entry = min(heads, key=lambda head: head[0])[1]
            self._claim(entry, rotation, lease)
            taken.append(entry)
        return taken

    def holds(self, entry: Entry, claim: int) -> bool:
        """Whether ``claim`` still holds ``entry``."""
        self._queue(entry.message.envelope.queue).refresh()
        return entry.token == claim

    def renew(self, entry: Entry, lease: float) -> None:
        """Let the claim that holds ``entry`` hold it for ``lease`` seconds from now."""
        self._queue(entry.message.envelope.queue).hold(entry, entry.token, lease)

    def restore(self, entry: Entry) -> None:
        """Make ``entry`` ready again at its own place."""
        name = entry.message.envelope.queue
        self._queue(name).restore(entry)
        self.ring(name)

    def remove(self, entry: Entry) -> None:
        """Let ``entry`` go for good."""
        envelope = entry.message.envelope
        self._queue(envelope.queue).remove(entry)
        remaining = self._entries[envelope.id]
        remaining.remove(entry)
        if not remaining:
            del self._entries[envelope.id]

    def named(self, tombstone: Tombstone) -> list[Entry]:
        """What a tombstone names and nobody holds."""
        for queue in self._queues.values():
            queue.refresh()
        if tombstone.kind == "id":
            return [entry for entry in self._entries.get(tombstone.value, ()) if not entry.token]
        waiting = (entry for queue in self._queues.values() for entry in queue.waiting())
        return [entry for entry in waiting if entry.message.envelope.cancel_key == tombstone.value]

    def state(self, task_id: str) -> TaskState:
        """Where the latest message of this id stands."""
        entries = self._entries.get(task_id)
        if not entries:
            return TaskState.UNKNOWN
        queue = self._queue(entries[-1].message.envelope.queue)
        queue.refresh()
        return queue.state(entries[-1])

    def infos(self, dead: dict[str, int]) -> list[QueueInfo]:
        """Every queue with something in it, counting ``dead`` letters, by name."""
        names = dead.keys() | {name for name, queue in self._queues.items() if len(queue)}
        return [self._queue(name).info(dead.get(name, 0)) for name in sorted(names)]

    def next_due(self, names: Iterable[str]) -> float | None:
        """Seconds until something in these queues becomes ready by itself."""
        times = [due for name in names if (due := self._queue(name).next_due()) is not None]
        return min(times, default=None)

    def join(self, bell: Ringable, names: Iterable[str]) -> None:
        """Ring ``bell`` whenever something arrives in one of the queues."""
        self._bells[bell] = frozenset(names)

    def part(self, bell: Ringable) -> None:
        """Ring it no more."""
        self._bells.pop(bell, None)

    def ring(self, queue: str | None = None) -> None:
        """Wake who waits for ``queue``, or everybody."""
        for bell, names in self._bells.items():
            if queue is None or queue in names:
                bell.ring()

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name, self._clock, self._numbers.__next__)
        return queue

    def _head(self, rotation: list[str], skip: Collection[str], aging: float) -> Entry | None:
        heads = [head for name in rotation if name not in skip if (head := self._queue(name).head(aging)) is not None]
        # min() keeps the first among equals: the queue whose turn it is.
        return min(heads, key=lambda head: head[0])[1] if heads else None

    def _claim(self, entry: Entry, rotation: list[str], lease: float) -> None:
        name = entry.message.envelope.queue
        entry.count += 1
        self._queue(name).hold(entry, next(self._numbers), lease)
        rotation.remove(name)
        rotation.append(name)
