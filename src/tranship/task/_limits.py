"""What limits a task in the whole fleet: how many run at once, how many start, in which order, shared among whom."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, Signature
from typing import Any, Final

from tranship.checks import invalid, is_number, key_text, whole
from tranship.envelope import Envelope
from tranship.errors import ConfigurationError, InvalidArgumentsError, InvalidOptionError
from tranship.protocol import Place, place_of, with_place
from tranship.task._context import TaskContext
from tranship.task._options import TaskOptions
from tranship.task._plan import Plan

__all__ = ["KeyFunction", "LimitedPlan", "Limits", "held_back", "without_place"]

KeyFunction = Callable[..., str]
"""Returns a text for the arguments of a task; its parameters are named as those of the task that it wants to see."""

LONGEST: Final = 500
"""Bytes of a key: it is part of the key of a record."""
MOST: Final = 10_000
"""Tasks of one line at once: all that run are in one record."""
RAREST: Final = 1 / (366 * 86_400.0)
OFTENEST: Final = 1e6
"""Starts per second."""
_RATE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*([smhd])\s*")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FREE: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Asking:
    """A key function, and which arguments it wants to see."""

    what: str
    """What an error calls it."""
    function: KeyFunction
    names: Sequence[str] | None
    """None: all of them."""

    @classmethod
    def of(cls, option: str, function: Any, signature: Signature, task: str) -> _Asking | None:
        """Return what ``@task`` was given as ``option``; None: nothing."""
        if function is None:
            return None
        if not callable(function):
            raise invalid(option, function, "a function of the task's arguments, such as lambda account: account")
        try:
            asked = inspect.signature(function).parameters.values()
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{option} of task {task} has no signature: {error}") from error
        known = signature.parameters
        takes_more = any(one.kind is Parameter.VAR_KEYWORD for one in known.values())
        for one in asked:
            optional = one.kind in _FREE or one.default is not Parameter.empty or takes_more
            if not optional and one.name not in known:
                raise ConfigurationError(
                    f"{option} of task {task} asks for {one.name!r}, and the task has no such argument (it has: "
                    f"{', '.join(known) or 'none'})"
                )
        takes_all = any(one.kind is Parameter.VAR_KEYWORD for one in asked)
        names = None if takes_all else [one.name for one in asked if one.kind not in _FREE]
        return cls(f"{option} of task {task}", function, names)

    def __call__(self, values: Mapping[str, Any]) -> str:
        """Return the text for the values of arguments."""
        names = self.names
        chosen = values if names is None else {name: values[name] for name in names if name in values}
        shown = f"it was given {', '.join(chosen) or 'nothing'}"
        try:
            found = self.function(**chosen)
        except Exception as error:
            raise InvalidArgumentsError(f"{self.what} raised {type(error).__name__}: {error}; {shown}") from error
        try:
            return key_text(f"what {self.what} returned", found, LONGEST)
        except InvalidOptionError as error:
            raise InvalidArgumentsError(f"{error}; {shown}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a task: checked, with rates per second. One line of tasks has them together: those of one key."""

    limit: int | None = None
    """How many of a line have a slot at once; None: any number."""
    per_second: float | None = None
    """How many of a line start in a second; None: any number."""
    burst: int = 1
    """How many may start at once after a pause."""
    ordered: bool = False
    """Whether each starts when the one before it has ended."""
    key: _Asking | None = None
    """What tells lines apart; None: there is one."""
    fair: _Asking | None = None
    """Who shares a line; None: nobody."""
    signature: Signature | None = None
    """Of the task; None: its arguments are not looked at."""

    @classmethod
    def of(cls, given: Mapping[str, Any], signature: Signature, name: str) -> Limits:
        """Return the limits that ``@task`` was given for the task ``name``.

        Raises:
            InvalidOptionError: a value outside what is allowed, or two that contradict each other.
            ConfigurationError: a key function that asks for what the task has not.
        """
        limit, rate, burst, ordered = (given.get(one) for one in ("limit", "rate", "burst", "ordered"))
        key, fair = (given.get(one) for one in ("key", "fair"))
        per_second = None if rate is None else _per_second(rate)
        _check(limit, burst, ordered, has_rate=rate is not None)
        _check_functions(key, fair, limited=bool(limit or rate or ordered), shared=limit is not None and not ordered)
        return cls(
            limit=1 if ordered else limit,
            per_second=per_second,
            burst=1 if burst is None else burst,
            ordered=bool(ordered),
            key=_Asking.of("key", key, signature, name),
            fair=_Asking.of("fair", fair, signature, name),
            signature=signature if key is not None or fair is not None else None,
        )

    @property
    def interval(self) -> float:
        """Seconds between two starts; 0: there need be none."""
        return 0.0 if self.per_second is None else 1.0 / self.per_second

    def place(self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Place:
        """Return the line that a call belongs to; it has no place there yet.

        Raises:
            InvalidArgumentsError: a key function raises, or returns no text.
        """
        if self.signature is None:
            return Place("", "")
        try:
            bound = self.signature.bind_partial(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgumentsError(f"task {task}: {error}") from error
        bound.apply_defaults()
        values = dict(bound.arguments)
        for one in self.signature.parameters.values():
            if one.kind is Parameter.VAR_KEYWORD:
                values.update(values.pop(one.name, {}))
        key, share = ("" if one is None else one(values) for one in (self.key, self.fair))
        return Place(key, share)


class LimitedPlan(Plan):
    """How a task with limits is submitted: its messages say which line they belong to.

    They do not where the broker itself has to see to something first: a delay, a dedup key, an id of the caller's own.
    Such a task takes its place in the line when it comes to a worker.

    Args:
        name: of the task.
        options: how it is submitted.
        limits: its limits.
    """

    __slots__ = ("_limits", "_name", "_to_broker")

    def __init__(self, name: str, options: TaskOptions, limits: Limits) -> None:
        super().__init__(name, options)
        self._name, self._limits = name, limits
        first = (options.task_id, options.dedup_key, options.not_before, options.delay)
        self._to_broker = any(one is not None for one in first)
        self.is_uniform = False

    def envelope(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        now: float,
        reply_to: str | None,
        parent: TaskContext | None,
        *,
        fresh_id: str | None,
    ) -> Envelope:
        """Return the envelope of one call.

        Raises:
            InvalidArgumentsError: a key function raises, or returns no text.
        """
        place = self._limits.place(self._name, args, kwargs)
        envelope = super().envelope(args, kwargs, now, reply_to, parent, fresh_id=fresh_id)
        return envelope if self._to_broker else with_place(envelope, place)


def without_place(envelope: Envelope) -> Envelope:
    """Return the envelope of a task that has given its place in the line up."""
    place = place_of(envelope)
    return envelope if place is None else with_place(envelope, Place(place.key, place.share))


def held_back(envelope: Envelope) -> Envelope:
    """Return the envelope as it is held back: what the broker had to see to has been seen to."""
    return replace(envelope, not_before=None, dedup_key=None, dedup_window=None)


def _check(limit: Any, burst: Any, ordered: Any, *, has_rate: bool) -> None:
    if limit is not None and whole("limit", limit) > MOST:
        raise invalid("limit", limit, f"at most {MOST:,}: those that run are noted in one record")
    if ordered not in (None, True, False):
        raise invalid("ordered", ordered, "True or False")
    if ordered and limit not in (None, 1):
        raise InvalidOptionError(
            f"ordered=True means limit=1, and limit is {limit}; give one of them", option="ordered"
        )
    if burst is not None and whole("burst", burst) and not has_rate:
        raise InvalidOptionError('burst is part of a rate; give one, such as rate="10/s"', option="burst")


def _check_functions(key: Any, fair: Any, *, limited: bool, shared: bool) -> None:
    if not limited:
        what = "key" if key is not None else "fair"
        raise InvalidOptionError(
            f"{what} says whose limit it is, and there is none; give limit=, rate= or ordered=True", option=what
        )
    if fair is not None and not shared:
        raise InvalidOptionError(
            "fair shares out the slots of a limit; give limit=, such as how many tasks the fleet runs at once",
            option="fair",
        )


def _per_second(rate: Any) -> float:
    found = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    number = float(found[1]) / _SECONDS[found[2]] if found else rate
    if isinstance(number, str) or not is_number(number) or not RAREST <= number <= OFTENEST:
        raise invalid(
            "rate", rate, 'starts per second as a number above 0, or a text such as "10/s", "100/m", "5/h" or "1/d"'
        )
    return float(number)
