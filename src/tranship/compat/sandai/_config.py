"""What a client was told: argument > TRANSHIP_OPERATOR_* > SANDAI_OPERATOR_* > default, each setting by itself.

A variable of ours that cannot be read is an error. One of the package's is read as the package reads it: what is no
number counts as not set, and what is no yes is a no.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from tranship.checks import invalid, not_negative, one_of, text, whole
from tranship.compat.sandai._urls import operator_url
from tranship.compat.sandai._variables import VALID_PRIORITIES, variable_flag, variable_number
from tranship.compat.sandai.exceptions import InvalidPriorityError
from tranship.settings import BrokerURL, convert

__all__ = ["DEFAULT_TIMEOUT", "Config", "Given", "priority_of", "read_config"]

DEFAULT_TIMEOUT: Final = 3600.0
"""Seconds that blocking calls take at most, unless told otherwise."""
DEFAULT_URL: Final = "redis://localhost:6379/0"

_OURS: Final = "TRANSHIP_OPERATOR_"
_THEIRS: Final = "SANDAI_OPERATOR_"
_SERIALIZERS: Final = ("json", "msgpack")
_SCOPES: Final = ("operator", "process")


class Given(NamedTuple):
    """The arguments of a client's constructor; None: not given."""

    operator_name: Any
    operator_version: Any
    broker_url: Any = None
    result_backend: Any = None
    timeout: Any = None
    debug: Any = False
    priority: Any = None
    cancel_key: Any = None
    auto_forget_result: Any = None
    broker_pool_limit: Any = None
    result_backend_max_connections: Any = None
    backend_pool_limit: Any = None
    backend_poll_concurrency: Any = None
    pool_acquire_timeout: Any = None
    shared_transport_scope: Any = None
    task_serializer: Any = None
    result_serializer: Any = None
    accept_content: Any = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Given:
        """Return those of a function's arguments that are among these, by their names; the others are not."""
        return cls(**{name: arguments[name] for name in cls._fields if name in arguments})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything a client needs to know; times are seconds. Made by :func:`read_config`."""

    operator_name: str
    operator_version: str
    broker_url: str
    """As it was given: with its password, so not for logs."""
    result_backend: str
    broker: BrokerURL
    """The same as our backends read it, as ``results`` is."""
    results: BrokerURL
    timeout: float
    debug: bool
    detailed_debug: bool
    priority: str
    cancel_key: str | None
    auto_forget_result: bool
    broker_pool_limit: int
    backend_pool_limit: int
    backend_poll_concurrency: int
    pool_acquire_timeout: float
    shared_transport_scope: str
    task_serializer: str
    result_serializer: str
    accept_content: tuple[str, ...]
    tracing: bool

    @property
    def place(self) -> str:
        """The broker without secrets."""
        return str(BrokerURL.parse(self.broker_url))

    @cached_property
    def task_name(self) -> str:
        """The task that the operator serves."""
        return f"sandai_operator.{self.operator_name}.{self.operator_version}.process_task"

    @cached_property
    def queue_names(self) -> Mapping[str, str]:
        """The queue of each priority."""
        return {name: f"{name}.{self.operator_name}.{self.operator_version}" for name in VALID_PRIORITIES}

    @property
    def backend_slots(self) -> int:
        """How many reads and deletions may be under way at once."""
        return min(self.backend_pool_limit, self.backend_poll_concurrency)

    @property
    def broker_share(self) -> Hashable:
        """What clients must have in common, beside the URL, to share what belongs to the broker."""
        return ("broker", *self._scope, self.task_serializer, self.accept_content, self.broker_pool_limit)

    @property
    def backend_share(self) -> Hashable:
        """The same for the result backend."""
        limits = (self.backend_pool_limit, self.backend_poll_concurrency)
        return ("backend", *self._scope, self.result_serializer, self.accept_content, *limits)

    @property
    def _scope(self) -> tuple[str, ...]:
        if self.shared_transport_scope == "process":
            return ("process",)
        return ("operator", self.operator_name, self.operator_version)


def read_config(given: Given, environ: Mapping[str, str] | None = None) -> Config:
    """Return what holds for a client with these arguments.

    Args:
        given: the arguments.
        environ: the environment; None: the process's own.

    Raises:
        InvalidPriorityError: a priority that does not exist.
        InvalidOptionError: a value outside what is allowed, wherever it comes from.
        InvalidURLError: a URL that cannot be read.
    """
    read = _Reader(os.environ if environ is None else environ)
    broker_url = read.text(given.broker_url, "broker_url", "CELERY_BROKER_URL", DEFAULT_URL)
    # A broker among the arguments brings its own results along: a variable is about another broker.
    results = given.result_backend if given.result_backend not in (None, "") else given.broker_url
    result_backend = read.text(results, "result_backend", "CELERY_RESULT_BACKEND", broker_url)
    serializers = _serializers(read, given)
    return Config(
        operator_name=text("operator_name", given.operator_name),
        operator_version=text("operator_version", given.operator_version),
        broker_url=broker_url,
        result_backend=result_backend,
        broker=operator_url(broker_url),
        results=_results_url(result_backend, broker_url, serializers["result_serializer"]),
        timeout=DEFAULT_TIMEOUT if given.timeout is None else not_negative("timeout", given.timeout),
        debug=one_of("debug", given.debug, (True, False)),
        detailed_debug=read.flag(None, "detailed_debug", "CLIENT_DETAILED_DEBUG", default=False),
        priority=_priority(given.priority),
        cancel_key=None if given.cancel_key in (None, "") else text("cancel_key", given.cancel_key),
        auto_forget_result=read.flag(
            given.auto_forget_result, "auto_forget_result", "AUTO_FORGET_RESULT", default=True
        ),
        shared_transport_scope=read.choice(
            given.shared_transport_scope, "shared_transport_scope", "SHARED_TRANSPORT_SCOPE", "operator", _SCOPES
        ),
        tracing=read.flag(None, "tracing", "TRACING_ENABLED", default=False),
        **serializers,
        **_limits(read, given),
    )


def _limits(read: _Reader, given: Given) -> dict[str, Any]:
    older = given.result_backend_max_connections
    if older is not None:
        _slots("result_backend_max_connections", older)
    pool = older if given.backend_pool_limit is None else given.backend_pool_limit
    wait = read.number(given.pool_acquire_timeout, "pool_acquire_timeout", "POOL_ACQUIRE_TIMEOUT", 10.0)
    return {
        "broker_pool_limit": read.limit(
            given.broker_pool_limit, "broker_pool_limit", 12, older="CELERY_BROKER_POOL_LIMIT"
        ),
        "backend_pool_limit": read.limit(pool, "backend_pool_limit", 12, older="CELERY_RESULT_BACKEND_MAX_CONNECTIONS"),
        "backend_poll_concurrency": read.limit(given.backend_poll_concurrency, "backend_poll_concurrency", 6),
        "pool_acquire_timeout": wait,
    }


def _serializers(read: _Reader, given: Given) -> dict[str, Any]:
    task = read.text(given.task_serializer, "task_serializer", "CELERY_TASK_SERIALIZER", "msgpack")
    result = read.text(given.result_serializer, "result_serializer", "CELERY_RESULT_SERIALIZER", "json")
    return {
        "task_serializer": one_of("task_serializer", task, _SERIALIZERS),
        "result_serializer": one_of("result_serializer", result, _SERIALIZERS),
        "accept_content": _accepted(given.accept_content),
    }


def _accepted(given: Any) -> tuple[str, ...]:
    if given is None:
        return _SERIALIZERS
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise invalid("accept_content", given, "several of " + ", ".join(_SERIALIZERS))
    return tuple(sorted({one_of("accept_content", one, _SERIALIZERS) for one in given}))


def _results_url(text: str, broker_url: str, serializer: str) -> BrokerURL:
    # Celery's rpc:// is the broker itself, over which each client has its own answers.
    url = operator_url(broker_url if text.partition("://")[0] == "rpc" else text)
    if "cancel_template" in url.options and "result_serializer" not in url.options:
        return url.with_options(result_serializer=serializer)
    return url


def _priority(value: Any) -> str:
    return priority_of(value, "normal")


def priority_of(value: Any, default: str) -> str:
    """Return the priority that is meant.

    Raises:
        InvalidPriorityError: there is no such priority.
    """
    if value is None or value == "":
        return default
    if not isinstance(value, str) or value not in VALID_PRIORITIES:
        raise InvalidPriorityError(value, VALID_PRIORITIES)
    return value


def _slots(option: str, value: Any) -> int:
    return max(1, whole(option, value, minimum=0))


class _Reader:
    """Takes an argument where it was given, else a variable, else the default.

    Args:
        environ: the environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, given: Any, option: str, variable: str, default: str) -> str:
        """A text that is not empty."""
        value = given if given not in (None, "") else self._variable(variable, str)
        return default if value is None else text(option, value)

    def choice(self, given: Any, option: str, variable: str, default: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``."""
        if given not in (None, ""):
            return str(one_of(option, given, choices))
        ours = self._environ.get(_OURS + variable)
        if ours:
            return str(one_of(_OURS + variable, ours, choices))
        theirs = self._environ.get(_THEIRS + variable)
        return theirs if theirs in choices else default

    def flag(self, given: Any, option: str, variable: str, *, default: bool) -> bool:
        """True or false."""
        value = given if given is not None else self._variable(variable, bool)
        return default if value is None else bool(one_of(option, value, (True, False)))

    def number(self, given: Any, option: str, variable: str, default: float) -> float:
        """A number of seconds, at least 0."""
        value = given if given is not None else self._variable(variable, float)
        return default if value is None else not_negative(option, value)

    def limit(self, given: Any, option: str, default: int, *, older: str = "") -> int:
        """A number of slots; none at all stands for one. ``older``: the variable that is read after the option's."""
        value = given if given is not None else self._variable(option.upper(), int)
        if value is None and older:
            value = self._variable(older, int)
        return default if value is None else _slots(option, value)

    def _variable(self, name: str, kind: type) -> Any:
        ours = self._environ.get(_OURS + name)
        # An empty variable is how shells and compose files say "not set".
        if ours:
            return convert(_OURS + name, ours, kind, where="in the environment", noun="variable")
        theirs = self._environ.get(_THEIRS + name)
        if theirs is None:
            return None
        if kind is str:
            return theirs.strip() or None
        if kind is bool:
            return variable_flag(theirs)
        number = variable_number(theirs, kind)
        return None if number is None else max(0, number)
