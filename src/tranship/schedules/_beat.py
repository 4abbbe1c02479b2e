"""Celery's ``beat_schedule`` as schedules of ours. Its objects are known by their attributes; it is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from tranship.checks import mapping
from tranship.errors import ConfigurationError
from tranship.schedules._schedule import Schedule
from tranship.task import Task

__all__ = ["schedules_of_beat"]

CELERYS_QUEUE: Final = "celery"
_FIELDS: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
_IN_ENTRY: Final = ("task", "schedule", "args", "kwargs", "options", "relative")
_OURS: Final = {
    "queue": "queue",
    "expires": "deadline_in",
    "countdown": "delay",
    "time_limit": "run_timeout",
    "soft_time_limit": "run_timeout",
    "serializer": "serializer",
    "headers": "headers",
}
"""Celery's options that have the same meaning here, with our name."""


def schedules_of_beat(
    beat_schedule: Any,
    *,
    tasks: Mapping[str, Task[..., Any]] | None = None,
    timezone: str | None = None,
    queue: str = CELERYS_QUEUE,
) -> list[Schedule]:
    """Return the schedules of Celery's setting ``beat_schedule``.

    Args:
        beat_schedule: the mapping, or the Celery app whose setting it is.
        tasks: tasks of ours by name: their arguments are checked, and their options hold.
        timezone: of ``crontab`` schedules; None: the app's, else UTC, as in Celery.
        queue: where tasks go that are none of ours, unless their options say it.

    Raises:
        ConfigurationError: something that cannot be honoured: ``solar``, arguments that are computed for each tick,
            an option that has no equal here.
        InvalidOptionError, InvalidArgumentsError: an entry is wrong.
    """
    conf = getattr(beat_schedule, "conf", None)
    if conf is not None:
        timezone = timezone or str(conf.timezone or "UTC")
        beat_schedule, queue = conf.beat_schedule, str(conf.task_default_queue or queue)
    entries = mapping("beat_schedule", beat_schedule)
    return [_schedule(name, entry, tasks or {}, timezone or "UTC", queue) for name, entry in entries.items()]


def _schedule(name: str, entry: Any, tasks: Mapping[str, Task[..., Any]], timezone: str, queue: str) -> Schedule:
    about = f"beat_schedule[{name!r}]"
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"{about} is {entry!r}; expected a dict with task and schedule, as Celery has it")
    unknown = [key for key in entry if key not in _IN_ENTRY]
    if unknown:
        raise ConfigurationError(f"{about} has {unknown[0]!r}; known are: {', '.join(_IN_ENTRY)}")
    for needed in ("task", "schedule"):
        if needed not in entry:
            raise ConfigurationError(f"{about} has no {needed!r}; add it")
    task_name = str(getattr(entry["task"], "name", entry["task"]))
    task = tasks.get(task_name)
    options = _options(about, entry.get("options") or {})
    if task is None:
        options.setdefault("queue", queue)
    return Schedule(
        name,
        task_name if task is None else task,
        args=_plain(about, "args", entry.get("args") or ()),
        kwargs=_plain(about, "kwargs", entry.get("kwargs") or {}),
        # Beat sends what became due while it was away once, when it is back.
        missed="once",
        **_times(about, entry["schedule"], timezone),
        **options,
    )


def _times(about: str, given: Any, timezone: str) -> dict[str, Any]:
    if isinstance(given, bool):
        raise _unfit(about, given)
    if isinstance(given, int | float | timedelta):
        return {"every": given}
    if getattr(given, "nowfun", None) is not None:
        raise ConfigurationError(f"{about} has a nowfun; here the broker's clock says what time it is: remove it")
    if all(hasattr(given, one) for one in ("lat", "lon", "event")):
        raise ConfigurationError(
            f"{about} is {given!r}: times of the sun are not known here; use a crontab, or a task that computes the "
            "next time and submits with not_before"
        )
    if all(hasattr(given, f"_orig_{one}") for one in _FIELDS):
        return {"cron": _cron(given), "timezone": timezone, "both_days": True}
    if hasattr(given, "run_every"):
        return {"every": given.run_every}
    raise _unfit(about, given)


def _unfit(about: str, given: object) -> ConfigurationError:
    return ConfigurationError(
        f"{about} is {given!r}; expected seconds, a timedelta, a schedule or a crontab of Celery's"
    )


def _cron(given: Any) -> str:
    """The fields as Celery has read them: it knows ranges over the end of a week, and names in any order.

    A field that begins with ``*`` stays as it is: it says that the task runs by time that has passed.
    """
    return " ".join(_field(getattr(given, f"_orig_{one}"), getattr(given, one)) for one in _FIELDS)


def _field(written: Any, meant: Any) -> str:
    text = str(written).replace(" ", "")
    return text if text.startswith("*") and "," not in text else ",".join(map(str, sorted(meant)))


def _options(about: str, given: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in mapping(f"{about} options", given).items():
        if value is None:
            continue
        if name in _OURS:
            own = _OURS[name]
            # Of the two limits the soft one comes first.
            made[own] = min(made[own], value) if own == "run_timeout" and own in made else value
        elif name in _CHECKED:
            made.update(_CHECKED[name](about, value, given))
        else:
            raise ConfigurationError(f"{about} has the option {name!r}, which has no equal here; known are: {_known()}")
    return made


def _known() -> str:
    return ", ".join(sorted({*_OURS, *_CHECKED}))


Checked = Callable[[str, Any, Mapping[str, Any]], dict[str, Any]]


def _nothing(_about: str, _value: Any, _given: Mapping[str, Any]) -> dict[str, Any]:
    """How the message is published is the client's business here: it tries again in any case."""
    return {}


def _ignored_result(_about: str, value: Any, _given: Mapping[str, Any]) -> dict[str, Any]:
    return {"store_result": not value}


def _routing(about: str, value: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    queue = given.get("queue")
    if str(value) != str(queue or value):
        raise ConfigurationError(
            f"{about} sends by {value!r} and to the queue {queue!r}; here a queue says where: keep that"
        )
    return {"queue": str(value)}


def _priority(about: str, value: Any, _given: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, str):
        return {"priority": value}
    raise ConfigurationError(
        f"{about} has the priority {value!r}, whose meaning depends on the broker; write high, normal, low or very_low"
    )


_CHECKED: Final[Mapping[str, Checked]] = {
    "retry": _nothing,
    "retry_policy": _nothing,
    "compression": _nothing,
    "ignore_result": _ignored_result,
    "routing_key": _routing,
    "exchange": _routing,
    "priority": _priority,
}


def _plain(about: str, what: str, given: Any) -> Any:
    parts = given.values() if isinstance(given, Mapping) else given
    if callable(given) or (isinstance(given, Mapping | list | tuple) and any(callable(one) for one in parts)):
        raise ConfigurationError(
            f"{about} computes its {what} for each tick; do that in the task, or submit from a task"
        )
    return given
