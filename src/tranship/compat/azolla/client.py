"""Azolla's client: a builder for each submit, and a handle to wait with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

from tranship.checks import invalid, positive, text, whole
from tranship.client import AsyncClient, AsyncTaskHandle
from tranship.compat.azolla._endpoints import broker_url
from tranship.compat.azolla.exceptions import translated
from tranship.compat.azolla.task import name_of
from tranship.compat.azolla.types import TaskResult, result_of
from tranship.errors import InvalidOptionError
from tranship.retry import RetryPolicy
from tranship.settings import Settings
from tranship.task import OptionArguments, named

__all__ = ["Client", "ClientBuilder", "ClientConfig", "TaskHandle", "TaskSubmissionBuilder", "settings_of"]

DOMAIN: Final = "default"
"""The domain that is no namespace: plain tranship clients and workers are in it."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Where a client submits.

    Args:
        endpoint: the URL of a broker, or ``http://host:52710`` of an orchestrator; None: as of
            :class:`tranship.Client`.
        domain: the namespace. Clients and workers of other domains do not see its tasks. The ``"default"`` one has
            none, as plain tranship has.
        timeout: seconds until a submit that the broker does not take is given up.
        max_message_size: bytes of one message; None: as the broker's own option says.

    Raises:
        InvalidOptionError: a value outside what is allowed.
    """

    endpoint: str | None = None
    domain: str = DOMAIN
    timeout: float = 30.0
    max_message_size: int | None = None

    def __post_init__(self) -> None:
        text("domain", self.domain)
        positive("timeout", self.timeout)
        if self.max_message_size is not None:
            whole("max_message_size", self.max_message_size)


def settings_of(config: ClientConfig) -> Settings:
    """Return the core's settings.

    Raises:
        InvalidURLError, InvalidOptionError: an endpoint that is no broker's URL, or has TLS where none is spoken.
    """
    namespace = None if config.domain == DOMAIN else config.domain
    endpoint = broker_url(config.endpoint)
    settings = Settings.load(broker_url=endpoint, namespace=namespace, submit_timeout=config.timeout)
    if config.max_message_size is None:
        return settings
    return replace(settings, broker_url=settings.broker_url.with_options(max_message_size=config.max_message_size))


class Client:
    """Submits tasks, from asyncio.

    Args:
        config: where; None: the other arguments say it.
        orchestrator_endpoint: the URL of a broker, or of an orchestrator.
        more: the other fields of :class:`ClientConfig`.
    """

    def __init__(
        self, config: ClientConfig | None = None, orchestrator_endpoint: str | None = None, **more: Any
    ) -> None:
        if config is None and orchestrator_endpoint is None:
            raise InvalidOptionError("neither config nor orchestrator_endpoint is given; give one of them")
        self._config = config or _config(endpoint=orchestrator_endpoint, **more)
        self._settings = settings_of(self._config)
        self._client: AsyncClient | None = None

    @classmethod
    async def connect(cls, endpoint: str | None = None, **more: Any) -> Self:
        """Return a client that is connected to the broker.

        Args:
            endpoint: its URL.
            more: the other fields of :class:`ClientConfig`.

        Raises:
            ConnectionError: it cannot be reached.
            InvalidURLError, InvalidOptionError, UnknownSchemeError: it is no broker's URL.
        """
        client = cls(_config(endpoint=endpoint, **more))
        await client.__aenter__()
        return client

    @staticmethod
    def builder() -> ClientBuilder:
        """Return a builder for a client."""
        return ClientBuilder()

    def submit_task(self, task: Any, args: Any = None) -> TaskSubmissionBuilder:
        """Return a builder for one submit.

        Args:
            task: a function decorated with ``@azolla_task``, a :class:`~tranship.compat.azolla.Task`, or a name.
            args: a dict: the arguments by name; a list: in their order; None: none; anything else: the only one.

        Raises:
            InvalidOptionError: ``task`` is none.
        """
        return TaskSubmissionBuilder(self, name_of(task)).args(args)

    async def close(self) -> None:
        """Give the connection back. Another submit connects again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        with translated():
            await self.core.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def core(self) -> AsyncClient:
        """The core's client, for what Azolla's has no name for."""
        if self._client is None:
            self._client = AsyncClient(settings=self._settings)
        return self._client


class ClientBuilder:
    """Builds a :class:`Client` step by step; each step returns the builder."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    def endpoint(self, endpoint: str) -> Self:
        """Set the URL of the broker."""
        return self._set(endpoint=endpoint)

    def domain(self, domain: str) -> Self:
        """Set the namespace."""
        return self._set(domain=domain)

    def timeout(self, timeout: float) -> Self:
        """Set the seconds until a submit is given up."""
        return self._set(timeout=timeout)

    def max_message_size(self, size: int) -> Self:
        """Set the bytes of one message."""
        return self._set(max_message_size=size)

    async def build(self) -> Client:
        """Return the client, connected; raises as :meth:`Client.connect`."""
        return await Client.connect(**self._given)

    def _set(self, **given: Any) -> Self:
        self._given.update(given)
        return self


class TaskSubmissionBuilder:
    """One submit, step by step; each step returns the builder."""

    def __init__(self, client: Client, task_name: str) -> None:
        self._client = client
        self._name = task_name
        self._args: tuple[Any, ...] = ()
        self._kwargs: Mapping[str, Any] = {}
        self._options: OptionArguments = {"store_result": True}

    def args(self, args: Any) -> Self:
        """Set the arguments: a dict, a list, None, or the only one."""
        self._args, self._kwargs = (), {}
        if isinstance(args, dict):
            self._kwargs = args
        elif isinstance(args, list | tuple):
            self._args = tuple(args)
        elif args is not None:
            self._args = (args,)
        return self

    def retry_policy(self, policy: RetryPolicy) -> Self:
        """Set how often, how soon and after which failures it runs again; else as the worker's task says."""
        self._options["retry"] = policy
        return self

    def with_retry(self, policy: RetryPolicy) -> Self:
        """Do as :meth:`retry_policy`."""
        return self.retry_policy(policy)

    def shepherd_group(self, group: str) -> Self:
        """Set the queue: only workers that consume from it run the task."""
        self._options["queue"] = group
        return self

    def flow_instance_id(self, flow_id: str) -> Self:
        """Set the flow that it is part of; the task finds it in ``current().headers["flow_instance_id"]``."""
        self._options["headers"] = {"flow_instance_id": flow_id}
        return self

    async def submit(self) -> TaskHandle:
        """Hand the task over; return once the broker has it. Arguments are checked by the worker.

        Raises:
            SerializationError: arguments that cannot be sent, or more than ``max_message_size``.
            ConnectionError: the broker did not take it.
            InvalidOptionError: a policy, a group or an id outside what is allowed.
        """
        call = named(self._name, **self._options).call(*self._args, **self._kwargs)
        with translated():
            return TaskHandle(await self._client.core.submit(call))


class TaskHandle:
    """One submitted task.

    Attributes:
        task_id: its id.
    """

    def __init__(self, handle: AsyncTaskHandle[Any]) -> None:
        self.task_id: str = handle.id
        self._handle = handle

    async def wait(self, timeout: float | None = None) -> TaskResult[Any]:
        """Wait until the task has ended, and return how: nothing is raised for a failed one.

        Args:
            timeout: seconds that this caller waits; None: as long as it takes.

        Raises:
            TaskWaitTimeoutError: ``timeout`` passed first.
            TaskNotFoundError: nobody knows the task.
            ConnectionError: the broker does not answer.
        """
        with translated():
            return result_of(await self._handle.wait(timeout))

    async def try_result(self) -> TaskResult[Any] | None:
        """Return how the task has ended; None: it has not.

        Raises:
            TaskNotFoundError, ConnectionError: as :meth:`wait`.
        """
        with translated():
            found = await self._handle.info()
        return result_of(found) if found.state.terminal else None

    def __repr__(self) -> str:
        return f"<TaskHandle {self.task_id}>"


def _config(**given: Any) -> ClientConfig:
    try:
        return ClientConfig(**given)
    except TypeError:
        known = ClientConfig.__slots__
        unknown = next(name for name in given if name not in known)
        raise invalid("configuration", unknown, f"one of {', '.join(known)}") from None
