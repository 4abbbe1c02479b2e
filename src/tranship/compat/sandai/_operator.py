"""The operator's side: ``process_task`` for a name and a version, on a tranship worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tranship.checks import one_of, text
from tranship.compat.sandai._operator_answers import described
from tranship.compat.sandai._operator_broker import operator_config, operator_settings
from tranship.compat.sandai._operator_call import OperatorCall
from tranship.compat.sandai._operator_dialect import OperatorDialect
from tranship.compat.sandai._operator_handler import Handler
from tranship.compat.sandai._operator_tracing import in_trace
from tranship.envelope import Priority
from tranship.errors import ConfigurationError
from tranship.middleware import Middleware, checked
from tranship.registry import Registry
from tranship.task import Task, current, task
from tranship.worker import Worker

__all__ = ["Operator"]

F = TypeVar("F", bound=Callable[..., Any])


class Operator:
    """Serves an operator: clients of ``sandai-operator-client`` can call it, and ours on every broker.

    ::

        operator = Operator("video-clipper", "v1")

        @operator.process
        def clip(artifacts: list[dict], options: Options) -> tuple[list[dict], Results]: ...

        operator.run()

    The handler is a ``def`` or an ``async def`` that names what it wants to be given: ``artifacts``, ``options``
    (as annotated: a pydantic model, a dataclass, a dict) and ``call`` (an :class:`OperatorCall`). It returns
    ``(artifacts, results)``, only the results, or None.

    Args:
        name, version: what clients call it.
        doc: for ``desc``; None: the handler's docstring.
        options, results: the types of options and results; None: as the handler is annotated.
        probes: answer probes here; False: the handler gets them, as does one whose options have a field ``test``.
        broker_url, result_backend: URLs; None: as for clients from ``TRANSHIP_OPERATOR_CELERY_BROKER_URL`` and
            ``..._RESULT_BACKEND``, then from the same names with ``SANDAI_``, else ``redis://localhost:6379/0``.
        concurrency: how many calls run at once; None: the settings' ``max_concurrent_tasks``.
        run_timeout: seconds that one call may take; None: as long as it takes.
        middleware: around its calls; a call's arguments are those that the client sent.
        max_deliveries, shutdown_timeout, namespace: as for :class:`~tranship.Worker`.
        registry: of backends; None: what is installed.

    Raises:
        InvalidOptionError: a value that cannot be used.
    """

    def __init__(
        self,
        name: str,
        version: str,
        *,
        doc: str | None = None,
        options: Any = None,
        results: Any = None,
        probes: bool = True,
        broker_url: str | None = None,
        result_backend: str | None = None,
        concurrency: int | None = None,
        run_timeout: float | None = None,
        middleware: Iterable[Middleware] = (),
        max_deliveries: int | None = None,
        shutdown_timeout: float | None = None,
        namespace: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.name: str = text("name", name)
        self.version: str = text("version", version)
        self.doc = doc
        self._shapes = {"options": options, "results": results}
        self._probes = bool(one_of("probes", probes, (True, False)))
        self._urls = broker_url, result_backend
        self._settings: dict[str, Any] = {
            "max_concurrent_tasks": concurrency,
            "max_deliveries": max_deliveries,
            "shutdown_timeout": shutdown_timeout,
            "namespace": namespace,
        }
        self._middleware = checked(middleware)
        self._registry = registry
        self._handler: Handler | None = None
        self._waiting = task(name=self.task_name, queue=self.queues["normal"], run_timeout=run_timeout)

    @property
    def task_name(self) -> str:
        """The name of its task."""
        return f"sandai_operator.{self.name}.{self.version}.process_task"

    @property
    def queues(self) -> Mapping[str, str]:
        """Its queue for each priority, the most urgent first; it is served in this order."""
        return {level.label: f"{level.label}.{self.name}.{self.version}" for level in Priority}

    def process(self, function: F, /) -> F:
        """Decorate the handler; it stays callable as before.

        Raises:
            ConfigurationError: it cannot be one, or there is one already.
        """
        if self._handler is not None:
            raise ConfigurationError(f"{self!r} has a handler already: {self._handler.function!r}")
        self._handler = Handler(function, **self._shapes)
        return function

    @property
    def task(self) -> Task[..., Any]:
        """The task that does the work; a worker may have it beside others.

        Raises:
            ConfigurationError: there is no handler yet, or its models have no JSON schema.
        """
        handler = self._need_handler()
        process = _process_async if handler.is_async else _process
        made: Task[..., Any] = self._waiting(process(handler, self.task_name))
        probes = self._probes and not handler.options.has("test")
        made.dialect = OperatorDialect(self.describe(), probes=probes)
        return made

    def describe(self) -> dict[str, Any]:
        """Return what ``desc`` answers: doc, options_schema and results_schema.

        Raises:
            ConfigurationError: there is no handler yet, or its models have no JSON schema.
        """
        handler = self._need_handler()
        doc = inspect.getdoc(handler.function) if self.doc is None else self.doc
        return described(doc, handler.options.schema("validation"), handler.results.schema("serialization"))

    def worker(self) -> Worker:
        """Return a worker that serves it; ``tranship worker module:operator`` calls this.

        Raises:
            ConfigurationError: there is no handler yet.
            InvalidURLError, InvalidOptionError: a value that cannot be used.
        """
        config = operator_config(self.name, self.version, *self._urls)
        return Worker(
            tasks=[self.task],
            queues=list(self.queues.values()),
            queues_in_order=True,
            middleware=self._middleware,
            settings=operator_settings(config, **self._settings),
            registry=self._registry,
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what runs; a second signal hurries.

        Raises:
            As :meth:`worker` and :meth:`tranship.Worker.run`.
        """
        self.worker().run()

    async def serve(self) -> None:
        """Serve on the running loop until cancelled.

        Raises:
            As :meth:`worker` and :meth:`tranship.Worker.serve`.
        """
        await self.worker().serve()

    def _need_handler(self) -> Handler:
        if self._handler is None:
            raise ConfigurationError(f"{self!r} has no handler; decorate a function with @operator.process")
        return self._handler

    def __repr__(self) -> str:
        return f"<Operator {self.name} {self.version}>"


def _process_async(handler: Handler, span: str) -> Any:
    async def process_task(**payload: Any) -> Any:
        call = OperatorCall.read(current().id, payload)
        with in_trace(call.tracing, span):
            return await handler.finish(handler(call))

    return process_task


def _process(handler: Handler, span: str) -> Any:
    def process_task(**payload: Any) -> Any:
        call = OperatorCall.read(current().id, payload)
        with in_trace(call.tracing, span):
            value = handler(call)
            # An async def behind a plain wrapper: the worker awaits what we return.
            return handler.finish(value) if inspect.isawaitable(value) else handler.answer(value)

    return process_task
