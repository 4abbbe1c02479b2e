"""Where schedules are kept: one record each, with what was sent last, which whoever has seen its latest version writes.

That is the fence: a scheduler that was held up and thinks that it leads still has old versions, and writes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from tranship import codec
from tranship.checks import LONGEST_NAME, one_of
from tranship.display import visible
from tranship.errors import BrokerUnreachable, ConfigurationError, InvalidOptionError, TranshipError
from tranship.ports import NameHolder, Record, Records
from tranship.protocol import epoch_of
from tranship.schedules._schedule import Schedule

__all__ = ["Book", "Entry", "Origin", "SchedulerSeen"]

log = logging.getLogger("tranship.schedules")

SCHEDULES: Final = "schedule/"
SCHEDULERS: Final = "scheduler/"
TRIES: Final = 5
"""Looks at a record that somebody else writes each time."""
Origin = Literal["code", "settings", "beat", "added"]
"""Who has said it; ``added``: somebody, while schedulers ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A schedule and where it stands."""

    schedule: Schedule
    origin: Origin
    last: float
    """The moment, in epoch seconds, up to which its ticks have been dealt with."""
    paused: bool = False
    sent: float | None = None
    """The tick that was sent last."""
    error: str = ""
    """Why the latest tick could not be sent."""
    version: int = 0

    @property
    def name(self) -> str:
        """The schedule's."""
        return self.schedule.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSeen:
    """A scheduler that was heard of lately."""

    instance: str
    host: str
    pid: int
    declares: Sequence[str]
    """The schedules that it knows of by itself: from code or settings."""


class Book:
    """The records of schedules and schedulers.

    Args:
        records: where they are kept.
        place: where that is, for errors.
    """

    def __init__(self, records: Records, place: str) -> None:
        self._records, self._place = records, place
        self._unreadable: set[str] = set()
        self._read: dict[str, Entry] = {}

    async def entries(self) -> list[Entry]:
        """Return every schedule, by name. What cannot be read is left out, and told of once."""
        records = [record async for record in self._each(SCHEDULES)]
        keys = {record.key for record in records}
        self._read = {key: entry for key, entry in self._read.items() if key in keys}
        return [entry for record in records if (entry := self._entry(record)) is not None]

    async def entry(self, name: str) -> Entry | None:
        """Return one schedule; None: there is none of that name."""
        (record,) = await self._records.read([SCHEDULES + name])
        return None if record is None else self._entry(record)

    async def absent(self, names: Sequence[str]) -> set[str]:
        """Return those of ``names`` that are not there."""
        found = await self._records.read([SCHEDULES + one for one in names]) if names else ()
        return {name for name, record in zip(names, found, strict=True) if record is None}

    async def known(self, name: str) -> Entry:
        """Return one schedule.

        Raises:
            InvalidOptionError: there is none of that name.
        """
        entry = await self.entry(name)
        if entry is None:
            import difflib

            names = [one.name for one in await self.entries()]
            close = difflib.get_close_matches(name, names, n=1)
            guess = f"did you mean {close[0]!r}? " if close else ""
            told = f"known are: {', '.join(names)}" if names else "there is none; has a scheduler been started?"
            raise InvalidOptionError(f"schedule {name!r} is unknown at {self._place}; {guess}{told}")
        return entry

    async def update(self, name: str, change: Callable[[Entry], Entry | None]) -> Entry:
        """Write what ``change`` makes of a schedule; None: nothing is to be changed.

        Raises:
            InvalidOptionError: there is none of that name.
        """
        for _ in range(TRIES):
            entry = await self.known(name)
            changed = change(entry)
            if changed is None or await self.write(changed):
                return changed or entry
        raise BrokerUnreachable(f"schedule {name!r} is written by somebody else each time it is looked at; try again")

    async def write(self, entry: Entry) -> bool:
        """Write an entry over the version that was read; a new one has none. False: somebody else was there first."""
        data = {
            "schedule": entry.schedule.to_data(),
            "origin": entry.origin,
            "last": entry.last,
            "paused": entry.paused,
            "sent": entry.sent,
            "error": entry.error,
        }
        return await self._records.write(
            Record(SCHEDULES + entry.name, codec.dumps(data, name=f"schedule {entry.name}"), entry.version)
        )

    async def declare(self, schedule: Schedule, origin: Origin, now: float) -> None:
        """Have a schedule kept as it is declared here; its ticks count from now where it is new, or runs at other times
        than before.
        """
        for _ in range(TRIES):
            there = await self.entry(schedule.name)
            if there is None:
                made = Entry(schedule=schedule, origin=origin, last=now, version=await self._version(schedule.name))
            elif there.schedule == schedule and there.origin == origin:
                return
            else:
                same_times = there.schedule.timetable == schedule.timetable
                last = there.last if same_times else max(there.last, now)
                made = replace(there, schedule=schedule, origin=origin, last=last, error="")
                log.info("schedule %s is changed: %s %s", schedule.name, schedule.task, schedule.timetable)
            if await self.write(made):
                return
        raise BrokerUnreachable(f"schedule {schedule.name!r} is declared by others at the same time; try again")

    async def add(self, schedule: Schedule, now: float) -> None:
        """Add a schedule while schedulers run, or change one that was added.

        Raises:
            ConfigurationError: a scheduler at work declares one of that name.
        """
        there = await self.entry(schedule.name)
        if there is not None and there.origin != "added" and schedule.name in await self.declared():
            raise ConfigurationError(
                f"schedule {schedule.name!r} is declared in {there.origin}: change it there, or choose another name"
            )
        await self.declare(schedule, "added", now)

    async def remove(self, name: str) -> None:
        """Remove a schedule that was added, or that nobody declares any more.

        Raises:
            InvalidOptionError: there is none of that name.
            ConfigurationError: a scheduler at work declares it.
        """
        for _ in range(TRIES):
            entry = await self.known(name)
            if entry.origin != "added" and name in await self.declared():
                raise ConfigurationError(
                    f"schedule {name!r} is declared in {entry.origin}, where it has to be removed; "
                    "until then it can be paused"
                )
            if await self._records.remove(Record(SCHEDULES + name, b"", entry.version)):
                return

    # Schedulers.

    async def attend(self, holder: NameHolder, declares: Collection[str], seconds: float) -> None:
        """Make a scheduler known for so long."""
        key = SCHEDULERS + holder.instance
        (there,) = await self._records.read([key])
        data = {"host": holder.host, "pid": holder.pid, "declares": sorted(declares)}
        version = 0 if there is None else there.version
        await self._records.write(Record(key, codec.dumps(data), version, seconds))

    async def leave(self, holder: NameHolder) -> None:
        """Make a scheduler that has stopped known no more."""
        (there,) = await self._records.read([SCHEDULERS + holder.instance])
        if there is not None:
            await self._records.remove(there)

    async def schedulers(self) -> list[SchedulerSeen]:
        """Return the schedulers that were heard of lately."""
        return [_seen(record) async for record in self._each(SCHEDULERS)]

    async def declared(self) -> set[str]:
        """Return the names of what schedulers at work declare."""
        return {name for one in await self.schedulers() for name in one.declares}

    # Steps.

    async def _each(self, prefix: str) -> AsyncIterator[Record]:
        after = ""
        while page := await self._records.page(prefix, after):
            for record in page:
                yield record
            after = page[-1].key

    async def _version(self, name: str) -> int:
        """The version of a record that cannot be read as a schedule, to be written over."""
        (record,) = await self._records.read([SCHEDULES + name])
        return 0 if record is None else record.version

    def _entry(self, record: Record) -> Entry | None:
        """Read a record; one that is as it was when it was read last costs nothing."""
        before = self._read.get(record.key)
        if before is not None and before.version == record.version:
            return before
        entry = self._parsed(record)
        if entry is not None:
            self._read[record.key] = entry
        return entry

    def _parsed(self, record: Record) -> Entry | None:
        try:
            data = codec.loads(record.value, codec.JSON)
            schedule, last = Schedule.from_data(data["schedule"]), epoch_of(data["last"])
            if last is None or SCHEDULES + schedule.name != record.key:
                raise ValueError("it is not what it says")  # noqa: TRY301 - one of many ways to be wrong
            return Entry(
                schedule=schedule,
                origin=one_of("origin", data["origin"], get_args(Origin)),
                last=last,
                paused=bool(data["paused"]),
                sent=epoch_of(data["sent"]),
                error=str(data["error"]),
                version=record.version,
            )
        except (TranshipError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            if record.key not in self._unreadable:
                self._unreadable.add(record.key)
                shown = visible(record.key.removeprefix(SCHEDULES)[:LONGEST_NAME])
                log.error("schedule %s at %s cannot be read, and is left alone: %s", shown, self._place, error)  # noqa: TRY400 - a stranger's text
            return None


def _seen(record: Record) -> SchedulerSeen:
    try:
        found: Any = codec.loads(record.value, codec.JSON)
    except TranshipError:
        found = None
    data: Mapping[str, Any] = found if isinstance(found, dict) else {}
    declares = data.get("declares")
    return SchedulerSeen(
        instance=record.key.removeprefix(SCHEDULERS),
        host=str(data.get("host", "")),
        pid=int(data["pid"]) if isinstance(data.get("pid"), int) else 0,
        declares=[str(one) for one in declares] if isinstance(declares, list) else [],
    )
