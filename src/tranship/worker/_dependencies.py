"""What a worker gives to its handlers: worked out once for each task, provided for each attempt, and cleaned up."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tranship.errors import ConfigurationError, InvalidOptionError
from tranship.task import Depends, Task, dependencies_of, name_of
from tranship.worker._cancelling import being_cancelled

__all__ = ["Dependencies", "Given", "checked_overrides"]

log = logging.getLogger("tranship.worker")

LONGEST: Final = 30.0
"""Seconds that one clean-up may take."""

Provider = Callable[..., Any]
Key = tuple[Provider, str]
"""A provider, before overrides, and the scope it is used with."""
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Overrides = Mapping[Provider, Provider]


@dataclass(frozen=True, slots=True)
class _Step:
    """One provider, ready to be called."""

    key: Key
    name: str
    call: Provider
    """Gives the value, or the context manager that does."""
    is_async: bool
    is_generator: bool
    needs: Sequence[tuple[str, Key]]
    """Its own dependencies by parameter."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one task is given."""

    steps: Sequence[_Step]
    """Those of each attempt, in order."""
    wants: Sequence[tuple[str, Key]]
    first: int
    """How many arguments come before its first dependency: the others are given by name."""
    names: Sequence[str]
    """Of its own arguments that may be given by position."""


class Dependencies:
    """The dependencies of one worker's tasks.

    Args:
        tasks: the worker's.
        overrides: what is called in place of a provider.

    Raises:
        ConfigurationError: providers that depend on each other in a circle, one for the worker that depends on one for
            the task, a parameter that nobody provides, an isolated task with dependencies.
        InvalidOptionError: an override of what no task depends on.
    """

    def __init__(self, tasks: Sequence[Task[..., Any]], overrides: Overrides) -> None:
        with_some = [one for one in tasks if one.dependencies]
        real = _Graph({})
        self._graph = graph = _Graph(overrides) if overrides else real
        for one in with_some:
            real.resolve(one)
        plans = {one: graph.plan(one) for one in with_some}
        self._plans = {one.name: plan for one, plan in plans.items() if one.batching is None}
        self._of_batches = {one.name: plan for one, plan in plans.items() if one.batching is not None}
        """What the handler of a batch is given, once for all of its calls."""
        for provider in overrides:
            if provider not in real.providers | graph.providers:
                raise InvalidOptionError(f"overrides has {name_of(provider)}, which no task of this worker depends on")
        self._kept: dict[Key, Any] = {}

    def __contains__(self, task: Task[..., Any]) -> bool:
        return task.name in self._plans

    def __bool__(self) -> bool:
        return bool(self._plans)

    def of_batch(self, task: Task[..., Any]) -> bool:
        """Whether the handler of a batch is given something besides its calls."""
        return task.name in self._of_batches

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Provide what is for the whole worker, on this loop, and clean it up at the end.

        Raises:
            Whatever a provider raises; what had been provided before is cleaned up.
        """
        given = Given("the worker", _directly)
        try:
            for step in self._graph.steps.values():
                if step.key[1] == "worker":
                    await given.take(step, self._kept)
            yield
        finally:
            await given.close(None)
            self._kept = {}

    async def arguments(
        self, task: Task[..., Any], given: Given, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return what the handler is called with: its arguments and what it depends on.

        Raises:
            Whatever a provider raises, with a note that names it.
        """
        plan = self._plans.get(task.name) or self._of_batches[task.name]
        values = dict(self._kept)
        for step in plan.steps:
            await given.take(step, values)
        named = dict(zip(plan.names[plan.first :], args[plan.first :], strict=False))
        provided = {name: values[key] for name, key in plan.wants}
        return args[: plan.first] if named else args, {**named, **kwargs, **provided}


class Given:
    """What one attempt, or the worker, has been given and is to be cleaned up.

    Args:
        whose: says in logs what it was given to.
        in_thread: calls what may block.
        ending: the same for clean-ups; None: the same.
    """

    def __init__(self, whose: str, in_thread: InThread, ending: InThread | None = None) -> None:
        self._whose = whose
        self._in_thread = in_thread
        self._ending = ending or in_thread
        self._open: list[tuple[_Step, Any]] = []
        self.error: BaseException | None = None
        """What the handler has raised, which generators see at their ``yield``."""

    async def take(self, step: _Step, values: dict[Key, Any]) -> None:
        """Have one value provided and put it to the others."""
        needs = {name: values[key] for name, key in step.needs}
        try:
            values[step.key] = await self._value(step, needs)
        except BaseException as error:
            error.add_note(f"raised by the dependency {step.name}")
            raise

    async def _value(self, step: _Step, needs: dict[str, Any]) -> Any:
        call = partial(step.call, **needs)
        if not step.is_generator:
            return await (call() if step.is_async else self._in_thread(call))
        manager = call()
        if not step.is_async:
            return await self._in_thread(lambda: self._entered(step, manager))
        value = await manager.__aenter__()
        self._open.append((step, manager))
        return value

    def _entered(self, step: _Step, manager: Any) -> Any:
        """In the thread: where nobody waits for it any more, it is cleaned up all the same."""
        value = manager.__enter__()
        self._open.append((step, manager))
        return value

    async def close(self, error: BaseException | None) -> None:
        """Clean up, the last first. What fails is logged."""
        what = (type(error), error, error.__traceback__) if error is not None else (None, None, None)
        while self._open:
            step, manager = self._open.pop()
            try:
                async with asyncio.timeout(LONGEST):
                    if step.is_async:
                        await manager.__aexit__(*what)
                    else:
                        await self._ending(partial(manager.__exit__, *what))
            except BaseException as failure:
                if isinstance(failure, asyncio.CancelledError) and being_cancelled():
                    raise
                how = _how(failure)
                log.exception("the clean-up of %s for %s %s", step.name, self._whose, how)


def _how(failure: BaseException) -> str:
    if isinstance(failure, RuntimeError) and str(failure).startswith("generator didn't stop"):
        return "was left: it yields more than once"
    if isinstance(failure, TimeoutError):
        return f"was left, or failed, after at most {LONGEST:g} s"
    return "failed"


async def _directly(call: Callable[[], Any]) -> Any:
    """Before the first task and after the last nothing else waits for this loop."""
    return call()


class _Graph:
    """Providers and what they depend on, each once."""

    def __init__(self, overrides: Overrides) -> None:
        self._overrides = overrides
        self.steps: dict[Key, _Step] = {}
        """In the order in which they can be called."""
        self.providers: set[Provider] = set()

    def plan(self, task: Task[..., Any]) -> _Plan:
        wants = self.resolve(task)
        reached: dict[Key, None] = {}
        for _, key in wants:
            self._reach(key, reached)
        steps = [step for key, step in self.steps.items() if key in reached and key[1] == "task"]
        first, names = task.places
        return _Plan(steps, wants, first, names)

    def resolve(self, task: Task[..., Any]) -> list[tuple[str, Key]]:
        if task.isolation is not None:
            raise ConfigurationError(
                f"task {task.name!r} has isolation='process' and depends on "
                f"{', '.join(name_of(one.provider) for one in task.dependencies.values())}: a worker cannot give that "
                "to another process; open it inside of the task"
            )
        return [(name, self._add(depends, [])) for name, depends in task.dependencies.items()]

    def _reach(self, key: Key, reached: dict[Key, None]) -> None:
        if key not in reached:
            reached[key] = None
            for _, needed in self.steps[key].needs:
                self._reach(needed, reached)

    def _add(self, depends: Depends, above: list[Key]) -> Key:
        key = (depends.provider, depends.scope)
        self.providers.add(depends.provider)
        _check_place(key, above)
        if key not in self.steps:
            provider = self._overrides.get(depends.provider, depends.provider)
            needs = [(name, self._add(one, [*above, key])) for name, one in _needs(provider).items()]
            self.steps[key] = _step(key, provider, needs)
        return key


def _check_place(key: Key, above: list[Key]) -> None:
    if key in above:
        circle = [name_of(provider) for provider, _ in [*above[above.index(key) :], key]]
        raise ConfigurationError(f"dependencies go in a circle: {' -> '.join(circle)}")
    if above and above[-1][1] == "worker" and key[1] == "task":
        raise ConfigurationError(
            f"{name_of(above[-1][0])} has scope='worker' and depends on {name_of(key[0])} with scope='task', "
            "which ends with each task; give that scope='worker', too"
        )


def _needs(provider: Provider) -> Mapping[str, Depends]:
    """Return what a provider depends on.

    Raises:
        ConfigurationError: it has a parameter that nobody would give.
    """
    name = name_of(provider)
    try:
        signature = inspect.signature(provider)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"dependency {name} has no signature to know its parameters by: {error}") from error
    found = dependencies_of(f"dependency {name}", provider, signature)
    for parameter in signature.parameters.values():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name not in found and parameter.default is parameter.empty and not optional:
            raise ConfigurationError(
                f"parameter {parameter.name!r} of dependency {name} is nothing that a worker can provide; annotate it: "
                f"{parameter.name}: Annotated[..., Depends(...)], or give it a default"
            )
    return found


def _step(key: Key, provider: Provider, needs: Sequence[tuple[str, Key]]) -> _Step:
    name = name_of(provider)
    if _is(inspect.isasyncgenfunction, provider):
        return _Step(key, name, asynccontextmanager(provider), is_async=True, is_generator=True, needs=needs)
    if _is(inspect.isgeneratorfunction, provider):
        return _Step(key, name, contextmanager(provider), is_async=False, is_generator=True, needs=needs)
    is_async = _is(inspect.iscoroutinefunction, provider)
    return _Step(key, name, provider, is_async=is_async, is_generator=False, needs=needs)


def _is(kind: Callable[[Any], bool], provider: Any) -> bool:
    """Whether a function, or an object that can be called, is of that kind."""
    return kind(provider) or (not isinstance(provider, type) and kind(type(provider).__call__))


def checked_overrides(overrides: Any) -> Overrides:
    """Return ``overrides``.

    Raises:
        InvalidOptionError: no mapping of providers to providers.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping):
        raise InvalidOptionError(
            f"overrides is of type {type(overrides).__name__}; expected a dict of providers by what they stand in for"
        )
    for provider, other in overrides.items():
        if not callable(other):
            raise InvalidOptionError(
                f"overrides has something of type {type(other).__name__} for {name_of(provider)}; "
                "expected a function that gives it"
            )
    return dict(overrides)
