"""What a worker says of itself, and how it is written and read: one document for every broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, TypeVar

from tranship.protocol import epoch_of, number_of, whole_of

__all__ = ["Heartbeat", "HostFigures", "QueueTotals", "RunningTask", "heartbeat_data", "heartbeat_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """A task that a worker runs."""

    id: str
    task: str = ""
    """Its name."""
    queue: str = ""
    since: float | None = None
    """When this attempt began, in epoch seconds by the worker's clock."""
    attempt: int = 0
    """How many attempts came before this one."""
    progress: float | None = None
    """What the handler said last, from 0 to 1; None: nothing."""
    note: str = ""
    """What it said with that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFigures:
    """The machine and the process of a worker; None: not known on its platform."""

    cpus: int | None = None
    """How many the process may use."""
    load: float | None = None
    """Load average of the host over the last minute."""
    memory: int | None = None
    """Bytes that the host has."""
    memory_available: int | None = None
    """Bytes that can be had without swapping."""
    process_cpu: float | None = None
    """CPUs that the process has kept busy since the heartbeat before: 1.0 is one of them all the time."""
    process_memory: int | None = None
    """Bytes that the process occupies (resident set size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTotals:
    """What a worker has done of one queue since it began to work. Two heartbeats make a rate."""

    ended: int = 0
    """Tasks that came to an end, well or not."""
    failed: int = 0
    """How many of those failed, or were dead-lettered."""
    retried: int = 0
    """Attempts that failed and are followed by another."""
    seconds: float = 0.0
    """How long handlers have run, in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a worker says of itself, every few seconds and soon after something has changed.

    Lists are cut where they would make it large; ``left_out`` says what is missing.
    """

    worker: str
    """Its name."""
    host: str
    pid: int
    queues: Sequence[str]
    running: Sequence[RunningTask]
    """What it runs; the longest running first."""
    limit: int
    """How many tasks it runs at once, at most."""
    at: float
    """When it was said, in epoch seconds by the worker's clock."""
    stopping: bool = False
    ahead: float = 0.0
    """Seconds by which the broker's clock was ahead of the worker's."""
    instance: str = ""
    """Something random, new at each start: it tells two workers of one name apart."""
    version: str = ""
    """Of tranship."""
    started_at: float | None = None
    """When it began to work, in epoch seconds by its clock."""
    tasks: Sequence[str] = ()
    """Names of the tasks it can run."""
    busy: int = 0
    """How many tasks it runs, listed or not."""
    free: int = 0
    """How many more it would run now."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """The same for each task type that has a limit of its own."""
    figures: HostFigures = HostFigures()
    skill_dependencies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What each of its skills needs loaded."""
    hot_cache: Sequence[str] = ()
    """What it has loaded."""
    hot_skills: Sequence[str] = ()
    """The skills of which everything is loaded."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """What its owner says of it."""
    namesakes: Sequence[str] = ()
    """Other workers that were heard of under the same name in the last minute."""
    totals: Mapping[str, QueueTotals] = field(default_factory=dict)
    """What it has done since it began to work, by queue; the busiest are there."""
    remembers: int = 0
    """How many of the tasks that it has ended it remembers, at most."""
    remembered: int = 0
    """How many it has written down in all."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """By field: how many of its items were left out, because a heartbeat is bounded."""


def heartbeat_data(heartbeat: Heartbeat) -> dict[str, Any]:
    """Return ``heartbeat`` as plain data, which every codec writes."""
    data = {part.name: getattr(heartbeat, part.name) for part in fields(Heartbeat)}
    data |= {name: list(data[name]) for name in _LISTS}
    data |= {name: dict(data[name]) for name in ("capacity", "labels", "left_out")}
    data["running"] = [asdict(one) for one in heartbeat.running]
    data["figures"] = asdict(heartbeat.figures)
    data["totals"] = {queue: asdict(one) for queue, one in heartbeat.totals.items()}
    data["skill_dependencies"] = {skill: list(needs) for skill, needs in heartbeat.skill_dependencies.items()}
    return data


def heartbeat_of(data: Any) -> Heartbeat | None:
    """Return the heartbeat that was written as ``data``; None: it is none.

    What is unknown, or not what it should be, is passed over: a listing of workers has those of other versions in it,
    and does not end because of somebody's garbage.
    """
    worker, at = _read(data, "worker", _text), _read(data, "at", epoch_of)
    if not worker or at is None:
        return None
    known = {name: value for name, read in _READERS.items() if (value := _read(data, name, read)) is not None}
    beat = Heartbeat(**{**_LEAST, **known, "worker": worker, "at": at})
    # One that does not count was written before there was a bound.
    return beat if beat.busy else replace(beat, busy=len(beat.running))


_LISTS: Final = ("queues", "tasks", "hot_cache", "hot_skills", "namesakes")
_LEAST: Final[Mapping[str, Any]] = {"host": "", "pid": 0, "queues": (), "running": (), "limit": 0}


def _read(data: Any, name: str, read: Callable[[Any], T | None]) -> T | None:
    return read(data.get(name)) if isinstance(data, Mapping) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _yes(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> list[str] | None:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else None


def _mapping(value: Any) -> dict[str, Any] | None:
    return {key: one for key, one in value.items() if isinstance(key, str)} if isinstance(value, Mapping) else None


def _counts(value: Any) -> dict[str, int] | None:
    found = _mapping(value)
    return None if found is None else {key: count for key, one in found.items() if (count := whole_of(one)) is not None}


def _needs(value: Any) -> dict[str, list[str]] | None:
    found = _mapping(value)
    return None if found is None else {key: needs for key, one in found.items() if (needs := _texts(one)) is not None}


def _totals(value: Any) -> dict[str, QueueTotals] | None:
    found = _mapping(value)
    return None if found is None else {queue: _total(one) for queue, one in found.items()}


def _total(value: Any) -> QueueTotals:
    return QueueTotals(
        ended=_read(value, "ended", whole_of) or 0,
        failed=_read(value, "failed", whole_of) or 0,
        retried=_read(value, "retried", whole_of) or 0,
        seconds=_read(value, "seconds", number_of) or 0.0,
    )


def _figures(value: Any) -> HostFigures | None:
    return HostFigures(
        cpus=_read(value, "cpus", whole_of),
        load=_read(value, "load", number_of),
        memory=_read(value, "memory", whole_of),
        memory_available=_read(value, "memory_available", whole_of),
        process_cpu=_read(value, "process_cpu", number_of),
        process_memory=_read(value, "process_memory", whole_of),
    )


def _running(value: Any) -> list[RunningTask] | None:
    return [task for one in value if (task := _task(one))] if isinstance(value, list | tuple) else None


def _task(value: Any) -> RunningTask | None:
    if isinstance(value, str):
        return RunningTask(id=value)
    if (task_id := _read(value, "id", _text)) is None:
        return None
    known = {name: found for name, read in _TASK.items() if (found := _read(value, name, read)) is not None}
    return RunningTask(id=task_id, **known)


_TASK: Final[Mapping[str, Callable[[Any], Any]]] = {
    "task": _text,
    "queue": _text,
    "since": epoch_of,
    "attempt": whole_of,
    "progress": number_of,
    "note": _text,
}

_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("host", "instance", "version"), _text),
    **dict.fromkeys(("pid", "limit", "busy", "free", "remembers", "remembered"), whole_of),
    **dict.fromkeys(_LISTS, _texts),
    "running": _running,
    "stopping": _yes,
    "ahead": number_of,
    "started_at": epoch_of,
    "capacity": _counts,
    "left_out": _counts,
    "figures": _figures,
    "totals": _totals,
    "skill_dependencies": _needs,
    "labels": _mapping,
}
