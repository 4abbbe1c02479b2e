"""What both clients are made of: the same arguments, attributes and calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tranship.checks import positive, text
from tranship.compat.sandai._calls import Calls
from tranship.compat.sandai._config import Given, read_config
from tranship.compat.sandai._debug import Debug, Where
from tranship.compat.sandai._preparing import Preparing
from tranship.compat.sandai._transport import Transport
from tranship.compat.sandai._variables import VALID_PRIORITIES
from tranship.errors import InvalidArgumentsError

__all__ = ["Facade"]


class Facade:
    """The common part of :class:`OperatorClient` and :class:`AsyncOperatorClient`.

    Each argument that is None, or not given, is looked for in the environment, as ``TRANSHIP_OPERATOR_...``, then as
    ``SANDAI_OPERATOR_...``, and has a default otherwise. Times are seconds.

    Args:
        operator_name, operator_version: whose tasks and queues they are.
        broker_url: of any installed backend (``..._CELERY_BROKER_URL``; ``redis://localhost:6379/0``).
        result_backend: where the operator stores results (``..._CELERY_RESULT_BACKEND``); None: at the broker.
        timeout: how long a task may take and is waited for, unless a call says otherwise; None: 3600. 0: tasks
            have no deadline, and nothing is waited for.
        debug: whether to log what goes on, at level DEBUG under ``sandai.operator_client``.
        priority: of tasks without one of their own: ``"high"``, ``"normal"``, ``"low"`` or ``"very_low"``.
        cancel_key: of tasks without one of their own.
        auto_forget_result: whether blocking and batch calls delete results once they have been read
            (``..._AUTO_FORGET_RESULT``; True).
        broker_pool_limit: how many hand-overs may be unconfirmed at once (``..._BROKER_POOL_LIMIT``; 12).
        result_backend_max_connections: an older name of ``backend_pool_limit``, which goes before it.
        backend_pool_limit: with the next one (``..._BACKEND_POOL_LIMIT``; 12):
        backend_poll_concurrency: how many reads and deletions of results may be under way at once; the smaller of
            the two counts (``..._BACKEND_POLL_CONCURRENCY``; 6).
        pool_acquire_timeout: how long a call waits for one of these slots (``..._POOL_ACQUIRE_TIMEOUT``; 10).
        thread_safe_mode: without effect: the clients are always thread-safe.
        shared_transport_scope: ``"operator"`` or ``"process"``: with whom connections and slots are shared
            (``..._SHARED_TRANSPORT_SCOPE``; ``"operator"``).
        task_serializer: ``"msgpack"`` or ``"json"`` (``..._CELERY_TASK_SERIALIZER``; ``"msgpack"``).
        result_serializer: the operator's (``..._CELERY_RESULT_SERIALIZER``; ``"json"``); both are read anyway.
        accept_content: only clients with the same share connections; ``["json", "msgpack"]``.

    Raises:
        InvalidPriorityError: a priority that does not exist.
        InvalidOptionError: a value outside what is allowed.
        InvalidURLError: a URL that cannot be read. Connecting happens on first use.
    """

    _where: ClassVar[Where] = "transport"

    def __init__(  # noqa: PLR0917 - in the order that callers know
        self,
        operator_name: str,
        operator_version: str,
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
        *,
        task_serializer: str | None = None,
        result_serializer: str | None = None,
        accept_content: Iterable[str] | None = None,
    ) -> None:
        config = self._config = read_config(Given.of(locals()))
        self._debug = Debug(on=config.debug, detailed=config.detailed_debug)
        self._transport = Transport(config, self._debug, self._where)
        self._preparing = Preparing(config, self._debug)
        self._calls = Calls(config, self._transport, self._debug)
        self._description: dict[str, Any] | None = None
        self._debug.say("client", "%r: queues %s", self, ", ".join(config.queue_names.values()))

    # What the client was told, as its users know it.

    @property
    def operator_name(self) -> str:
        """The operator's name."""
        return self._config.operator_name

    @property
    def operator_version(self) -> str:
        """The operator's version."""
        return self._config.operator_version

    @property
    def broker_url(self) -> str:
        """The broker as it was given: with its password, so not for logs."""
        return self._config.broker_url

    @property
    def result_backend(self) -> str:
        """The result backend as it was given: with its password, so not for logs."""
        return self._config.result_backend

    @property
    def timeout(self) -> float:
        """Seconds that a call takes at most when it says nothing."""
        return self._config.timeout

    @property
    def debug(self) -> bool:
        """Whether the client logs what it does."""
        return self._config.debug

    @property
    def priority(self) -> str:
        """Of tasks without one of their own."""
        return self._config.priority

    @property
    def cancel_key(self) -> str | None:
        """Of tasks without one of their own."""
        return self._config.cancel_key

    @property
    def auto_forget_result(self) -> bool:
        """Whether results are deleted once they have been read."""
        return self._config.auto_forget_result

    @property
    def task_name(self) -> str:
        """The task that the operator serves."""
        return self._config.task_name

    @property
    def queue_names(self) -> dict[str, str]:
        """The queue of each priority."""
        return dict(self._config.queue_names)

    @property
    def valid_priorities(self) -> list[str]:
        """The priorities there are, the most urgent first."""
        return list(VALID_PRIORITIES)

    @staticmethod
    def _checked_key(key: Any, ttl: Any) -> tuple[str, float]:
        return text("key", key), positive("ttl", ttl)

    @staticmethod
    def _several(submissions: Any, kind: type) -> list[Any]:
        if isinstance(submissions, Iterable):
            found = list(submissions)
            if all(isinstance(one, kind) for one in found):
                return found
        raise InvalidArgumentsError(f"submissions is {submissions!r}; expected what batch_submit returned")

    def __repr__(self) -> str:
        closed = " closed" if self._transport.closed else ""
        return f"<{type(self).__name__} {self.operator_name} {self.operator_version} at {self._config.place}{closed}>"
