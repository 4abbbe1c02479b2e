"""When a failed task runs again, and when it does not. Pure: a policy decides and does nothing.

The same policy travels in the envelope (:meth:`RetryPolicy.to_dict`), so the submitter, every
worker and a replay decide alike. All delays are seconds.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from random import SystemRandom
from typing import Any, Final, Literal, Self

from tranship.checks import invalid, mapping, not_negative, one_of, positive, text, whole
from tranship.errors import InvalidOptionError, Retry, TaskError

__all__ = [
    "Backoff",
    "ExponentialBackoff",
    "FixedBackoff",
    "Jitter",
    "LinearBackoff",
    "RetryPolicy",
    "exception_names",
]

Jitter = Literal["none", "full", "equal", "around"]
"""``none``: the delay d itself; ``full``: anywhere in 0..d; ``equal``: anywhere in d/2..d; ``around``: a quarter of d
less or more."""

uniform: Final = SystemRandom().random
"""Without a state that an application may have seeded: workers that were seeded alike must not retry in step."""

Random = Callable[[], float]
"""Returns a number in 0..1, as :func:`random.random` does."""

ExceptionLike = type[BaseException] | str


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """``initial``, then ``multiplier`` times longer each time, never above ``max_delay``; jitter comes last.

    Raises:
        InvalidOptionError: a delay that is not above 0, a multiplier below 1, an unknown jitter.
    """

    initial: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 60.0
    jitter: Jitter | bool = "full"
    """``True`` stands for ``"full"``, ``False`` for ``"none"``."""

    def __post_init__(self) -> None:
        _keep(self, initial=positive("initial", self.initial), max_delay=positive("max_delay", self.max_delay))
        _keep(self, multiplier=positive("multiplier", self.multiplier), jitter=_jitter(self.jitter))
        if self.multiplier < 1:
            raise invalid("multiplier", self.multiplier, "a number of at least 1")

    def seconds(self, attempt: int, random: Random = uniform) -> float:
        """Return the seconds to wait after the attempt that had ``attempt`` attempts before it."""
        try:
            grown = self.initial * self.multiplier**attempt
        except OverflowError:
            grown = self.max_delay
        return _scatter(min(grown, self.max_delay), self.jitter, random)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like data for :meth:`RetryPolicy.from_dict`."""
        return {"kind": "exponential", **asdict(self)}


@dataclass(frozen=True, slots=True)
class LinearBackoff:
    """``initial``, then ``increment`` longer each time, never above ``max_delay`` (None: no limit).

    Raises:
        InvalidOptionError: a negative number, an unknown jitter.
    """

    initial: float
    increment: float
    max_delay: float | None = None
    jitter: Jitter | bool = "none"

    def __post_init__(self) -> None:
        _keep(self, initial=not_negative("initial", self.initial), increment=not_negative("increment", self.increment))
        _keep(self, jitter=_jitter(self.jitter))
        if self.max_delay is not None:
            _keep(self, max_delay=positive("max_delay", self.max_delay))

    def seconds(self, attempt: int, random: Random = uniform) -> float:
        """Return the seconds to wait after the attempt that had ``attempt`` attempts before it."""
        grown = self.initial + self.increment * attempt
        limit = grown if self.max_delay is None else self.max_delay
        return _scatter(min(grown, limit), self.jitter, random)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like data for :meth:`RetryPolicy.from_dict`."""
        return {"kind": "linear", **asdict(self)}


@dataclass(frozen=True, slots=True)
class FixedBackoff:
    """The same ``delay`` every time.

    Raises:
        InvalidOptionError: a negative delay, an unknown jitter.
    """

    delay: float
    jitter: Jitter | bool = "none"

    def __post_init__(self) -> None:
        _keep(self, delay=not_negative("delay", self.delay), jitter=_jitter(self.jitter))

    def seconds(self, attempt: int, random: Random = uniform) -> float:  # noqa: ARG002 - the same for every attempt
        """Return the seconds to wait."""
        return _scatter(self.delay, self.jitter, random)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like data for :meth:`RetryPolicy.from_dict`."""
        return {"kind": "fixed", **asdict(self)}


Backoff = ExponentialBackoff | LinearBackoff | FixedBackoff
"""A closed set, because every worker has to know it."""

_BACKOFFS: Final[Mapping[str, type[Backoff]]] = {
    "exponential": ExponentialBackoff,
    "linear": LinearBackoff,
    "fixed": FixedBackoff,
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon and after which failures a task runs again.

    Args:
        max_attempts: all attempts together, the first one included; 1 means never again.
        backoff: the delays between attempts.
        retry_on: exception classes, or their qualified names such as ``"requests.exceptions.Timeout"``
            (a built-in exception needs no module). A failure counts when its class or a base of it is
            named.
        retry_on_types: what failures call themselves: the ``error_type`` of a ``TaskError``, else the name of the class
            without its module. A failure counts when one of both lists covers it, or both are empty.
        stop_on_codes: error codes that end the task whatever ``retry_on`` says.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=ExponentialBackoff)
    retry_on: Sequence[ExceptionLike] = ()
    """Kept as a tuple of qualified names."""
    stop_on_codes: Sequence[str] = ()
    retry_on_types: Sequence[str] = ()

    def __post_init__(self) -> None:
        whole("max_attempts", self.max_attempts)
        if not isinstance(self.backoff, Backoff):
            raise invalid("backoff", self.backoff, "an ExponentialBackoff, a LinearBackoff or a FixedBackoff")
        retry_on = tuple(_qualified(kind) for kind in _several("retry_on", self.retry_on))
        _keep(self, retry_on=retry_on)
        for option in ("stop_on_codes", "retry_on_types"):
            _keep(self, **{option: tuple(text(option, one) for one in _several(option, getattr(self, option)))})

    def decide(
        self,
        attempt: int,
        *,
        names: Sequence[str],
        code: str,
        retryable: bool,
        requested_delay: float | None = None,
        random: Random = uniform,
    ) -> float | None:
        """Return the seconds until the next attempt, or None: give up.

        Args:
            attempt: how many attempts came before the one that failed.
            names: what :func:`exception_names` says of the failure.
            code: the failure's code.
            retryable: False ends the task at once.
            requested_delay: seconds that the failure asks to be left alone for (``Retry-After``); the
                next attempt comes no sooner. One that is no finite number above 0 is ignored.
            random: the source of jitter.
        """
        if attempt + 1 >= self.max_attempts or not self.applies(names=names, code=code, retryable=retryable):
            return None
        return max(self.backoff.seconds(attempt, random), _wish(requested_delay))

    def applies(self, *, names: Sequence[str], code: str, retryable: bool) -> bool:
        """Whether such a failure would be tried again while there are attempts left."""
        return retryable and code not in self.stop_on_codes and self._counts(names)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like data, for the wire."""
        said = {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff.to_dict(),
            "retry_on": list(self.retry_on),
            "stop_on_codes": list(self.stop_on_codes),
        }
        return {**said, "retry_on_types": list(self.retry_on_types)} if self.retry_on_types else said

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Return the policy that :meth:`to_dict` wrote; keys that are missing have their defaults.

        Keys it does not know are ignored, so that a newer peer is understood.

        Raises:
            InvalidOptionError: ``data`` has another shape, or a value outside what is allowed.
        """
        given = _known(cls, mapping("retry", data))
        if "backoff" in given:
            given["backoff"] = _backoff(given["backoff"])
        return cls(**given)

    def _counts(self, names: Sequence[str]) -> bool:
        # A handler that raises Retry asks in so many words; retry_on is about failures.
        counted = (*self.retry_on, *self.retry_on_types)
        return not counted or _RETRY in names or any(name in counted for name in names)


def exception_names(error: BaseException | type[BaseException]) -> tuple[str, ...]:
    """Return the qualified names of an exception's class and its bases, nearest first, then what it calls itself."""
    kind = error if isinstance(error, type) else type(error)
    own = vars(error).get("error_type") if isinstance(error, TaskError) else None
    return (*(_name(base) for base in kind.__mro__ if base is not object), own or kind.__name__)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


_RETRY: Final = _name(Retry)


def _qualified(kind: ExceptionLike) -> str:
    expected = "an exception class or its qualified name (retry_on_types takes an error_type)"
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return _name(kind)
    if not isinstance(kind, str) or not kind:
        raise invalid("retry_on", kind, expected)
    if "." in kind:
        return kind
    known = getattr(builtins, kind, None)
    if not (isinstance(known, type) and issubclass(known, BaseException)):
        raise invalid("retry_on", kind, f"{expected}, such as 'package.module.{kind}'")
    return _name(known)


def _several(option: str, value: Any) -> Iterable[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise invalid(option, value, "a sequence")
    return value


def _backoff(data: Any) -> Backoff:
    given = dict(mapping("backoff", data))
    kind = _BACKOFFS[one_of("backoff kind", given.pop("kind", None), _BACKOFFS)]
    try:
        return kind(**_known(kind, given))
    except TypeError:  # a field without a default is missing
        raise invalid("backoff", data, f"the fields of {kind.__name__}") from None


def _known(kind: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in (part.name for part in fields(kind)) if name in data}


def _jitter(value: Any) -> Jitter:
    if isinstance(value, bool):
        return "full" if value else "none"
    jitter: Jitter = one_of("jitter", value, ("none", "full", "equal", "around"))
    return jitter


def _scatter(delay: float, jitter: Jitter | bool, random: Random) -> float:
    if jitter == "full":
        return delay * random()
    if jitter == "equal":
        return delay * (0.5 + random() / 2)
    if jitter == "around":
        return delay * (0.75 + random() / 2)
    return delay


def _wish(requested: Any) -> float:
    try:
        return positive("retry_after", requested)
    except InvalidOptionError:
        return 0.0


def _keep(target: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(target, name, value)
