"""The operators that these tests call, and where they find brokers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tranship import TaskError, current
from tranship.compat.sandai import Operator, OperatorCall
from tranship.testing.services import ServiceFinder

SERVERS = ("redis", "rabbitmq", "nats")
BACKENDS = ("memory", "sqlite", *SERVERS)


def broker_url(backend: str, service: Any, folder: Path, name: str) -> str:
    """Return a place on ``backend`` that nobody else has; skip where it is not here."""
    if backend == "memory":
        return f"memory://{name}"
    if backend == "sqlite":
        return f"sqlite:///{folder}/{name}.db"
    need_plugin(backend)
    return f"{service(backend).url}?namespace={name}"


def need_plugin(backend: str) -> None:
    if find_spec(f"tranship_{backend}") is None:
        required = backend in ServiceFinder().required
        (pytest.fail if required else pytest.skip)(f"tranship-{backend} is not installed")


def until(condition: Any, what: str, within: float = 30.0) -> Any:
    """Look until ``condition`` is true and return what it gave."""
    end = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {within:g} s"
        time.sleep(0.01)
    return found


class ClipOptions(BaseModel):
    clip_duration: float = Field(gt=0)
    name: str = "clip"


class ClipResults(BaseModel):
    clips: int
    longest: float


class UnusableVideoError(TaskError):
    """What the clipper raises on purpose."""


def clipper(url: str, version: str = "v1", **options: Any) -> Operator:
    """A ``def`` with models."""
    operator = Operator("video-clipper", version, broker_url=url, **options)

    @operator.process
    def clip(artifacts: list[dict[str, Any]], options: ClipOptions) -> tuple[list[dict[str, Any]], ClipResults]:
        """Cut videos into clips."""
        if options.name == "unusable":
            raise UnusableVideoError("no key frames", frame=7)
        if options.name == "crash":
            raise RuntimeError("it timed out in the codec")
        made = [{**one, "slot": "clip"} for one in artifacts]
        return made, ClipResults(clips=len(made), longest=options.clip_duration)

    return operator


class Seen:
    """What the handlers of one test have seen: they run in this process."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.calls: list[OperatorCall] = []
        self.gate = threading.Event()
        """Calls with the option ``gate`` wait for it."""

    def note(self, call: OperatorCall, label: str) -> None:
        self.calls.append(call)
        self.begun.append(label)


def echo(url: str, seen: Seen, version: str = "v1", **options: Any) -> Operator:
    """An ``async def`` without models, which does what its options say."""
    operator = Operator("echo", version, broker_url=url, **options)

    @operator.process
    async def answer(artifacts, options, call):
        seen.note(call, options.get("label", ""))
        if options.get("gate"):
            await asyncio.to_thread(seen.gate.wait, 20)
        await asyncio.sleep(options.get("sleep", 0))
        return artifacts, {"options": dict(options), "queue": current().queue}

    return operator


def thread_echo(url: str, seen: Seen, **options: Any) -> Operator:
    """A ``def`` without models that looks whether it should stop."""
    operator = Operator("echo", "v1", broker_url=url, **options)

    @operator.process
    def answer(artifacts: Any, options: Mapping[str, Any], call: OperatorCall) -> Any:
        seen.note(call, options.get("label", ""))
        current().wait_cancelled(options.get("sleep", 0))
        current().raise_if_cancelled()
        return artifacts, {}

    return operator
