"""All messages of one namespace that are not finished: by queue, and by id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, count

from tranship.backends.memory._clock import Clock
from tranship.backends.memory._queue import Entry, Queue, State
from tranship.driver import Outgoing
from tranship.ports import QueueInfo

__all__ = ["Stock"]

Ring = Callable[[], object]


class Stock:
    """Mutable state: queues, entries by id, who is woken; changed only under the broker's lock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count(1)
        self._queues: dict[str, Queue] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._wakes: dict[Ring, frozenset[str]] = {}

    def knows(self, task_id: str) -> bool:
        """Whether a message of this id is queued or held."""
        return task_id in self._entries

    def add(self, message: Outgoing) -> None:
        """Queue a message."""
        facts = message.facts
        entry = Entry(message, self._queue(facts.queue), self._clock.wall())
        self._entries.setdefault(facts.id, []).append(entry)
        entry.queue.add(entry)
        self.ring(facts.queue)

    def take(self, names: Iterable[str], limit: int, *, lease: float, aging: float) -> list[Entry]:
        """Claim up to ``limit`` messages; the queues take turns inside a level, in this order."""
        queues = [self._queue(name) for name in names]
        for queue in queues:
            queue.refresh()
        taken: list[Entry] = []
        while len(taken) < limit and (head := _head(queues, aging)) is not None:
            self._hold(head, lease)
            if len(queues) > 1:
                queues.remove(head.queue)
                queues.append(head.queue)
            taken.append(head)
        return taken

    def claim(self, entry: Entry, lease: float) -> bool:
        """Claim one message, ready or delayed; False: it is held, or gone."""
        entry.queue.refresh()
        if entry.token or entry.lane is None:
            return False
        self._hold(entry, lease)
        return True

    def holds(self, entry: Entry, claim: int) -> bool:
        """Whether ``claim`` still holds ``entry``."""
        return entry.queue.holds(entry, claim)

    def renew(self, entry: Entry, lease: float) -> None:
        """Let the claim that holds ``entry`` hold it for ``lease`` seconds from now."""
        entry.queue.hold(entry, entry.token, lease)

    def restore(self, entry: Entry) -> None:
        """Make ``entry`` ready again at its own place."""
        entry.queue.restore(entry)
        self.ring(entry.queue.name)

    def remove(self, entry: Entry) -> None:
        """Let ``entry`` go for good."""
        entry.queue.remove(entry)
        task_id = entry.message.facts.id
        remaining = self._entries[task_id]
        remaining.remove(entry)
        if not remaining:
            del self._entries[task_id]

    def find(self, ids: Iterable[str], cancel_keys: Collection[str]) -> list[Entry]:
        """Return the messages of these ids, and those with one of the keys."""
        self._refresh()
        found = list(chain.from_iterable(self._entries.get(one, ()) for one in ids))
        if cancel_keys:
            every = chain.from_iterable(self._entries.values())
            found += [one for one in every if one.message.facts.cancel_key in cancel_keys and one not in found]
        return found

    def scan(self, queue: str, state: str) -> list[Entry]:
        """Return the messages of a queue that are in one state, in their order."""
        found = self._queue(queue)
        found.refresh()
        return list(found.entries(state))

    def state(self, entry: Entry) -> State:
        """Where a message stands."""
        return entry.queue.state(entry)

    def infos(self) -> list[QueueInfo]:
        """Every queue with something in it, by name."""
        return [queue.info() for name, queue in sorted(self._queues.items()) if len(queue)]

    def next_due(self, names: Iterable[str]) -> float | None:
        """Seconds until something in these queues becomes ready by itself."""
        times = [due for name in names if (due := self._queue(name).next_due()) is not None]
        return min(times, default=None)

    def join(self, wake: Ring, names: Iterable[str]) -> None:
        """Call ``wake`` whenever something arrives in one of the queues."""
        self._wakes[wake] = frozenset(names)

    def part(self, wake: Ring) -> None:
        """Call it no more."""
        self._wakes.pop(wake, None)

    def ring(self, queue: str | None = None) -> None:
        """Wake who waits for ``queue``, or everybody."""
        for wake, names in tuple(self._wakes.items()):
            if queue is None or queue in names:
                wake()

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name, self._clock, self._numbers.__next__)
        return queue

    def _refresh(self) -> None:
        for queue in self._queues.values():
            queue.refresh()

    def _hold(self, entry: Entry, lease: float) -> None:
        entry.count += 1
        entry.queue.hold(entry, next(self._numbers), lease)


def _head(queues: Sequence[Queue], aging: float) -> Entry | None:
    heads = [head for queue in queues if (head := queue.head(aging)) is not None]
    if len(heads) < 2:
        return heads[0][1] if heads else None
    # min() keeps the first among equals: the queue whose turn it is.
    return min(heads, key=lambda head: head[0])[1]
