"""Settings with their origins: argument > environment > file > default."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar, get_type_hints

from tranship.checks import duration, invalid, one_of, positive_duration, text, whole
from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.settings._default import default_broker_url
from tranship.settings._environment import production_signs
from tranship.settings._fill import convert, unknown
from tranship.settings._redact import REDACTED, is_secret
from tranship.settings._schedules import ScheduleTables
from tranship.settings._task_routes import TaskRoutes
from tranship.settings._url import BrokerURL

__all__ = ["SettingRow", "Settings"]

_PREFIX: Final = "TRANSHIP_"
_DURATIONS: Final = (
    "submit_timeout",
    "unknown_id_timeout",
    "heartbeat_interval",
    "heartbeat_debounce",
    "shutdown_timeout",
    "watchdog",
)
SHORTEST_TOKEN: Final = 16
"""Characters."""
_ABOUT: Final = ("origins", "production")
"""Fields that are about the settings, and none themselves."""


class SettingRow(NamedTuple):
    """One line of ``tranship config``."""

    name: str
    value: str
    """Without secrets."""
    origin: str
    variable: str
    """The environment variable that sets it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a client and a worker need to know. Made by :meth:`load`; times are seconds (given as a timedelta or not).

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    broker_url: BrokerURL
    result_url: BrokerURL | None = None
    """None: results are kept at the broker."""
    namespace: str = ""
    """Prefixes every name on the broker; goes before the URL's own option of that name."""
    task_routes: TaskRoutes = field(default_factory=TaskRoutes)
    """Queues for tasks that are submitted by name and without a queue: names or patterns, such as
    ``shop.resize=media, shop.*=celery``; in a file a table of them. Of others nothing is changed."""
    unread_queues: Literal["accept", "refuse"] = "accept"
    """What becomes of a task that is submitted by name to a queue that no known worker reads: it waits for one, or is
    refused with a ``QueueUnread``. To know that, the broker is asked, once in a while for each queue."""
    submit_timeout: float = 10.0
    """How long a submit is retried before it fails."""
    result_timeout: float | None = None
    """How long waiting for a result takes when the caller says nothing; None: for ever."""
    unknown_id_timeout: float = 60.0
    """How long it takes when the caller says nothing, of an id that was not submitted here and may not exist: where the
    result store cannot tell (Redis, NATS, and every store that is not the broker, without ``knows_ids``)."""
    max_concurrent_tasks: int = 10
    max_deliveries: int = 5
    """A task that was delivered this often without an end is dead-lettered."""
    heartbeat_interval: float = 5.0
    """How often a worker says what it is and does."""
    heartbeat_debounce: float = 0.1
    """How soon it says that its labels or its hot cache have changed: with what changes meanwhile, and at most this
    often."""
    shutdown_timeout: float = 30.0
    """How long a worker that stops waits for what is running."""
    wait_for_broker: float | None = None
    """How long a worker that starts waits for a broker that cannot be reached; None: as long as it takes, as later
    (``run_until_idle`` and ``--burst``: not at all)."""
    watchdog: float = 30.0
    """How long a worker may hear nothing from the broker before it rebuilds its consumer."""
    health_port: int | None = None
    """Where a worker answers health checks by HTTP; 0: any port that is free; None: nowhere."""
    health_host: str = "127.0.0.1"
    """The address of that: this machine's own, unless you choose another (``0.0.0.0`` in a container)."""
    control_token: str | None = field(default=None, repr=False)
    """Who has it may command a worker over its health server, at ``/control``; None: nobody. At least 16 characters."""
    events: bool = False
    """Whether a worker tells Celery's programs that look on, such as Flower, what happens (Redis, RabbitMQ)."""
    sent_events: bool = False
    """Whether a client tells them what it has submitted."""
    history: int = 0
    """How many of the tasks that it has ended a worker remembers, for a day, for the dashboard: how they ended, and
    neither arguments nor results."""
    schedules: ScheduleTables | None = None
    """What schedulers send, as tables by name: ``[schedules.nightly]`` with ``task``, ``every`` or ``cron``, and the
    other arguments of ``Schedule``; in the environment JSON."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    production: Sequence[str] = field(default=(), repr=False, compare=False)
    """Variables of the environment that say it is production; found by :meth:`load`."""

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            self._keep(name, positive_duration(name, getattr(self, name)))
        if self.result_timeout is not None:
            self._keep("result_timeout", positive_duration("result_timeout", self.result_timeout))
        if self.wait_for_broker is not None:
            self._keep("wait_for_broker", duration("wait_for_broker", self.wait_for_broker))
        one_of("unread_queues", self.unread_queues, ("accept", "refuse"))
        whole("max_concurrent_tasks", self.max_concurrent_tasks)
        whole("max_deliveries", self.max_deliveries)
        if whole("history", self.history, minimum=0) > 100_000:
            raise invalid("history", self.history, "a number from 0 to 100000")
        if self.health_port is not None and whole("health_port", self.health_port, minimum=0) > 65_535:
            raise invalid("health_port", self.health_port, "a port from 0 to 65535")
        text("health_host", self.health_host)
        token: Any = self.control_token
        if token is not None and not (isinstance(token, str) and token.isascii() and len(token) >= SHORTEST_TOKEN):
            # It is nobody's business, not even when it is wrong.
            raise InvalidOptionError(
                f"control_token is not a text of at least {SHORTEST_TOKEN} ASCII characters; make one with: python -c "
                "'import secrets; print(secrets.token_urlsafe())'",
                option="control_token",
            )

    def _keep(self, name: str, seconds: float) -> None:
        object.__setattr__(self, name, seconds)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, directory: Path | None = None, **arguments: Any) -> Self:
        """Return the settings from arguments, environment, file and defaults, in this order.

        Args:
            environ: the environment; None: the process's own. It is read here and nowhere else.
            directory: where ``tranship.toml`` or ``pyproject.toml`` is looked for; None: the current one.
            **arguments: settings by name; None counts as not given.

        Raises:
            InvalidOptionError: an unknown setting, or a value outside what is allowed.
            InvalidURLError: a URL that cannot be read.
            ConfigurationError: a file that cannot be read.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name, value, origin in _given(environ, directory or Path.cwd(), arguments):
            values.setdefault(name, value)
            origins.setdefault(name, origin)
        values.setdefault("broker_url", default_broker_url(environ))
        return _checked(cls, values, origins, production_signs(environ))

    def broker(self) -> BrokerURL:
        """Return the broker's URL with the namespace in it."""
        return self.broker_url.with_options(namespace=self.namespace) if self.namespace else self.broker_url

    def results(self) -> BrokerURL | None:
        """Return the result store's URL with the namespace in it; None: results are kept at the broker."""
        if self.result_url is None or not self.namespace:
            return self.result_url
        return self.result_url.with_options(namespace=self.namespace)

    def origin(self, name: str) -> str:
        """Return where a setting comes from: ``"argument"``, ``"environment ..."``, ``"file ..."``, ``"default"``."""
        return self.origins.get(name, "default")

    def rows(self) -> list[SettingRow]:
        """Return every setting with its value, without secrets, and its origin."""
        return [
            SettingRow(name, _shown(name, getattr(self, name)), self.origin(name), _variable(name)) for name in _kinds()
        ]

    def replace(self, **arguments: Any) -> Self:
        """Return these settings with ``arguments`` over them; None counts as not given."""
        given = {name: value for name, value, _ in _converted(arguments, "argument", _kinds())}
        values = {name: getattr(self, name) for name in _kinds()} | given
        origins = {**self.origins, **dict.fromkeys(given, "argument")}
        return _checked(type(self), values, origins, self.production)


Given = tuple[str, Any, str]
S = TypeVar("S", bound=Settings)


def _checked(cls: type[S], values: Mapping[str, Any], origins: Mapping[str, str], production: Sequence[str]) -> S:
    try:
        return cls(**values, origins=origins, production=production)
    except InvalidOptionError as error:
        origin = origins.get(error.option, "default")
        raise InvalidOptionError(f"{error} (it comes from: {origin})", option=error.option) from None


def _given(environ: Mapping[str, str], directory: Path, arguments: Mapping[str, Any]) -> Iterator[Given]:
    kinds = _kinds()
    yield from _converted(arguments, "argument", kinds)
    for name, kind in kinds.items():
        text = environ.get(variable := _variable(name))
        # An empty variable is how shells and compose files say "not set".
        if text:
            value = convert(variable, text, kind, where="in the environment", noun="variable")
            yield name, value, f"environment {variable}"
    path, table = _file(directory)
    yield from _converted(table, f"file {path}", kinds)


def _converted(values: Mapping[str, Any], origin: str, kinds: Mapping[str, Any]) -> Iterator[Given]:
    where = "among the arguments" if origin == "argument" else f"in the {origin}"
    for given, value in values.items():
        name = given.replace("-", "_")
        if name not in kinds:
            raise unknown("setting", given, kinds, where)
        if value is not None:
            yield name, convert(name, value, kinds[name], where=where, noun="setting"), origin


def _kinds() -> dict[str, Any]:
    hints = get_type_hints(Settings)
    return {part.name: hints[part.name] for part in fields(Settings) if part.name not in _ABOUT}


def _file(directory: Path) -> tuple[Path, Mapping[str, Any]]:
    own = directory / "tranship.toml"
    if own.is_file():
        return own, _read(own)
    project = directory / "pyproject.toml"
    if project.is_file():
        return project, _table(project, _read(project))
    return own, {}


def _table(path: Path, document: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = document.get("tool", {})
    table = tool.get("tranship", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigurationError(f"tool.tranship in {path} is {table!r}; expected a table: write [tool.tranship]")
    return table


def _read(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error}") from error


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


def _shown(name: str, value: object) -> str:
    if value is None:
        return ""
    return REDACTED if is_secret(name) else str(value)
