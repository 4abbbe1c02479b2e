"""The line of one key: who has a slot, how far each part of the line has come, when the next may start. Pure.

Tasks wait in blocks, which are records of their own; the line knows which blocks there are. A part of the line is a
share's: with fair shares there are several, else one. Each change is made to a line that was just read, and written
over the version that was read, or not at all; and so all of them may be made twice.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from tranship.errors import MalformedMessage
from tranship.protocol import Place
from tranship.task import Limits

__all__ = ["LEASE", "LONGEST_WAIT", "Claim", "Granted", "Line", "Overdue", "Standing", "new_part_name"]

LEASE: Final = 20.0
"""Seconds that a slot is a worker's, or on its way to one, without being renewed."""
LONGEST_WAIT: Final = 3600.0
"""Seconds until a message that nobody has taken is sent again, at the most."""
NEAR: Final = 1.5
"""Seconds for which a task may wait in a worker for its turn."""
LOST: Final = 3
"""How often the broker is trusted to bring a task again whose worker has died, before its message is sent again."""
AHEAD: Final = 1.0
"""Seconds for which messages are on their way to workers, where only a rate keeps them."""
EMPTY_FOR: Final = 3600.0
"""Seconds for which an empty line, or an empty part of one, is remembered."""


class Standing:
    """What comes of a claim."""

    ITS_TURN: Final = "its turn"
    RESUMED: Final = "resumed"
    """Its turn; whoever had begun it did not say how it ended."""
    EARLY: Final = "early"
    """The rate does not let it start yet."""
    BUSY: Final = "busy"
    """Somebody else has begun it."""
    OVER: Final = "over"
    """It has ended, or its message was sent before its turn."""
    UNKNOWN: Final = "unknown"
    """Nothing is known of such a place."""


class Claim(NamedTuple):
    """Whether a task may start."""

    standing: str
    at: float = 0.0
    """When it may start, or should be looked at again, in epoch seconds by the broker's clock."""


class Granted(NamedTuple):
    """A task that has got a slot."""

    share: str
    part: str
    block: int
    number: int


class Overdue(NamedTuple):
    """A task that has had a slot for too long without a word."""

    granted: Granted
    comes_again: bool
    """Whether a worker has begun it, so that the broker brings it again, unless it has ended."""


@dataclass(slots=True)
class _Slot:
    owner: str
    """Whose it is; empty: on its way to a worker."""
    until: float
    tries: int
    """How often its message was sent again."""
    begun: bool
    """Whether a worker has begun it."""
    share: str


@dataclass(slots=True)
class _Part:
    name: str
    block: int
    index: int
    """The next that gets a slot."""
    end: int
    """The block after the last."""
    used: float
    """When it was last written to, in epoch seconds."""

    @property
    def waits(self) -> bool:
        """Whether anything waits in it."""
        return self.block < self.end


@dataclass(slots=True)
class Line:
    """The line of one key."""

    slots: dict[tuple[str, int, int], _Slot] = field(default_factory=dict)
    parts: dict[str, _Part] = field(default_factory=dict)
    """By share; the one whose turn it was last comes last."""
    next_start: float = 0.0
    """The theoretical arrival time of GCRA."""

    @classmethod
    def read(cls, data: bytes) -> Line:
        """Return the line of a record.

        Raises:
            MalformedMessage: it is none.
        """
        try:
            found = orjson.loads(data)
            slots = {(part, block, index): _Slot(*rest) for part, block, index, *rest in found["slots"]}
            return cls(slots, {share: _Part(*rest) for share, *rest in found["parts"]}, float(found["next"]))
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedMessage(f"the record of a line of tasks cannot be read: {error}") from error

    def write(self) -> bytes:
        """Return it as the value of its record."""
        data: dict[str, Any] = {
            "slots": [[*key, one.owner, one.until, one.tries, one.begun, one.share] for key, one in self.slots.items()],
            "parts": [[share, one.name, one.block, one.index, one.end, one.used] for share, one in self.parts.items()],
            "next": self.next_start,
        }
        return orjson.dumps(data)

    def ttl(self, now: float) -> float | None:
        """Return the seconds for which its record is kept; None: for as long as something waits or runs."""
        if self.slots or any(one.waits for one in self.parts.values()):
            return None
        return EMPTY_FOR + max(0.0, self.next_start - now)

    # Who comes, and who goes.

    def append(self, share: str, part: str, start: int, end: int, now: float) -> bool:
        """Have the blocks from ``start`` up to ``end`` wait, too; False: the share's part is another one by now."""
        known = self.parts.get(share)
        if known is None:
            if start:
                return False
            self.parts[share] = _Part(part, 0, 0, end, now)
            return True
        if known.name != part:
            return False
        if known.end < end:
            known.end, known.used = end, now
        return True

    def grant(self, limits: Limits, now: float, length: Callable[[str, int], int]) -> list[Granted]:
        """Give free slots to those whose turn it is: first to the shares that have the fewest, and among those to the
        one that has waited longest for its turn. Within a share the first in line comes first.

        Args:
            limits: of the task.
            now: epoch seconds.
            length: how many messages a block has.
        """
        granted: list[Granted] = []
        room = self.room(limits)
        while room > 0 and (share := self._next_share()) is not None:
            part = self.parts[share]
            if part.index < length(part.name, part.block):
                one = Granted(share, part.name, part.block, part.index)
                granted.append(one)
                self.slots[one[1:]] = _Slot("", now + LEASE, 0, False, share)
                part.index += 1
                room -= 1
                # Behind all others.
                self.parts[share] = self.parts.pop(share)
            if part.index >= length(part.name, part.block):
                part.block, part.index = part.block + 1, 0
        return granted

    def room(self, limits: Limits) -> int:
        """How many more may get a slot."""
        rooms = []
        if limits.limit is not None:
            rooms.append(limits.limit - len(self.slots))
        if limits.per_second is not None:
            unused = sum(not one.begun for one in self.slots.values())
            rooms.append(max(limits.burst, int(limits.per_second * AHEAD) + 1) - unused)
        return min(rooms)

    def _next_share(self) -> str | None:
        waiting = [share for share, part in self.parts.items() if part.waits]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        have = Counter(one.share for one in self.slots.values())
        return min(waiting, key=have.__getitem__)

    # Who has a slot.

    def claim(self, place: Place, owner: str, now: float, limits: Limits) -> Claim:
        """Begin a task for ``owner``, if its turn has come."""
        slot = self.slots.get(place[2:])
        if slot is None:
            known = any(part.name == place.part for part in self.parts.values())
            return Claim(Standing.OVER if known else Standing.UNKNOWN)
        if slot.owner not in ("", owner) and slot.until > now:
            return Claim(Standing.BUSY, slot.until)
        start = max(now, self.next_start - (limits.burst - 1) * limits.interval)
        if start > now + NEAR:
            slot.owner, slot.until = "", start + LEASE
            return Claim(Standing.EARLY, start)
        standing = Standing.RESUMED if slot.begun and slot.owner != owner else Standing.ITS_TURN
        self.next_start = max(now, self.next_start) + limits.interval
        slot.owner, slot.until, slot.tries, slot.begun = owner, start + LEASE, 0, True
        return Claim(standing, start)

    def renew(self, place: Place, owner: str, now: float) -> bool:
        """Keep a slot for as long as ever; False: it is somebody else's."""
        slot = self.slots.get(place[2:])
        if slot is None or slot.owner != owner:
            return False
        slot.until = now + LEASE
        return True

    def leave(self, place: Place, owner: str, now: float) -> None:
        """A task has ended: its slot is free, unless somebody else still runs it."""
        slot = self.slots.get(place[2:])
        if slot is not None and (slot.owner in ("", owner) or slot.until <= now):
            del self.slots[place[2:]]
            if (part := self.parts.get(slot.share)) is not None:
                part.used = now

    def give_back(self, place: Place, owner: str, until: float) -> None:
        """A task goes on elsewhere, or later: its slot stays its own, and nobody's else."""
        slot = self.slots.get(place[2:])
        if slot is not None and slot.owner == owner:
            slot.owner, slot.until = "", until

    def overdue(self, now: float) -> list[Overdue]:
        """Return whom nobody has taken in time, and whose worker has died; they are asked for later and later."""
        found = []
        for key, slot in self.slots.items():
            if slot.until < now:
                slot.tries += 1
                slot.owner, slot.until = "", now + min(LEASE * 2.0**slot.tries, LONGEST_WAIT)
                found.append(Overdue(Granted(slot.share, *key), slot.begun and slot.tries <= LOST))
        return found

    def is_over(self, part: str, block: int) -> bool:
        """Whether every task of a block has ended."""
        if any(key[:2] == (part, block) for key in self.slots):
            return False
        return all(one.name != part or block < one.block for one in self.parts.values())

    def tidy(self, now: float) -> None:
        """Forget parts that have been empty for long."""
        used = {key[0] for key in self.slots}
        for share, part in list(self.parts.items()):
            if not part.waits and part.name not in used and part.used < now - EMPTY_FOR:
                del self.parts[share]


def new_part_name() -> str:
    """Return a name that no part of any line has."""
    return secrets.token_hex(8)
