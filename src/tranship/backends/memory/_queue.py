"""One queue: what is ready on four levels, what waits for its time, what is held under a lease."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tranship.backends.memory._agenda import Agenda
from tranship.backends.memory._clock import Clock
from tranship.driver import Outgoing
from tranship.envelope import Priority
from tranship.ports import QueueInfo

State = Literal["ready", "delayed", "held"]
Rank = tuple[float, float]
"""Level, lowered by aging, then age; the smallest is delivered first."""


@dataclass(slots=True, eq=False)
class Entry:
    """One message from submit to its end."""

    message: Outgoing
    queue: Queue
    submitted: float
    """Epoch seconds."""
    place: int = 0
    """Its position in the order of arrival; a redelivered message keeps it."""
    count: int = 0
    """How many times it was delivered."""
    token: int = 0
    """The number of the claim that holds it; 0: nobody does."""
    lane: Agenda[Entry] | None = field(default=None, repr=False)


class Queue:
    """Mutable state: four ready lanes, one delayed lane, one held lane; changed only under the broker's lock."""

    def __init__(self, name: str, clock: Clock, places: Callable[[], int]) -> None:
        self.name = name
        self._clock = clock
        self._places = places
        self._ready = {level: Agenda[Entry]() for level in Priority}
        self._delayed: Agenda[Entry] = Agenda()
        self._held: Agenda[Entry] = Agenda()

    def add(self, entry: Entry) -> None:
        """Take a new message in, ready or delayed."""
        self.refresh()
        due = entry.message.ready
        entry.place = self._places()
        if due > self._clock.wall():
            self._move(entry, self._delayed, due)
        else:
            self.restore(entry)

    def restore(self, entry: Entry) -> None:
        """Make ``entry`` ready at its own place; nobody holds it any more."""
        entry.token = 0
        self._move(entry, self._ready[entry.message.facts.level], entry.place)

    def hold(self, entry: Entry, token: int, lease: float) -> None:
        """Lend ``entry`` to the claim ``token``, or renew it, for ``lease`` seconds from now."""
        entry.token = token
        self._move(entry, self._held, self._clock.steady() + lease)

    def remove(self, entry: Entry) -> None:
        """Let ``entry`` go for good."""
        entry.token = 0
        if entry.lane is not None:
            entry.lane.discard(entry)
            entry.lane = None

    def refresh(self) -> None:
        """Make ready what has come due and what was held by somebody whose lease ended."""
        now = self._clock.wall()
        while (entry := self._delayed.pop_due(now)) is not None:
            entry.place = self._places()
            self.restore(entry)
        now = self._clock.steady()
        while (entry := self._held.pop_due(now)) is not None:
            self.restore(entry)

    def holds(self, entry: Entry, token: int) -> bool:
        """Whether the claim ``token`` holds ``entry``, and its lease is not over."""
        until = self._held.key(entry) if entry.token == token else None
        return until is not None and until > self._clock.steady()

    def head(self, aging: float) -> tuple[Rank, Entry] | None:
        """Return the message to deliver next with its rank."""
        best: tuple[Rank, Entry] | None = None
        for level, lane in self._ready.items():
            if (first := lane.first()) is not None:
                rank = self._rank(level, first[1], aging)
                if best is None or rank < best[0]:
                    best = rank, first[1]
                if not aging:
                    break
        return best

    def _rank(self, level: Priority, entry: Entry, aging: float) -> Rank:
        if not aging:
            return float(level), 0.0
        # Among tasks of one rank the oldest is first, or a stream of urgent ones would still win for ever.
        return max(0.0, level - (self._clock.wall() - entry.submitted) // aging), entry.submitted

    def next_due(self) -> float | None:
        """Seconds until something becomes ready by itself."""
        times = []
        if (delayed := self._delayed.first()) is not None:
            times.append(delayed[0] - self._clock.wall())
        if (held := self._held.first()) is not None:
            times.append(held[0] - self._clock.steady())
        return max(0.0, min(times)) if times else None

    def state(self, entry: Entry) -> State:
        """Where ``entry`` stands."""
        if entry.lane is self._held:
            return "held"
        return "delayed" if entry.lane is self._delayed else "ready"

    def entries(self, state: str) -> Iterator[Entry]:
        """Yield the messages in one state, in their order."""
        lanes = {"ready": tuple(self._ready.values()), "delayed": (self._delayed,), "held": (self._held,)}
        for lane in lanes[state]:
            yield from lane.in_order()

    def info(self) -> QueueInfo:
        """What an operator sees of it."""
        self.refresh()
        ages = [self._clock.wall() - entry.submitted for lane in self._ready.values() for entry in lane]
        return QueueInfo(
            name=self.name,
            ready={level: len(lane) for level, lane in self._ready.items()},
            delayed=len(self._delayed),
            in_flight=len(self._held),
            oldest_age=max(0.0, *ages, 0.0),
        )

    def __len__(self) -> int:
        return sum(map(len, (*self._ready.values(), self._delayed, self._held)))

    def _move(self, entry: Entry, lane: Agenda[Entry], key: float) -> None:
        if entry.lane is not None and entry.lane is not lane:
            entry.lane.discard(entry)
        lane.add(entry, key)
        entry.lane = lane
