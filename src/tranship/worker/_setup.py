"""What a worker was given: checked, and kept for each time that it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tranship.checks import name_text
from tranship.errors import ConfigurationError, InvalidOptionError, UnsupportedError
from tranship.middleware import Middleware
from tranship.ports import Backend, Capability
from tranship.settings import Settings
from tranship.task import Task, TaskClass, task_of
from tranship.worker._dependencies import Dependencies
from tranship.worker._profile import Profile
from tranship.worker._record import Run

__all__ = [
    "AnyTask",
    "Setup",
    "cannot_remember",
    "check_events",
    "check_hard_limit",
    "check_parts",
    "check_prefers",
    "check_results",
    "check_singles",
    "queue_names",
    "tasks_by_name",
]

AnyTask = Task[..., Any] | type[TaskClass] | TaskClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a session is made of besides its broker."""

    name: str
    """The worker's."""
    family: str
    """Who sees to it that its workers have different names; empty: nobody."""
    settings: Settings
    """Limits and times."""
    tasks: Mapping[str, Task[..., Any]]
    """The handlers by task name."""
    queues: Sequence[str]
    queues_in_order: bool
    """Whether an earlier queue goes before a later one."""
    type_limits: Mapping[str, int]
    """How many tasks of a type may run at once."""
    profile: Profile
    """What its owner and its handlers say of it."""
    middleware: Sequence[Middleware]
    """What handlers and endings pass through."""
    commands: Mapping[str, Callable[..., Any]]
    """What its owner has it do when an operator commands it, by name."""
    dependencies: Dependencies
    """What handlers are given besides their arguments."""
    stop: Callable[[str], None]
    """Ends the worker for good, for a reason."""
    restart: Callable[[], bool]
    """Has another process take this one's place; False: nobody would."""
    began: Callable[[], None] | None = None
    """Called when a delivery is taken; None: nobody asks."""
    ended: Callable[[Run], None] | None = None
    """Called with each delivery that has ended; None: nobody counts."""


def tasks_by_name(tasks: Iterable[AnyTask]) -> dict[str, Task[..., Any]]:
    """Return the tasks of a worker by their names.

    Raises:
        InvalidOptionError: there are none, two have the same name, or one is no task.
    """
    by_name: dict[str, Task[..., Any]] = {}
    if isinstance(tasks, Task | type) or not isinstance(tasks, Iterable):
        raise InvalidOptionError(f"tasks is {tasks!r}; expected a list of functions decorated with @task")
    for one in map(task_of, tasks):
        if not isinstance(one, Task) or one.function is None:
            raise InvalidOptionError(
                f"tasks has {one!r}; expected functions decorated with @task, or TaskClass classes"
            )
        if one.batching is not None:
            _check_batch(one)
        if (other := by_name.setdefault(one.name, one)).function is not one.function:
            raise InvalidOptionError(
                f"two tasks are named {one.name!r}, {_place(other)} and {_place(one)}; give one of them another name"
            )
    if not by_name:
        raise InvalidOptionError("tasks is empty; give the worker at least one function decorated with @task")
    return by_name


def _check_batch(one: Task[..., Any]) -> None:
    """Raise ConfigurationError for what the handler of a batch takes, and nobody gives."""
    if one.arguments is not None:
        one.arguments.result_hint  # noqa: B018 - its signature and its annotations are looked at


def _place(one: Task[..., Any]) -> str:
    return f"{getattr(one.function, '__module__', None)}.{getattr(one.function, '__qualname__', one.function)}"


def queue_names(queues: Sequence[str] | None, tasks: Iterable[Task[..., Any]]) -> list[str]:
    """Return what a worker consumes; None: the queues of its ``tasks``.

    Raises:
        InvalidOptionError: no names of queues.
    """
    if queues is None:
        return sorted({one.options_set.queue for one in tasks})
    if isinstance(queues, str) or not queues or not all(isinstance(queue, str) and queue for queue in queues):
        raise InvalidOptionError(f"queues is {queues!r}; expected a list of queue names")
    return [name_text("queues", queue) for queue in dict.fromkeys(queues)]


def check_results(store: Backend, tasks: Iterable[Task[..., Any]]) -> None:
    """Refuse at the start what would fail at message 10,000.

    Raises:
        UnsupportedError: results are to be stored, and ``store`` keeps none.
    """
    if not store.capabilities.answers and any(one.options_set.store_result is not False for one in tasks):
        raise UnsupportedError(
            f"{store.name} keeps no results; give a result store (result_url), or declare the tasks with "
            "store_result=False"
        )


def check_parts(store: Backend, tasks: Iterable[Task[..., Any]]) -> None:
    """Refuse tasks whose parts nobody could get.

    Raises:
        UnsupportedError: one is a generator, and ``store`` keeps no records.
    """
    if store.capabilities.has(Capability.RECORDS):
        return
    for one in tasks:
        if one.yields_parts and one.options_set.store_result is not False:
            raise UnsupportedError(
                f"task {one.name!r} is a generator, and {store.name} keeps no records to bring its parts to anybody; "
                "give a result store that does (result_url), or return a list"
            )


def check_prefers(backend: Backend, tasks: Iterable[Task[..., Any]]) -> None:
    """Refuse tasks that could not be passed on to anybody.

    Raises:
        UnsupportedError: one prefers something, and ``backend`` has no delays, or no heartbeats.
    """
    for one in tasks:
        if one.prefers is None:
            continue
        for needed in (Capability.DELAY, Capability.CONTROL):
            if not backend.capabilities.has(needed):
                raise UnsupportedError(
                    f"task {one.name!r} has prefers, and {backend.name} has no {needed.value}, by which workers pass "
                    "tasks on to each other; use another broker, or give such tasks a queue of their own"
                )


def check_singles(backend: Backend, store: Backend, tasks: Iterable[Task[..., Any]]) -> None:
    """Refuse tasks that nobody could submit.

    Raises:
        UnsupportedError: one is ``unique`` or has ``debounce``, and ``store`` keeps no records, or ``backend`` has no
            delays or cancels.
    """
    for one in tasks:
        if one.single is None:
            continue
        needed = [(store, Capability.RECORDS), (store, Capability.RESULTS)]
        if one.single.debounce is not None:
            needed += [(backend, Capability.DELAY), (backend, Capability.CONTROL)]
        lacking = next(((place, what) for place, what in needed if not place.capabilities.has(what)), None)
        if lacking is not None:
            raise UnsupportedError(
                f"task {one.name!r} has {one.single.option}, and {lacking[0].name} has no {lacking[1].value}; give a "
                "result store that keeps records (result_url), or another broker"
            )


def check_hard_limit(hard_limit: float | None, tasks: Iterable[Task[..., Any]], name: str) -> None:
    """Refuse tasks that may run longer than the broker ``name`` leaves them here.

    Raises:
        ConfigurationError: one of them.
    """
    for one in tasks:
        timeout = one.options_set.run_seconds
        # One without a limit of its own is ended in time by the session.
        if hard_limit is not None and timeout is not None and timeout > hard_limit:
            raise ConfigurationError(
                f"task {one.name!r} may run {timeout:g} s, but {name} takes a delivery back after {hard_limit:g} s; "
                "give it a run_timeout below that, or raise the broker's limit"
            )


def cannot_remember(broker: str) -> UnsupportedError:
    """Return the error for a worker that is to remember what it has ended, where there is no place for it."""
    return UnsupportedError(
        f"finished tasks are remembered as records, and neither {broker} nor its result store keeps any; leave out "
        "--history, or the setting history, or give a result store that keeps some (result_url), such as redis://..."
    )


def check_events(settings: Settings, backend: Backend) -> None:
    """Refuse to tell nobody, where nobody of Celery's could hear it.

    Raises:
        UnsupportedError: it is asked for.
    """
    if settings.events:
        raise UnsupportedError(
            f"events are for Celery's programs, such as Flower, and {backend.name} has none (on Redis and RabbitMQ it "
            "has, unless the URL says celery=off); leave out --events, or the setting events"
        )
