"""What waits in the queues: counted, looked at, and taken one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tranship.envelope import Priority
from tranship.ports import QueueInfo
from tranship.protocol import number_of
from tranship_redis._channel import Channel
from tranship_redis._keys import SEPARATOR, Keys
from tranship_redis._levels import STEPS, Levels
from tranship_redis._scripts import Script

__all__ = ["Browsing"]

_INSPECT: Final = Script("inspect")
_NOTHING: Final[Sequence[Any]] = (0, 0, 0, 0, 0, b"", b"", b"", b"")
"""What a queue nobody has used since has."""


class Browsing:
    """The verbs of a queue that look without taking, and take what was seen.

    Seen are the queues that tranship has used. What a Celery worker holds is not counted as in flight: nothing on
    the server says which queue it is from without being read whole.

    Args:
        channel: what it goes over.
        keys: of the namespace.
        levels: of its lists.
    """

    def __init__(self, channel: Channel, keys: Keys, levels: Levels) -> None:
        self._channel, self._keys, self._levels = channel, keys, levels

    async def queues(self) -> list[QueueInfo]:
        """Count what is where."""
        keys = self._keys
        now, leases, *rows = await self._channel.run(_INSPECT, [keys.queues, keys.leases], [keys.prefix])
        held = self._held(leases)
        found = {row[0].decode(errors="replace"): row for row in rows}
        infos = [self._info(name, found.get(name), float(now), held[name]) for name in {*found, *held}]
        return [info for info in infos if any(info.ready.values()) or info.delayed or info.in_flight]

    def _held(self, leases: Sequence[Any]) -> Counter[str]:
        held: Counter[str] = Counter()
        for key, count in zip(leases[::2], leases[1::2], strict=True):
            name = key[len(self._keys.prefix) :].partition(SEPARATOR)[0]
            held[name.decode(errors="replace")] += count
        return held

    def _info(self, name: str, row: Sequence[Any] | None, now: float, held: int) -> QueueInfo:
        counts = _NOTHING if row is None else row[1:]
        ready = dict.fromkeys(Priority, 0)
        for step, count in zip(STEPS, counts[:4], strict=True):
            ready[self._levels.priority(step)] += count
        delayed, *stamps = counts[4:]
        return QueueInfo(name=name, ready=ready, delayed=delayed, in_flight=held, oldest_age=_age(now, stamps))


def _age(now: float, stamps: Sequence[bytes]) -> float | None:
    """Return the age of the oldest; None: what is ready was sent by somebody who does not say when."""
    heads = [stamp for stamp in stamps if stamp]
    known = [number for stamp in heads if (number := number_of(stamp)) is not None]
    if not heads:
        return 0.0
    return max(0.0, now - min(known)) if known else None
