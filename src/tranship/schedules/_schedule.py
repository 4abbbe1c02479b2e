"""A schedule: which task runs when, with which arguments and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, Self

from tranship.checks import Duration, invalid, mapping, name_text
from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.retry import RetryPolicy
from tranship.task import Task, TaskCall, named, task_of
from tranship.task import TaskOptions as Options
from tranship.timetable import Missed, Timetable, stamp

__all__ = ["SCHEDULE_HEADER", "TICK_HEADER", "Schedule"]

LONGEST: Final = 200
"""Bytes of a name: a tick's id is the name and a moment."""
SCHEDULE_HEADER: Final = "schedule"
TICK_HEADER: Final = "schedule-tick"
_MOMENTS: Final = {
    "task_id": "each tick has an id of its own",
    "deadline": "it would be over after the first ticks; use deadline_in",
    "not_before": "it means one moment; use delay",
}
"""Options that cannot hold for more than one tick."""
DEFAULTS: Final = Options()


class Schedule:
    """A task that runs again and again.

    Args:
        name: unique among schedules.
        task: a task, or the name of one that runs elsewhere; then say its ``queue``.
        args, kwargs: its arguments, the same at each tick; those of a task are checked.
        every: seconds, or a timedelta: at the multiples of it since 1970 in UTC.
        cron: five fields, such as ``"30 2 * * mon-fri"``, or ``@daily`` and its like.
        timezone: of ``cron``, such as ``"Europe/Berlin"``; None: UTC.
        missed: what to do about ticks that nobody sent within ``grace``: ``"skip"``, ``"once"`` or ``"all"``.
        grace: seconds by which a tick may be late without being missed; None: 60.
        jitter: each tick is late by up to this long.
        both_days: whether a day has to match both of cron's fields for days where both are given.
        options: the fields of :class:`~tranship.task.TaskOptions`, over the task's own.

    Raises:
        InvalidOptionError: a value outside what is allowed.
        InvalidArgumentsError: arguments that the task does not take.
        ConfigurationError: ``task`` is no task.
    """

    def __init__(
        self,
        name: str,
        task: Any,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        every: Duration | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        missed: Missed = "skip",
        grace: Duration | None = None,
        jitter: Duration = 0.0,
        both_days: bool = False,
        **options: Any,
    ) -> None:
        self.name: str = name_text("a schedule's name", name, LONGEST)
        times: dict[str, Any] = {
            "every": every,
            "cron": cron,
            "timezone": timezone,
            "both_days": both_days,
            "missed": missed,
        }
        more: dict[str, Any] = {} if grace is None else {"grace": grace}
        self.timetable: Timetable = self._about(lambda: Timetable.of(**times, jitter=jitter, **more))
        found: Task[..., Any] = self._about(lambda: _task(task))
        for option, why in _MOMENTS.items():
            if options.get(option) is not None or getattr(found.options_set, option) is not None:
                raise InvalidOptionError(f"schedule {name}: the option {option} cannot be used here: {why}")
        self.options: Options = self._about(lambda: found.options_set.merged(**options))
        call = self._about(lambda: found.call(*_list(args), **mapping("kwargs", kwargs or {})))
        self.task: str = found.name
        self.args: list[Any] = list(call.args)
        self.kwargs: dict[str, Any] = dict(call.kwargs)

    @classmethod
    def on(cls, task: Task[..., Any], timetable: Timetable) -> Self:
        """Return the schedule that a task declares itself: under its name, without arguments."""
        return cls(task.name, task, **timetable.to_data())

    def _about(self, make: Any) -> Any:
        """Return what ``make`` makes; its errors say which schedule they are about."""
        try:
            return make()
        except ConfigurationError as error:
            raise type(error)(f"schedule {self.name}: {error}") from None
        except Exception as error:
            error.args = (f"schedule {self.name}: {error}", *error.args[1:])
            raise

    def tick_id(self, tick: float) -> str:
        """Return the id of the task of one tick: who sends it again sends the same task."""
        return f"{self.name}@{stamp(tick)}"

    def call(self, tick: float | None = None) -> TaskCall[Any]:
        """Return the call of one tick; None: one out of turn."""
        headers = {**self.options.headers, SCHEDULE_HEADER: self.name}
        task = named(self.task)
        task.options_set = self.options
        if tick is None:
            return task.options(headers=headers).call(*self.args, **self.kwargs)
        headers[TICK_HEADER] = stamp(tick)
        return task.options(headers=headers, task_id=self.tick_id(tick)).call(*self.args, **self.kwargs)

    def to_data(self) -> dict[str, Any]:
        """Return it as plain data, as :meth:`from_data` reads it."""
        return {
            "name": self.name,
            "task": self.task,
            "args": self.args,
            "kwargs": self.kwargs,
            **self.timetable.to_data(),
            "options": _options_data(self.options),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_data` has written.

        Raises:
            TranshipError, TypeError: it is something else.
        """
        options = dict(data["options"])
        if options.get("retry") is not None:
            options["retry"] = RetryPolicy.from_dict(options["retry"])
        own = {key: value for key, value in data.items() if key not in {"name", "task", "options"}}
        return cls(data["name"], data["task"], **own, **options)

    def __eq__(self, other: object) -> bool:
        return self.to_data() == other.to_data() if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"<Schedule {self.name}: {self.task} {self.timetable}>"


def _task(task: Any) -> Task[..., Any]:
    found = named(task) if isinstance(task, str) else task_of(task)
    if not isinstance(found, Task):
        raise ConfigurationError(f"{task!r} is no task; expected a function decorated with @task, or a task's name")
    return found


def _list(args: Any) -> list[Any]:
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise invalid("args", args, "a list of arguments")
    return list(args)


def _options_data(options: Options) -> dict[str, Any]:
    """Return those that are not what they are anyhow."""
    values = {part.name: getattr(options, part.name) for part in fields(Options)}
    data = {name: value for name, value in values.items() if value != getattr(DEFAULTS, name)}
    if "priority" in data:
        data["priority"] = options.level.label
    if options.retry is not None:
        data["retry"] = options.retry.to_dict()
    if "headers" in data:
        data["headers"] = dict(options.headers)
    return data
