"""The worker's environment variables, with any broker's URL where the orchestrator's was, or that one itself."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import uuid4

from tranship.checks import positive, whole
from tranship.compat.avtomatika._identifiers import validate_identifier
from tranship.compat.avtomatika._urls import TOKEN, broker_of, is_orchestrator
from tranship.errors import InvalidOptionError, InvalidURLError
from tranship.routing import failover, round_robin
from tranship.settings import Settings

__all__ = ["WorkerConfig"]

log = logging.getLogger("tranship.compat.avtomatika")

MODES: Final = ("FAILOVER", "WATERFALL", "ROUND_ROBIN")
HEALTH_PORT: Final = 8083
_ENTRY: Final = frozenset({"url", "priority", "weight", "token"})
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_EXAMPLE: Final = '[{"url": "redis://a/0", "weight": 100}, {"url": "redis://b/0", "weight": 100}]'


class WorkerConfig:
    """What the environment says. Attributes may be set before a worker is made with it; None: tranship's own setting.

    Raises:
        InvalidOptionError, InvalidURLError: a variable that cannot be used; no URL and no secret is shown.
    """

    def __init__(self) -> None:
        env = os.environ
        self.WORKER_ID: str = env.get("WORKER_ID") or f"worker-{uuid4()}"
        self.WORKER_TYPE: str | None = env.get("WORKER_TYPE") or None
        self.WORKER_PORT: int | None = _read("WORKER_PORT", _port)
        self.ORCHESTRATORS: list[dict[str, Any]] = _orchestrators(env)
        self.MULTI_ORCHESTRATOR_MODE: str = _mode(env)
        self.WORKER_TOKEN: str | None = env.get("WORKER_INDIVIDUAL_TOKEN") or env.get("WORKER_TOKEN") or None
        self.ENABLE_WEBSOCKETS: bool = env.get("WORKER_ENABLE_WEBSOCKETS", "false").lower() == "true"
        self.SECRET_KEY: str | None = env.get("ORCHESTRATOR_SECRET_KEY") or None
        self.TLS_CA_PATH: str | None = env.get("TLS_CA_PATH") or None
        self.TLS_CERT_PATH: str | None = env.get("TLS_CERT_PATH") or None
        self.TLS_KEY_PATH: str | None = env.get("TLS_KEY_PATH") or None
        self.MAX_CONCURRENT_TASKS: int | None = _read("MAX_CONCURRENT_TASKS", _count)
        self.HEARTBEAT_INTERVAL: float | None = _read("HEARTBEAT_INTERVAL", _seconds)
        self.HEARTBEAT_DEBOUNCE_DELAY: float | None = _read("WORKER_HEARTBEAT_DEBOUNCE_DELAY", _seconds)
        self.SHUTDOWN_TIMEOUT: float | None = _read("WORKER_SHUTDOWN_TIMEOUT", _seconds)
        self.TASK_FILES_DIR: str = env.get("WORKER_PAYLOAD_DIR") or env.get("TASK_FILES_DIR") or "/tmp/payloads"  # noqa: S108
        self.WORKER_SKILLS_DIR: str | None = env.get("WORKER_SKILLS_DIR") or None
        self.S3_ENDPOINT_URL: str | None = env.get("S3_ENDPOINT_URL") or None
        self.S3_ACCESS_KEY: str | None = env.get("S3_ACCESS_KEY") or None
        self.S3_SECRET_KEY: str | None = env.get("S3_SECRET_KEY") or None
        self.S3_REGION: str | None = env.get("S3_REGION") or None
        self.S3_DEFAULT_BUCKET: str = env.get("S3_DEFAULT_BUCKET") or "avtomatika-payloads"

    def validate(self) -> None:
        """Do nothing, if a worker can work with it.

        Raises:
            InvalidOptionError: the worker's id is no identifier, or what is said of S3 cannot be used; no key is shown.
        """
        validate_identifier(self.WORKER_ID, "WORKER_ID")
        if not self.has_s3:
            return
        if (self.S3_ACCESS_KEY is None) != (self.S3_SECRET_KEY is None):
            lacking = "S3_SECRET_KEY" if self.S3_ACCESS_KEY else "S3_ACCESS_KEY"
            raise InvalidOptionError(
                f"{lacking} is not set, but the other half is; set both of S3_ACCESS_KEY and S3_SECRET_KEY, or neither",
                option=lacking,
            )
        if self.S3_ENDPOINT_URL and not re.fullmatch(r"https?://[^@\s]+", self.S3_ENDPOINT_URL):
            raise InvalidOptionError(
                "S3_ENDPOINT_URL cannot be used; expected such as http://minio:9000, without credentials",
                option="S3_ENDPOINT_URL",
            )
        if not _BUCKET.fullmatch(self.S3_DEFAULT_BUCKET):
            raise InvalidOptionError(
                f"S3_DEFAULT_BUCKET is {self.S3_DEFAULT_BUCKET!r}; expected the name of a bucket",
                option="S3_DEFAULT_BUCKET",
            )

    @property
    def has_s3(self) -> bool:
        """Whether payloads in S3 are set up: its endpoint, or credentials for it."""
        return bool(self.S3_ENDPOINT_URL or self.S3_ACCESS_KEY or self.S3_SECRET_KEY)

    def settings(self) -> Settings:
        """Return the settings of a worker.

        Raises:
            InvalidURLError, InvalidOptionError: a URL that cannot be used.
        """
        return Settings.load(
            broker_url=self.broker_url(),
            heartbeat_interval=self.HEARTBEAT_INTERVAL,
            heartbeat_debounce=self.HEARTBEAT_DEBOUNCE_DELAY,
            shutdown_timeout=self.SHUTDOWN_TIMEOUT,
        )

    def broker_url(self) -> str | None:
        """Return the URL of all orchestrators together, with the token in its place; None: none is named.

        Raises:
            InvalidURLError, InvalidOptionError: a URL, a weight or a token that cannot be used.
        """
        weights = {self._broker_of(one): one.get("weight", 1) for one in self.ORCHESTRATORS}
        if len(weights) < len(self.ORCHESTRATORS):
            raise InvalidURLError("ORCHESTRATORS_CONFIG has a URL twice; list it once, with a weight")
        if self.WORKER_TOKEN and not any(_takes_token(one["url"]) for one in self.ORCHESTRATORS):
            log.info("WORKER_TOKEN is not used: brokers are given credentials by their URL, which has no %s", TOKEN)
        if len(weights) < 2:
            return next(iter(weights), None)
        return round_robin(weights=weights) if self.MULTI_ORCHESTRATOR_MODE == "ROUND_ROBIN" else failover(*weights)

    def _broker_of(self, orchestrator: Mapping[str, Any]) -> str:
        said = {
            "secret_key": self.SECRET_KEY,
            "ca_certs": self.TLS_CA_PATH,
            "certfile": self.TLS_CERT_PATH,
            "keyfile": self.TLS_KEY_PATH,
        }
        options = {name: value for name, value in said.items() if value is not None}
        return broker_of(orchestrator["url"], orchestrator.get("token") or self.WORKER_TOKEN, options)

    def __repr__(self) -> str:
        # The others may hold secrets.
        return f"<WorkerConfig {self.WORKER_ID}, {len(self.ORCHESTRATORS)} orchestrators>"


def _takes_token(url: str) -> bool:
    return TOKEN in url or is_orchestrator(url)


def _read(variable: str, convert: Callable[[str, str], Any]) -> Any:
    value = os.environ.get(variable)
    return convert(variable, value) if value else None


def _port(variable: str, value: str) -> int:
    port = _count(variable, value, minimum=0)
    if port > 65_535:
        raise InvalidOptionError(f"{variable} is {value!r}; expected a port from 0 to 65535", option=variable)
    return port


def _count(variable: str, value: str, minimum: int = 1) -> int:
    return whole(variable, int(value) if value.strip().isdecimal() else value, minimum=minimum)


def _seconds(variable: str, value: str) -> float:
    try:
        return positive(variable, float(value))
    except ValueError:
        raise InvalidOptionError(f"{variable} is {value!r}; expected seconds above 0", option=variable) from None


def _mode(env: Mapping[str, str]) -> str:
    mode = (env.get("MULTI_ORCHESTRATOR_MODE") or MODES[0]).upper()
    if mode not in MODES:
        raise InvalidOptionError(
            f"MULTI_ORCHESTRATOR_MODE is {mode!r}; expected one of {', '.join(MODES)}", option="MULTI_ORCHESTRATOR_MODE"
        )
    return mode


def _orchestrators(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those of the list by priority, the smallest first, and in its order where that is the same."""
    url = env.get("ORCHESTRATOR_URL")
    listed = _listed(env.get("ORCHESTRATORS_CONFIG") or "[]")
    return sorted(listed, key=lambda one: one["priority"]) or (
        [{"url": url, "priority": 1, "weight": 1}] if url else []
    )


def _listed(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        # Without the cause, which would keep the text, passwords and all.
        raise _unreadable(f"it is no JSON ({getattr(error, 'msg', 'unreadable')})") from None
    if not isinstance(found, list):
        raise _unreadable("it is no list")
    return [_entry(one) for one in found]


def _entry(one: Any) -> dict[str, Any]:
    if not isinstance(one, dict) or not isinstance(one.get("url"), str) or not one["url"]:
        raise _unreadable("an entry is no object with a url")
    if strange := sorted(set(one) - _ENTRY):
        raise _unreadable(f"an entry has {', '.join(map(repr, strange))}, which means nothing here")
    entry = {"priority": 10, "weight": 1, **one}
    if not isinstance(entry.get("token", ""), str):
        raise _unreadable("the token of an entry is no text")
    for name in ("priority", "weight"):
        if isinstance(entry[name], bool) or not isinstance(entry[name], int | float):
            raise _unreadable(f"the {name} of an entry is {entry[name]!r}, no number")
    return entry


def _unreadable(why: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"ORCHESTRATORS_CONFIG cannot be used: {why}; expected such as {_EXAMPLE}", option="ORCHESTRATORS_CONFIG"
    )
