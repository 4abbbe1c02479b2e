"""The worker, as users of the SDK know it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from tranship.client import AsyncClient
from tranship.compat.avtomatika._calls import task_of
from tranship.compat.avtomatika._capacity import Capacity
from tranship.compat.avtomatika._config import HEALTH_PORT, WorkerConfig
from tranship.compat.avtomatika._files import Store
from tranship.compat.avtomatika._logging import setup_logging
from tranship.compat.avtomatika._skills import Skill, SkillBlueprint, SkillInfo, skill_of
from tranship.compat.avtomatika._storage import payloads_of
from tranship.compat.avtomatika._usage import ResourcesUsage, tell_usage
from tranship.compat.avtomatika.types import CapacityChecker, Middleware
from tranship.errors import ConfigurationError, InvalidOptionError, UnsupportedError
from tranship.middleware import Middleware as CoreMiddleware
from tranship.retry import RetryPolicy
from tranship.task import HotCache
from tranship.worker import Worker as CoreWorker

__all__ = ["Worker"]

F = TypeVar("F", bound=Callable[..., Any])

RETRIES: Final = RetryPolicy(max_attempts=4)
"""For messages that have no policy: three times more, as the orchestrator does by itself."""
_ANY_TYPE: Final = "generic-worker"


class Worker:
    """Runs skills that clients of any broker submit by name.

    Args:
        worker_type: heartbeats tell it, as the label ``worker_type``.
        max_concurrent_tasks: how many tasks run at once; None: ``MAX_CONCURRENT_TASKS``, else 10.
        skill_type_limits, task_type_limits: how many of a type run at once; two names of one thing.
        http_session, clients: not supported, there is no HTTP; None.
        skill_dependencies: what each skill needs loaded; heartbeats tell it, and which skills are hot.
        config: None: what the environment says.
        capacity_checker: says of a skill whether it could be run now; a task of one that could not goes back for a
            second, as the same attempt.
        skills_dir: modules with blueprints, see :meth:`load_skills`; None: ``WORKER_SKILLS_DIR``, if that is set.
        skill_info_class: what is made of what is said of a skill.
        retry: for messages that have no policy; None: one attempt.

    Raises:
        InvalidOptionError, InvalidURLError: a value that cannot be used, the environment's, too.
        UnsupportedError: an HTTP session or clients.
    """

    def __init__(  # noqa: PLR0917 - in the order that callers know
        self,
        worker_type: str = _ANY_TYPE,
        max_concurrent_tasks: int | None = None,
        skill_type_limits: dict[str, int] | None = None,
        http_session: None = None,
        skill_dependencies: dict[str, list[str]] | None = None,
        config: WorkerConfig | None = None,
        capacity_checker: CapacityChecker | None = None,
        clients: None = None,
        skills_dir: str | None = None,
        skill_info_class: type[SkillInfo] = SkillInfo,
        *,
        task_type_limits: Mapping[str, int] | None = None,
        retry: RetryPolicy | None = RETRIES,
    ) -> None:
        if http_session is not None or clients is not None:
            raise UnsupportedError("a worker has no http_session and no clients here: it is given a broker's URL")
        self.config: WorkerConfig = config or WorkerConfig()
        self.worker_type: str = worker_type if worker_type != _ANY_TYPE else self.config.WORKER_TYPE or worker_type
        self.capacity_checker = capacity_checker
        self.middleware: list[Middleware] = []
        self._concurrency = max_concurrent_tasks
        self._limits = _one_of_two(skill_type_limits, task_type_limits)
        self._dependencies = skill_dependencies
        self._skills_dir = skills_dir or self.config.WORKER_SKILLS_DIR
        self._skill_info_class = skill_info_class
        self._retry = retry
        self._skills: dict[str, Skill] = {}
        self._usage_checker: Callable[[], ResourcesUsage] | None = None
        self._early = HotCache()
        """What is said to be loaded while the worker is not at work."""
        self._at_work: CoreWorker | None = None
        self._client: AsyncClient | None = None
        self.store: Store | None = None
        """Where files of tasks are kept beyond them, once :meth:`worker` was called; None: nowhere."""

    # What it can do.

    def task(self, name: str, task_type: str | None = None) -> Callable[[F], F]:
        """Decorate the handler of tasks of this name; it stays callable as before.

        Args:
            name: under which clients submit them, and the name of their queue.
            task_type: what they are limited by; None: only by ``max_concurrent_tasks``.

        Raises:
            InvalidOptionError: a name that cannot be used, or is taken.
            ConfigurationError: a function that cannot be a handler.
        """
        return self.skill(name, **({} if task_type is None else {"type": task_type}))

    def skill(self, info: str | SkillInfo | type[SkillInfo] | None = None, **kwargs: Any) -> Callable[[F], F]:
        """Decorate the handler of a skill; it stays callable as before.

        Args:
            info: its name, or all that is said of it; None: the function's name.
            kwargs: fields of :class:`SkillInfo`, such as ``type``, its own name unless given; others become its
                ``properties``.

        Raises:
            As :meth:`task`; UnsupportedError: a schema.
        """

        def decorate(function: F) -> F:
            self._add(skill_of(function, info, kwargs, self._skill_info_class))
            return function

        return decorate

    def include_blueprint(self, blueprint: SkillBlueprint) -> None:
        """Take over the skills of a blueprint.

        Raises:
            InvalidOptionError: a name that is taken.
        """
        for skill in blueprint.skills:
            self._add(skill)

    async def load_skills(self, skills_dir: str | None = None) -> None:
        """Run every module of a directory, and take over the skills of the blueprints that it names.

        Args:
            skills_dir: None: the worker's own, else ``skills``.

        Raises:
            ConfigurationError: there is no such directory.
            Whatever a module raises.
        """
        await asyncio.to_thread(self._load, skills_dir or self._skills_dir or "skills")

    def add_middleware(self, middleware: Middleware) -> None:
        """Call ``middleware(context, call_next)`` around every handler; what was added first is the outermost.

        With any, ``def`` handlers run in threads that ``run_timeout`` and a cancel do not wait for.
        """
        self.middleware.append(middleware)

    def on_command(self, command_name: str) -> Callable[[F], F]:
        """Not supported: submit a task instead.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"command {command_name!r} cannot be heard: brokers have no commands but cancel, which is always heard; "
            "make it a task of a worker of its own"
        )

    async def emit_event(self, event: Any) -> None:
        """Not supported: brokers have no events.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"event {event!r} cannot be sent: brokers have no events; submit a task")

    # What it says of itself.

    def add_to_hot_cache(self, item: str) -> None:
        """Say that something is loaded, such as a model; heartbeats tell it. Any thread.

        Raises:
            InvalidOptionError: no name.
        """
        self._hot.add(item)

    def remove_from_hot_cache(self, item: str) -> None:
        """Say that it is not any more."""
        self._hot.remove(item)

    add_to_hot_skills = add_to_hot_cache
    remove_from_hot_skills = remove_from_hot_cache

    def get_hot_skills_state(self) -> set[str]:
        """Return what is loaded."""
        return set(self._hot)

    def set_usage_checker(self, checker: Callable[[], ResourcesUsage]) -> None:
        """Have heartbeats tell what ``checker``, called in a thread, returns, as the label ``usage``."""
        self._usage_checker = checker

    # Work.

    def worker(self) -> CoreWorker:
        """Return the worker of tranship that it stands for; ``tranship worker module:worker`` calls this.

        Raises:
            ConfigurationError, InvalidOptionError, InvalidURLError: it cannot work so.
        """
        self.config.validate()
        if self._skills_dir:
            self._load(self._skills_dir)
            self._skills_dir = None  # its modules run once
        if not self._skills:
            raise ConfigurationError("the worker has no skills; decorate functions with @worker.task(name)")
        around: list[CoreMiddleware] = [] if self.capacity_checker is None else [Capacity(self.capacity_checker)]
        self.store = payloads = payloads_of(self.config)
        if payloads is not None:
            around.append(payloads.middleware)
        return CoreWorker(
            tasks=[task_of(one, self, self._retry) for one in self._skills.values()],
            task_type_limits=self._limits,
            name=self.config.WORKER_ID,
            labels={"worker_type": self.worker_type},
            skill_dependencies=self._dependencies,
            middleware=around,
            lifespan=self._lifespan,
            settings=self.config.settings().replace(
                max_concurrent_tasks=self._concurrency or self.config.MAX_CONCURRENT_TASKS
            ),
        )

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish what runs; a second signal hurries.

        Raises:
            As :meth:`worker` and :meth:`tranship.Worker.run`.
        """
        setup_logging()
        self.worker().run()

    def run_with_health_check(self) -> None:
        """As :meth:`run`, and answer ``/health``, ``/live``, ``/ready`` and ``/metrics`` by HTTP.

        The port is ``WORKER_PORT``, else the setting ``health_port``, else 8083; the address this machine's own, unless
        the setting ``health_host`` says otherwise.

        Raises:
            As :meth:`run`; ConfigurationError: nobody can listen there.
        """
        setup_logging()
        worker = self.worker()
        ports = (self.config.WORKER_PORT, worker.settings.health_port, HEALTH_PORT)
        worker.run_with_health_check(next(one for one in ports if one is not None))

    async def main(self) -> None:
        """Work on the running loop until cancelled.

        Raises:
            As :meth:`worker` and :meth:`tranship.Worker.serve`.
        """
        await self.worker().serve()

    # For the calls of its skills.

    @property
    def files_dir(self) -> str:
        """Where the files of tasks are."""
        return self.config.TASK_FILES_DIR

    def client(self) -> AsyncClient:
        """A client of the worker's broker, closed with it."""
        if self._client is None:
            assert self._at_work is not None
            self._client = AsyncClient(settings=self._at_work.settings)
        return self._client

    @property
    def _hot(self) -> HotCache:
        return self._early if self._at_work is None else self._at_work.hot_cache

    @asynccontextmanager
    async def _lifespan(self, worker: CoreWorker) -> AsyncIterator[None]:
        self._at_work = worker
        for item in self._early:
            worker.hot_cache.add(item)
        usage = None
        if self._usage_checker is not None:
            usage = asyncio.create_task(tell_usage(worker, self._usage_checker))
        try:
            yield
        finally:
            if usage is not None:
                usage.cancel()
            if self._client is not None:
                await self._client.aclose()
            self._at_work = self._client = None

    def _add(self, skill: Skill) -> None:
        known = self._skills.setdefault(skill.info.name, skill)
        if known.handler.function is not skill.handler.function:
            raise InvalidOptionError(f"two skills are named {skill.info.name!r}; give one of them another name")

    def _load(self, folder: str) -> None:
        if not Path(folder).is_dir():
            raise ConfigurationError(f"there is no directory {folder!r} to load skills from")
        for path in sorted(Path(folder).glob("*.py")):
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for value in vars(module).values():
                if isinstance(value, SkillBlueprint):
                    self.include_blueprint(value)

    def __repr__(self) -> str:
        return f"<Worker {self.config.WORKER_ID} of {self.worker_type}: {', '.join(self._skills) or 'no skills'}>"


def _one_of_two(one: Mapping[str, int] | None, other: Mapping[str, int] | None) -> Mapping[str, int] | None:
    if one is not None and other is not None:
        raise InvalidOptionError("skill_type_limits and task_type_limits say the same thing; give one of them")
    return other if one is None else one
