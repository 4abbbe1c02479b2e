"""Which broker took which task, for as long as there is room to remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson

from tranship.ports import Delivery
from tranship.routing._member import Member

__all__ = ["ROOM", "Placements", "task_id_of"]

ROOM: Final = 50_000
"""Tasks that are remembered; of those that are not, every broker is asked."""


class Placements:
    """Members by task id, the first one first; more than one where a task was published again."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[Member, ...]] = {}

    def of(self, task_id: str) -> Sequence[Member]:
        """Where ``task_id`` is or may be; empty: not known."""
        return self._members.get(task_id, ())

    def add(self, ids: Iterable[str], member: Member) -> None:
        """``member`` has them, or may have them."""
        for task_id in ids:
            known = self._members.pop(task_id, ())
            self._members[task_id] = known if member in known else (*known, member)
        while len(self._members) > ROOM:
            del self._members[next(iter(self._members))]

    def remove(self, ids: Iterable[str], member: Member) -> None:
        """``member`` does not have them after all."""
        for task_id in ids:
            left = tuple(one for one in self._members.pop(task_id, ()) if one is not member)
            if left:
                self._members[task_id] = left


def task_id_of(delivery: Delivery) -> str | None:
    """The id of a delivered task, without decoding it; None: it has none that can be read."""
    headers = delivery.message.headers
    if isinstance(headers, bytes):
        try:
            headers = orjson.loads(headers)
        except orjson.JSONDecodeError:
            return None
    task_id = headers.get("id") if isinstance(headers, Mapping) else None
    return task_id if isinstance(task_id, str) else None
