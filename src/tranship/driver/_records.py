"""Records that belong to no task, and locks. Owns the rows ``y/``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tranship.driver._locks import LOCKS, Locks
from tranship.driver._nouns import Row
from tranship.driver._rows import PAGE, Rows
from tranship.driver._supervisor import Supervisor
from tranship.ports import NameHolder, Record

__all__ = ["DriverRecords"]

KEPT: Final = "y/"


class DriverRecords:
    """The records; see :class:`tranship.ports.Records`.

    Args:
        supervisor: of the backend.
        rows: the table.
    """

    def __init__(self, supervisor: Supervisor, rows: Rows) -> None:
        self._supervisor, self._rows, self._locks = supervisor, rows, Locks(rows, LOCKS)
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        supervisor.on_restored.append(self._listen_again)

    async def read(self, keys: Sequence[str]) -> Sequence[Record | None]:
        """Read records."""
        self._supervisor.gate.check()
        rows = await self._supervisor.together(self._rows.get(f"{KEPT}{one}" for one in keys))
        return [None if row is None else _record(row) for row in (rows.get(f"{KEPT}{one}") for one in keys)]

    async def page(self, prefix: str, after: str = "", limit: int = PAGE) -> Sequence[Record]:
        """Read one page."""
        self._supervisor.gate.check()
        behind = f"{KEPT}{after}" if after else ""
        return [
            _record(row) for row in await self._supervisor.together(self._rows.page(f"{KEPT}{prefix}", behind, limit))
        ]

    async def write(self, record: Record) -> bool:
        """Write one over the version that was read; where it is 0, create it."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._write(record))

    async def put(self, records: Sequence[Record]) -> None:
        """Write records over whatever is there."""
        self._supervisor.gate.check()
        await self._supervisor.together(
            self._rows.put([Row(f"{KEPT}{one.key}", one.value, one.ttl) for one in records])
        )

    async def remove(self, record: Record) -> bool:
        """Remove one in the version that was read."""
        self._supervisor.gate.check()
        key, version = f"{KEPT}{record.key}", record.version
        return all(await self._supervisor.together(self._rows.delete([key], [version])))

    async def tell(self, names: Sequence[str]) -> None:
        """Publish each name."""
        self._supervisor.gate.check()
        items = [(f"{KEPT}{one}", b"") for one in names]
        await self._supervisor.call("publish", lambda _: self._supervisor.topic.publish(items))

    async def listen(self, name: str, heard: Callable[[], None]) -> Callable[[], None]:
        """Subscribe to a name; return once that is so."""
        self._supervisor.gate.check()
        self._listeners.setdefault(name, []).append(heard)

        def end() -> None:
            self._listen_no_more(name, heard)

        try:
            self._supervisor.topic.subscribe([f"{KEPT}{name}"], self._heard)
            await self._supervisor.call("active", lambda _: self._supervisor.topic.active())
        except BaseException:
            end()
            raise
        return end

    def _listen_no_more(self, name: str, heard: Callable[[], None]) -> None:
        listeners = self._listeners.get(name, [])
        if heard in listeners:
            listeners.remove(heard)
        if not listeners and self._listeners.pop(name, None) is not None and self._supervisor.connected:
            self._supervisor.topic.unsubscribe([f"{KEPT}{name}"], self._heard)

    async def _listen_again(self) -> None:
        """Subscribe over a later connection. What was told meanwhile is lost: whoever listens looks."""
        if self._listeners:
            self._supervisor.topic.subscribe([f"{KEPT}{one}" for one in self._listeners], self._heard)
            for name in list(self._listeners):
                self._heard(f"{KEPT}{name}", b"")

    def _heard(self, name: str, _value: bytes) -> None:
        for heard in list(self._listeners.get(name.removeprefix(KEPT), ())):
            heard()

    async def take_lock(self, holder: NameHolder, seconds: float) -> NameHolder | None:
        """Take or keep a lock; None: it is the holder's, else who has it."""
        self._supervisor.gate.check()
        return await self._supervisor.together(self._locks.take(holder, seconds))

    async def free_lock(self, holder: NameHolder) -> None:
        """Give a lock up."""
        self._supervisor.gate.check()
        await self._supervisor.together(self._locks.free(holder))

    async def _write(self, record: Record) -> bool:
        row = Row(f"{KEPT}{record.key}", record.value, record.ttl)
        if not record.version:
            (there,) = await self._rows.create([row])
            return there is None
        (version,) = await self._rows.put([row], [record.version])
        return version is not None


def _record(row: Row) -> Record:
    return Record(row.key.removeprefix(KEPT), row.value, row.version, row.ttl)
