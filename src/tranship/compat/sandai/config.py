"""The settings of a client as data: what ``sandai.operator_client.config`` offers."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from tranship.compat.sandai._config import Config, Given, read_config
from tranship.compat.sandai._variables import VALID_PRIORITIES, variable_flag, variable_number
from tranship.settings import BrokerURL

__all__ = [
    "DEFAULT_BLOCKING_TIMEOUT_SECONDS",
    "VALID_PRIORITIES",
    "CeleryConfig",
    "ClientConfig",
    "env_bool",
    "env_float",
    "env_int",
    "get_celery_config",
    "get_default_celery_config",
    "resolve_client_config",
]

DEFAULT_BLOCKING_TIMEOUT_SECONDS: Final = 3600
"""How long blocking calls take at most, as the package's document says; the package's own constant is 28800."""

_LOCAL: Final = "redis://localhost:6379/0"
_CELERY_POOL: Final = 20


def env_bool(name: str, default: bool = False) -> bool:
    """Read a variable as yes or no; ``default``: it is not set."""
    value = os.environ.get(name)
    return default if value is None else variable_flag(value)


def env_int(name: str, default: int) -> int:
    """Read a variable as a whole number; ``default``: it is not set, or not one."""
    number = variable_number(os.environ.get(name, ""), int)
    return default if number is None else int(number)


def env_float(name: str, default: float) -> float:
    """Read a variable as a number; ``default``: it is not set, or not a finite one."""
    number = variable_number(os.environ.get(name, ""), float)
    return default if number is None else float(number)


@dataclass
class CeleryConfig:
    """Where broker and results are and how both are written; what is None is filled in from the rest."""

    broker_url: str
    result_backend: str
    task_serializer: str = "msgpack"
    result_serializer: str = "json"
    accept_content: list[str] | None = None
    broker_pool_limit: int = _CELERY_POOL
    broker_transport_options: dict[str, Any] | None = None
    result_backend_transport_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        written = ("json", "msgpack", self.task_serializer, self.result_serializer)
        self.accept_content = self.accept_content or list(dict.fromkeys(name for name in written if name))
        for option in ("broker_transport_options", "result_backend_transport_options"):
            if getattr(self, option) is None:
                setattr(self, option, {"max_connections": self.broker_pool_limit})

    def __repr__(self) -> str:
        places = (str(BrokerURL.parse(url)) if "://" in url else url for url in (self.broker_url, self.result_backend))
        return "CeleryConfig(broker_url={!r}, result_backend={!r})".format(*places)


@dataclass(frozen=True)
class ClientConfig:
    """What holds for a client."""

    operator_name: str
    operator_version: str
    celery: CeleryConfig
    timeout: float = DEFAULT_BLOCKING_TIMEOUT_SECONDS
    debug: bool = False
    priority: str = "normal"
    cancel_key: str | None = None
    auto_forget_result: bool = True
    broker_pool_limit: int = 12
    backend_pool_limit: int = 12
    backend_poll_concurrency: int = 6
    pool_acquire_timeout: float = 10.0
    thread_safe_mode: bool = True
    shared_transport_scope: str = "operator"
    detailed_debug: bool = False

    @property
    def broker_url(self) -> str:
        """The broker, with its password."""
        return self.celery.broker_url

    @property
    def result_backend(self) -> str:
        """The result backend, with its password."""
        return self.celery.result_backend

    @property
    def task_name(self) -> str:
        """The task that the operator serves."""
        return f"sandai_operator.{self.operator_name}.{self.operator_version}.process_task"

    @property
    def app_name(self) -> str:
        """What the package calls its Celery application."""
        return f"sandai_client_{self.operator_name}_{self.operator_version}"

    @property
    def queue_names(self) -> dict[str, str]:
        """The queue of each priority."""
        return {name: f"{name}.{self.operator_name}.{self.operator_version}" for name in VALID_PRIORITIES}


_SHARED: Final = {one.name for one in fields(ClientConfig)} & {one.name for one in fields(Config)}
"""What a client's configuration says as it was found."""


def get_celery_config() -> CeleryConfig | None:
    """What the ``SANDAI_OPERATOR_CELERY_*`` variables say; None: they name no broker."""
    read = os.environ.get
    broker = read("SANDAI_OPERATOR_CELERY_BROKER_URL", "")
    results = read("SANDAI_OPERATOR_CELERY_RESULT_BACKEND", broker)
    if not broker or not results:
        return None
    serializers = (read(f"SANDAI_OPERATOR_CELERY_{which}_SERIALIZER") for which in ("TASK", "RESULT"))
    task, result = serializers
    return _with_pools(CeleryConfig(broker, results, task or "msgpack", result or "json"), None, None)


def get_default_celery_config() -> CeleryConfig:
    """A Redis on this machine."""
    return CeleryConfig(_LOCAL, _LOCAL)


def resolve_client_config(
    operator_name: str,
    operator_version: str,
    *,
    broker_url: str | None = None,
    result_backend: str | None = None,
    timeout: float | None = None,
    debug: bool = False,
    priority: str = "normal",
    cancel_key: str | None = None,
    auto_forget_result: bool | None = None,
    broker_pool_limit: int | None = None,
    result_backend_max_connections: int | None = None,
    backend_pool_limit: int | None = None,
    backend_poll_concurrency: int | None = None,
    pool_acquire_timeout: float | None = None,
    thread_safe_mode: bool = True,
    shared_transport_scope: str | None = None,
) -> ClientConfig:
    """Return what a client with these arguments goes by. Nothing is connected.

    Raises:
        InvalidPriorityError, InvalidOptionError, InvalidURLError: as the clients'.
    """
    arguments = locals()
    found = read_config(Given.of(arguments))
    celery = CeleryConfig(found.broker_url, found.result_backend, found.task_serializer, found.result_serializer)
    return ClientConfig(
        celery=_with_pools(celery, broker_pool_limit, result_backend_max_connections),
        thread_safe_mode=thread_safe_mode,
        **{name: getattr(found, name) for name in _SHARED},
    )


def _with_pools(config: CeleryConfig, broker: int | None, backend: int | None) -> CeleryConfig:
    if broker is None:
        broker = env_int("SANDAI_OPERATOR_CELERY_BROKER_POOL_LIMIT", _CELERY_POOL)
    if backend is None:
        backend = env_int("SANDAI_OPERATOR_CELERY_RESULT_BACKEND_MAX_CONNECTIONS", broker)
    return replace(
        config,
        broker_pool_limit=broker,
        broker_transport_options={"max_connections": broker},
        result_backend_transport_options={"max_connections": backend},
    )
