"""One call of a skill: what its handler is given, the middleware around it, and what is cleared away."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tranship.client import AsyncClient
from tranship.compat.avtomatika._answers import outcome_of
from tranship.compat.avtomatika._files import Store, TaskFiles, folder_of
from tranship.compat.avtomatika._orchestrator import OrchestratorClient
from tranship.compat.avtomatika._skills import Skill
from tranship.compat.avtomatika.types import Middleware
from tranship.envelope import Priority
from tranship.errors import UnsupportedError
from tranship.retry import RetryPolicy
from tranship.task import Task, TaskContext, current, task

__all__ = ["Surroundings", "task_of"]


class Surroundings(Protocol):
    """What the worker has for the calls of its skills."""

    @property
    def middleware(self) -> Sequence[Middleware]:
        """What is called around each handler; the first is the outermost."""

    @property
    def files_dir(self) -> str:
        """Where the files of tasks are."""

    @property
    def store(self) -> Store | None:
        """What keeps files beyond their tasks; None: nothing does."""

    def client(self) -> AsyncClient:
        """A client of the broker."""

    def add_to_hot_cache(self, item: str) -> None:
        """Say that something is loaded."""

    def remove_from_hot_cache(self, item: str) -> None:
        """Say that it is not any more."""


def task_of(skill: Skill, around: Surroundings, retry: RetryPolicy | None) -> Task[..., Any]:
    """Return the task that runs a skill, in a queue of the skill's name."""
    name, kind = skill.info.name, skill.info.type
    as_coroutine = skill.handler.is_async or around.middleware
    body = _async_body(skill, around) if as_coroutine else _body(skill, around)
    made: Task[..., Any] = task(name=name, task_type=kind, queue=name, retry=retry)(body)
    return made


def _async_body(skill: Skill, around: Surroundings) -> Callable[..., Any]:
    async def run(params: Any = None) -> Any:
        if around.store is not None and TaskFiles in skill.handler.injected.values():
            # Not on the loop: it is made, and the first one removes what a killed worker has left.
            await asyncio.to_thread(around.store.directory)
        call = _Call.begin(skill, around, params)
        try:
            return outcome_of(await _through(around.middleware, call.told, call.run))
        finally:
            if call.left is not None:
                await asyncio.to_thread(call.left.remove)

    return run


def _body(skill: Skill, around: Surroundings) -> Callable[..., Any]:
    def run(params: Any = None) -> Any:
        call = _Call.begin(skill, around, params)
        value: Any = None
        try:
            value = skill.handler.function(**call.arguments)
            # An async def behind a plain wrapper: the worker awaits what we return.
            return call.finish(value) if inspect.isawaitable(value) else outcome_of(value)
        finally:
            if call.left is not None and not inspect.isawaitable(value):
                call.left.remove()

    return run


@dataclass(frozen=True)
class _Call:
    skill: Skill
    told: dict[str, Any]
    """What middleware is told; it may change ``handler_kwargs``."""
    left: TaskFiles | None
    """Files to be removed when it has ended; those beside downloads go with these."""

    @classmethod
    def begin(cls, skill: Skill, around: Surroundings, params: Any) -> _Call:
        context = current()
        given = _given(context, around)
        given["params"] = skill.handler.read(params)
        files = None
        for name, kind in skill.handler.injected.items():
            if kind is OrchestratorClient:
                given[name] = OrchestratorClient(around.client())
            else:
                files = given[name] = files or _files(context.id, given["job_id"], around)
        told = {name: given[name] for name in ("task_id", "job_id", "params")}
        told |= {"skill_name": skill.info.name, "handler_kwargs": skill.handler.arguments(given)}
        return cls(skill, told, files if around.store is None else None)

    @property
    def arguments(self) -> Mapping[str, Any]:
        arguments: Mapping[str, Any] = self.told["handler_kwargs"]
        return arguments

    async def run(self) -> Any:
        handler = self.skill.handler
        if handler.is_async:
            return await handler.function(**self.arguments)
        value = await asyncio.to_thread(handler.function, **self.arguments)
        return await value if inspect.isawaitable(value) else value

    async def finish(self, value: Awaitable[Any]) -> Any:
        try:
            return outcome_of(await value)
        finally:
            if self.left is not None:
                await asyncio.to_thread(self.left.remove)


def _files(task_id: str, job_id: str, around: Surroundings) -> TaskFiles:
    store = around.store
    folder = folder_of(around.files_dir, task_id) if store is None else store.directory()
    return TaskFiles(folder, job_id, task_id, store)


def _given(context: TaskContext, around: Surroundings) -> dict[str, Any]:
    headers = context.headers
    return {
        "task_id": context.id,
        "job_id": str(headers.get("job_id") or context.root_id),
        # The higher the more urgent, and 0 where nobody said anything.
        "priority": Priority.NORMAL - context.envelope.priority,
        "deadline": context.deadline,
        "metadata": dict(headers),
        "tracing_context": {name: headers[name] for name in ("traceparent", "tracestate") if name in headers},
        "security": None,
        "send_progress": _sends_progress(context),
        "send_event": _sends_event(context),
        "add_to_hot_cache": around.add_to_hot_cache,
        "remove_from_hot_cache": around.remove_from_hot_cache,
        "add_to_hot_skills": around.add_to_hot_cache,
        "remove_from_hot_skills": around.remove_from_hot_cache,
    }


def _sends_progress(context: TaskContext) -> Callable[..., Awaitable[None]]:
    async def send_progress(task_id: str, job_id: str, progress: float, message: str = "") -> None:  # noqa: ARG001
        context.progress(progress, message=message)

    return send_progress


def _sends_event(context: TaskContext) -> Callable[..., Awaitable[None]]:
    async def send_event(event_type: str, payload: dict[str, Any], priority: float = 0.0, **_: Any) -> None:  # noqa: ARG001
        if event_type != "progress":
            raise UnsupportedError(
                f"event {event_type!r} cannot be sent: brokers have no events; only 'progress' is told, by heartbeats"
            )
        context.progress(payload.get("progress", 0.0), message=payload.get("message", ""))

    return send_event


async def _through(
    middleware: Sequence[Middleware], told: dict[str, Any], innermost: Callable[[], Awaitable[Any]]
) -> Any:
    call = innermost
    for one in reversed(middleware):
        call = _before(one, told, call)
    return await call()


def _before(
    one: Middleware, told: dict[str, Any], following: Callable[[], Awaitable[Any]]
) -> Callable[[], Awaitable[Any]]:
    return lambda: one(told, following)
