"""How a task is submitted: options with checked values, as keyword arguments of ``@task`` and ``.options``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypedDict, Unpack

from tranship.checks import (
    LONGEST_NAME,
    Duration,
    duration,
    header_names,
    invalid,
    key_text,
    name_text,
    one_of,
    positive,
    positive_duration,
)
from tranship.envelope import NO_HEADERS, Priority
from tranship.errors import InvalidOptionError
from tranship.retry import RetryPolicy

__all__ = ["DEFAULTS", "OptionArguments", "TaskOptions", "Validation", "moment"]

PriorityLike = Priority | Literal["high", "normal", "low", "very_low"]
Moment = float | datetime
Validation = Literal["lax", "strict", "off"]
"""How arguments are held to their annotations."""

_RIVALS: Final = (("deadline", "deadline_in"), ("not_before", "delay"))
"""Two ways to say one thing; the one that is said later takes the other's place."""
_MOMENTS: Final = dict(_RIVALS)
"""A moment, and the same as a length of time."""


class OptionArguments(TypedDict, total=False):
    """The fields of :class:`TaskOptions` as keyword arguments."""

    queue: str
    priority: PriorityLike
    deadline_in: Duration | None
    deadline: Moment | None
    run_timeout: Duration | None
    cancel_key: str | None
    persistent_output: bool
    delay: Duration | None
    not_before: Moment | None
    dedup_key: str | None
    dedup_window: Duration | None
    unique: bool | Sequence[str] | None
    debounce: Duration | None
    debounce_by: Sequence[str] | None
    retry: RetryPolicy | None
    store_result: bool | None
    result_ttl: Duration | None
    headers: Mapping[str, Any]
    task_id: str | None
    serializer: str


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How a task is submitted. Durations are seconds, or a timedelta; moments are epoch seconds, or a datetime with a
    time zone.

    Raises:
        InvalidOptionError: a value outside what is allowed, or two that contradict each other.
    """

    queue: str = "default"
    priority: PriorityLike = Priority.NORMAL
    """One of four levels, or its name: ``"high"``, ``"normal"``, ``"low"``, ``"very_low"``."""
    deadline_in: Duration | None = None
    """The task must have finished this long after it was submitted, wherever it is."""
    deadline: Moment | None = None
    """The task must have finished by then, wherever it is."""
    run_timeout: Duration | None = None
    """How long one attempt may run."""
    cancel_key: str | None = None
    """Many tasks may share one; cancelling the key cancels them all."""
    persistent_output: bool = False
    """Whatever the task leaves behind (files, objects) is to be kept."""
    delay: Duration | None = None
    """It starts no sooner than this long after it was submitted."""
    not_before: Moment | None = None
    """It starts no sooner than then."""
    dedup_key: str | None = None
    """While the key is taken, another submit with it is answered with the first one's id and not queued."""
    dedup_window: Duration | None = None
    """How long the key stays taken; None: the backend's default."""
    unique: bool | Sequence[str] | None = None
    """While a task with the same arguments has not ended, another submit is answered with its id and not queued; names
    of arguments: only those count."""
    debounce: Duration | None = None
    """It runs once it has been quiet for so long: of submits that follow each other sooner the last one counts, and the
    others end as CANCELLED."""
    debounce_by: Sequence[str] | None = None
    """The arguments that make submits the same for ``debounce``; None: all of them."""
    retry: RetryPolicy | None = None
    """None: one attempt, unless the worker has a policy for the task."""
    store_result: bool | None = None
    """Whether the result is kept; None: it is, unless the worker's task says ``False``."""
    result_ttl: Duration | None = None
    """How long the result is kept; None: the backend's default."""
    headers: Mapping[str, Any] = field(default_factory=lambda: NO_HEADERS)
    """The caller's own, handed to the handler's context."""
    task_id: str | None = None
    """The id to submit under; None: a fresh one."""
    serializer: str = "json"
    """How the arguments are written: ``json``, ``msgpack``, or the content type of a plugin's codec."""

    def __post_init__(self) -> None:
        self.__dict__.update(_checked({name: getattr(self, name) for name in _CHECKS}))

    @property
    def level(self) -> Priority:
        """The priority, never as a name."""
        return Priority.parse(self.priority)

    @property
    def run_seconds(self) -> float | None:
        """``run_timeout`` in seconds, never as a timedelta."""
        seconds: Any = self.run_timeout  # checked and converted when the options were made
        return None if seconds is None else float(seconds)

    @property
    def content_type(self) -> str:
        """What the serializer writes."""
        return _CONTENT_TYPES.get(self.serializer, self.serializer)

    def merged(self, **changes: Unpack[OptionArguments]) -> TaskOptions:
        """Return these options with ``changes`` over them; headers are replaced, not merged.

        Raises:
            InvalidOptionError: an unknown option, or a value outside what is allowed.
        """
        if not changes:
            return self
        values = _checked(changes)
        for pair in _RIVALS:
            for one, other in (pair, pair[::-1]):
                if values.get(one) is not None:
                    values.setdefault(other, None)
        # Only what changes is checked: a submit with options of its own is on the hot path.
        merged = object.__new__(TaskOptions)
        merged.__dict__.update(self.__dict__, **values)
        return merged


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: _value(name, value) for name, value in given.items()}
    for one, other in _RIVALS:
        if values.get(one) is not None and values.get(other) is not None:
            raise InvalidOptionError(f"{one} and {other} say the same thing; give one of them", option=one)
    return values


def _value(name: str, value: Any) -> Any:
    check = _CHECKS.get(name)
    if check is None:
        import difflib

        close = difflib.get_close_matches(name, _CHECKS, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise InvalidOptionError(f"task option {name!r} is unknown; {guess}known are: {', '.join(_CHECKS)}")
    return None if value is None and name in _OPTIONAL else check(name, value)


def moment(option: str, value: Any) -> float:
    """Return the epoch seconds of ``value``.

    Raises:
        InvalidOptionError: it is no moment.
    """
    if not isinstance(value, datetime):
        if isinstance(value, timedelta):
            raise invalid(option, value, f"a moment; for a length of time there is {_MOMENTS.get(option, 'sleep()')}")
        return positive(option, value)
    if value.tzinfo is None:
        raise invalid(option, value, "a datetime with a time zone, such as datetime.now(timezone.utc)")
    return value.timestamp()


def _truth(option: str, value: Any) -> bool:
    truth: bool = one_of(option, value, (True, False))
    return truth


def _names(option: str, value: Any) -> Sequence[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise invalid(option, value, "names of arguments, such as ['user']")
    return tuple(name_text(option, name) for name in value)


def _unique(option: str, value: Any) -> bool | Sequence[str]:
    return value if value is True or value is False else _names(option, value)


def _policy(option: str, value: Any) -> RetryPolicy:
    if not isinstance(value, RetryPolicy):
        raise invalid(option, value, "a RetryPolicy, such as RetryPolicy(max_attempts=3)")
    return value


_CONTENT_TYPES: Final = {"json": "application/json", "msgpack": "application/x-msgpack"}


def _serializer(option: str, value: Any) -> str:
    if value in _CONTENT_TYPES or (isinstance(value, str) and "/" in value):
        return str(value)
    raise invalid(option, value, "json, msgpack, or the content type of a plugin's codec, such as application/cbor")


def _task_id(option: str, value: Any) -> str:
    return key_text(option, value, LONGEST_NAME)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "queue": name_text,
    "priority": lambda _, value: Priority.parse(value),
    "deadline_in": positive_duration,
    "deadline": moment,
    "run_timeout": positive_duration,
    "cancel_key": key_text,
    "persistent_output": _truth,
    "delay": duration,
    "not_before": moment,
    "dedup_key": key_text,
    "dedup_window": positive_duration,
    "unique": _unique,
    "debounce": positive_duration,
    "debounce_by": _names,
    "retry": _policy,
    "store_result": _truth,
    "result_ttl": positive_duration,
    "headers": header_names,
    "task_id": _task_id,
    "serializer": _serializer,
}

_OPTIONAL: Final = frozenset(part.name for part in fields(TaskOptions) if part.default is None)

DEFAULTS: Final = TaskOptions()
"""The options of a task that says nothing."""
