"""Every exception tranship raises, in one tree.

::

    TranshipError
    ├── ConfigurationError                 what was asked for cannot be set up
    │   ├── InvalidURLError                a broker URL that cannot be read
    │   ├── UnknownSchemeError             no plugin serves the URL's scheme
    │   ├── InvalidOptionError             a value outside what is allowed (ValueError too)
    │   ├── UnsupportedError               the backend lacks a capability that is needed
    │   └── PluginError                    a plugin is broken, too old, or claims a taken scheme
    ├── SubmitError                        the task was not handed over
    │   ├── InvalidArgumentsError          arguments do not fit the task's signature (TypeError too)
    │   ├── EncodeError                    a value the codec cannot write
    │   ├── MessageTooLarge                body and headers exceed the backend's limit
    │   ├── SubmitTimeout                  not accepted in time; definitely not submitted
    │   ├── QueueUnread                    nobody reads its queue, and that was to be refused
    │   ├── SubmitUnknown                  the broker may have it: safe to look, not to assume
    │   └── BatchSubmitError               some tasks of a batch were not submitted; the others were
    ├── BrokerError                        the broker said no, or said nothing
    │   ├── BrokerUnreachable              retryable: no connection, or lost
    │   ├── BrokerRefused                  permanent: credentials, rights, wrong kind of server
    │   ├── BrokerGone                     permanent: what we were connected to was deleted or replaced
    │   ├── StorageFull                    retryable: no room; nothing was lost
    │   └── StorageCorrupt                 permanent: the store cannot be read
    ├── MessageError                       one message is bad; the next one is unaffected
    │   ├── MalformedMessage               cannot be decoded
    │   ├── ClaimCheckError                it stands for what is kept elsewhere, and nothing fetches that
    │   └── UnknownTask                    no handler of that name here
    ├── ProcessDied                        the process of an isolated task ended without a result
    ├── LeaseLost                          the delivery belongs to somebody else now
    ├── TaskResultError                    what waiting for a result can raise
    │   ├── ResultTimeout                  this caller waited long enough (TimeoutError too)
    │   ├── TaskTimedOut                   one attempt ran too long
    │   ├── DeadlineExceeded               the task's deadline passed
    │   ├── TaskCancelled                  somebody cancelled it
    │   ├── TaskFailed                     the handler raised; carries the remote error
    │   │   └── TaskDeadLettered           given up and kept among the dead letters
    │   ├── TaskNotFound                   the store does not know the id
    │   └── ResultsDisabled                there is no result to wait for
    ├── TaskError                          for handlers to raise: message, code, retryable, details
    │   ├── TaskValidationError            the arguments are wrong; not tried again
    │   ├── TaskTimeoutError               something took too long
    │   └── ResourceError                  something that is needed is not to be had now
    ├── ClosedError                        used after close
    └── BusyError                          a second caller where one is allowed
        └── WorkerNameTaken                another worker has the name

Two signals a handler may raise are not errors: :class:`Retry` and :class:`Reject`.

Classification is by type, never by message text. Every error carries ``code`` (stable,
machine-readable), ``retryable`` (may the same call succeed later, unchanged?) and
``task_id`` (or None).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from tranship.error_codes import FINAL_CODES, TIMEOUT_ERROR

__all__ = [
    "BatchSubmitError",
    "BrokerError",
    "BrokerGone",
    "BrokerRefused",
    "BrokerUnreachable",
    "BusyError",
    "ClaimCheckError",
    "ClosedError",
    "ConfigurationError",
    "DeadlineExceeded",
    "EncodeError",
    "InvalidArgumentsError",
    "InvalidOptionError",
    "InvalidURLError",
    "LeaseLost",
    "MalformedMessage",
    "MessageError",
    "MessageTooLarge",
    "PluginError",
    "ProcessDied",
    "QueueUnread",
    "Reject",
    "ResourceError",
    "ResultTimeout",
    "ResultsDisabled",
    "Retry",
    "StorageCorrupt",
    "StorageFull",
    "StreamRestarted",
    "SubmitError",
    "SubmitTimeout",
    "SubmitUnknown",
    "TaskCancelled",
    "TaskDeadLettered",
    "TaskError",
    "TaskFailed",
    "TaskNotFound",
    "TaskResultError",
    "TaskTimedOut",
    "TaskTimeoutError",
    "TaskValidationError",
    "TranshipError",
    "UnknownSchemeError",
    "UnknownTask",
    "UnsupportedError",
    "WorkerNameTaken",
]


class TranshipError(Exception):
    """Base of all errors of tranship.

    Args:
        message: one sentence that names the value, what was expected and what to do.
        task_id: the task it is about, if any.
    """

    code: str = "ERROR"
    retryable: bool = False

    def __init__(self, message: str = "", *, task_id: str | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class ConfigurationError(TranshipError):
    """What was asked for cannot be set up; calling again changes nothing."""

    code = "CONFIGURATION"


class InvalidURLError(ConfigurationError, ValueError):
    """A broker URL that cannot be read; the message shows it without its password."""

    code = "INVALID_URL"


class UnknownSchemeError(ConfigurationError):
    """No installed plugin serves the URL's scheme; the message says what to install."""

    code = "UNKNOWN_SCHEME"


class InvalidOptionError(ConfigurationError, ValueError):
    """A value outside what is allowed: an unknown priority, a negative timeout, an unknown option."""

    code = "INVALID_OPTION"

    def __init__(self, message: str = "", *, option: str = "", task_id: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.option = option


class UnsupportedError(ConfigurationError):
    """The backend does not have a capability that is needed; raised when opening, not at message 10,000."""

    code = "UNSUPPORTED"


class PluginError(ConfigurationError):
    """A plugin is broken, speaks another API version, or claims a scheme that is taken."""

    code = "PLUGIN"


class SubmitError(TranshipError):
    """The task was not handed to the broker."""

    code = "SUBMIT"


class InvalidArgumentsError(SubmitError, TypeError):
    """The arguments do not fit the task's signature; nothing was sent."""

    code = "INVALID_ARGUMENTS"


class EncodeError(SubmitError, TypeError):
    """An argument or a result holds a value that the codec cannot write."""

    code = "ENCODE"


class MessageTooLarge(SubmitError):
    """Body and headers together exceed ``limit`` bytes; nothing was written."""

    code = "MESSAGE_TOO_LARGE"

    def __init__(self, message: str = "", *, size: int = 0, limit: int = 0, task_id: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.size = size
        self.limit = limit


class SubmitTimeout(SubmitError, TimeoutError):
    """The broker did not take the task in time. It has not been submitted, and will not be."""

    code = "SUBMIT_TIMEOUT"
    retryable = True


class QueueUnread(SubmitError):
    """No worker that is known reads the queue of a task that is submitted by name; refused by ``unread_queues``.

    Attributes:
        queue: its name.
    """

    code = "QUEUE_UNREAD"
    retryable = True

    def __init__(self, message: str = "", *, queue: str = "", task_id: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.queue = queue


class SubmitUnknown(SubmitError):
    """The answer was lost: the broker may have the task, or not. Submitting again may run it twice."""

    code = "SUBMIT_UNKNOWN"
    retryable = True


class BatchSubmitError(SubmitError):
    """Some tasks of a batch were not submitted; all the others were.

    Attributes:
        handles: in the order of the batch; None where the submit failed.
        errors: why, by index.
    """

    code = "BATCH_SUBMIT"

    def __init__(self, message: str = "", *, handles: Sequence[Any] = (), errors: Mapping[int, TranshipError]) -> None:
        super().__init__(message)
        self.handles = handles
        self.errors = errors


class BrokerError(TranshipError):
    """The broker said no, or said nothing."""

    code = "BROKER"


class BrokerUnreachable(BrokerError, ConnectionError):
    """No connection to the broker, or it was lost. The native error is ``__cause__``."""

    code = "BROKER_UNREACHABLE"
    retryable = True


class BrokerRefused(BrokerError):
    """Credentials, rights, a read-only server or file, or something that is not such a broker at all."""

    code = "BROKER_REFUSED"


class BrokerGone(BrokerError):
    """What we were connected to was deleted or replaced; open it anew."""

    code = "BROKER_GONE"


class StorageFull(BrokerError):
    """The broker has no room left. Nothing was lost; it goes on when there is room."""

    code = "STORAGE_FULL"
    retryable = True


class StorageCorrupt(BrokerError):
    """The broker's store cannot be read any more; restore it from a backup or move it away."""

    code = "STORAGE_CORRUPT"


class MessageError(TranshipError):
    """One message is bad; it goes to the dead letters with ``reason``."""

    code = "MESSAGE"
    reason: ClassVar[str] = "bad-message"


class MalformedMessage(MessageError):
    """A message that cannot be decoded; the message says which part and why."""

    code = "MALFORMED_MESSAGE"
    reason = "malformed"


class ClaimCheckError(MessageError):
    """Arguments or a result that are kept elsewhere (a claim check), and nothing here fetches them."""

    code = "CLAIM_CHECK"
    reason = "claim-check"


class UnknownTask(MessageError):
    """No handler is registered under the message's task name."""

    code = "UNKNOWN_TASK"
    reason = "unknown-task"


class LeaseLost(TranshipError):
    """The delivery's lease ended; somebody else may be running the task. Nothing was written."""

    code = "LEASE_LOST"


class ProcessDied(TranshipError):
    """The process of a task with ``isolation="process"`` ended without a result: a crash, ``os._exit()``, no memory."""

    code = "PROCESS_DIED"
    retryable = True


class TaskResultError(TranshipError):
    """What waiting for a task's result can raise."""

    code = "RESULT"


class ResultTimeout(TaskResultError, TimeoutError):
    """This caller's ``timeout`` passed first. The task itself goes on."""

    code = "RESULT_TIMEOUT"
    retryable = True


class StreamRestarted(TaskResultError):
    """The task runs again, and its parts begin anew: what ``stream()`` has brought of the run before is void."""

    code = "STREAM_RESTARTED"
    retryable = True


class TaskTimedOut(TaskResultError):
    """An attempt ran longer than the task's ``run_timeout``.

    Attributes:
        limit: that many seconds; None where it is not known.
    """

    code = "TASK_TIMED_OUT"
    retryable = True

    def __init__(self, message: str = "", *, limit: float | None = None, task_id: str | None = None) -> None:
        super().__init__(message, task_id=task_id)
        self.limit = limit


class DeadlineExceeded(TaskResultError):
    """The task's deadline passed before it had finished."""

    code = "DEADLINE_EXCEEDED"


class TaskCancelled(TaskResultError):
    """The task was cancelled, by its id or by its cancel key."""

    code = "TASK_CANCELLED"


class TaskFailed(TaskResultError):
    """The handler raised.

    Attributes:
        type: the remote exception's qualified name, such as ``"builtins.ValueError"``.
        error_type: what the handler calls it, ``TaskError(..., error_type=...)``; else its class, ``"ValueError"``.
        code: what the handler calls it for programs; ``error_code`` is another name.
        details: JSON-like data the handler attached.
        traceback: the remote traceback as text, or None. Nothing is unpickled or imported.
        arguments: what the remote exception was made of, as ``("user", 7)`` of ``KeyError("user", 7)``.
    """

    code: str = "TASK_FAILED"

    def __init__(
        self,
        message: str = "",
        *,
        type: str = "",  # noqa: A002 - the field's standard term
        error_type: str = "",
        code: str | None = None,
        retryable: bool = False,
        details: Mapping[str, Any] | None = None,
        traceback: str | None = None,
        arguments: Sequence[Any] | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.type = type
        self.error_type: str = error_type or type.rpartition(".")[2]
        self.code = code or type_code(self)
        self.retryable = retryable
        self.details: dict[str, Any] = dict(details or {})
        self.traceback = traceback
        self.arguments: tuple[Any, ...] = (message,) if arguments is None else tuple(arguments)

    @property
    def error_code(self) -> str:
        """The code."""
        return self.code


def type_code(error: TranshipError) -> str:
    """Return the code of the error's class, whatever the instance says."""
    return type(error).code


class TaskDeadLettered(TaskFailed):
    """The task was given up and is kept among the dead letters; ``details["reason"]`` says why."""

    code = "DEAD_LETTERED"


class TaskNotFound(TaskResultError, LookupError):
    """The store does not know the id: never submitted here, forgotten, or its result has expired."""

    code = "TASK_NOT_FOUND"


class ResultsDisabled(TaskResultError):
    """No result is kept for this task, so there is nothing to wait for."""

    code = "RESULTS_DISABLED"


class TaskError(TranshipError):
    """Raise it in a handler to fail with a code, a retry verdict and data of your own.

    A subclass may set ``code`` and ``retryable`` for all of its kind.

    Args:
        message: what went wrong, for people.
        error_code: for programs; a policy's ``stop_on_codes`` looks at it. :mod:`tranship.error_codes` has some.
        error_type: what this kind of error is called; None: the name of the class.
        retryable: may another attempt succeed? False ends the task at once. None: what the code says, else the class.
        code: another name of ``error_code``.
        details: JSON-like data, handed to whoever waits.

    Raises:
        InvalidOptionError: ``retryable`` is something else than a truth value, or there are two codes.
    """

    code: str = "TASK_ERROR"
    retryable: bool = True

    def __init__(
        self,
        message: str = "",
        error_code: str | None = None,
        error_type: str | None = None,
        retryable: bool | None = None,
        *,
        code: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        if retryable not in (None, True, False):
            raise InvalidOptionError(f"retryable is {retryable!r}; expected True, False or None", option="retryable")
        if code and error_code and code != error_code:
            raise InvalidOptionError(f"code is {code!r} and error_code {error_code!r}; give one", option="code")
        self.code = code or error_code or type_code(self)
        self.error_type: str = error_type or type(self).__name__
        self.retryable = type_verdict(self) and self.code not in FINAL_CODES if retryable is None else retryable
        self.details = details

    @property
    def error_code(self) -> str:
        """The code."""
        return self.code


def type_verdict(error: TranshipError) -> bool:
    """Return what the error's class says of further attempts, whatever the instance says."""
    return type(error).retryable


class TaskValidationError(TaskError):
    """Raise it in a handler whose arguments are wrong: they will be wrong the next time."""

    code = "VALIDATION_ERROR"
    retryable = False


class TaskTimeoutError(TaskError):
    """Raise it in a handler for which something took too long. For the attempt itself there is ``run_timeout``."""

    code = TIMEOUT_ERROR


class ResourceError(TaskError):
    """Raise it in a handler that lacks something for now, such as memory, disk or a quota."""

    code = "RESOURCE_ERROR"


class ClosedError(TranshipError):
    """The client, worker or backend has been closed."""

    code = "CLOSED"


class BusyError(TranshipError):
    """A second caller entered a method that one caller at a time may use, or a thread would wait for itself."""

    code = "BUSY"


class WorkerNameTaken(BusyError):
    """Another worker has the name at this broker; this one has not begun to work.

    Attributes:
        name: the name.
        host, pid: where the other one is; empty and 0: it does not say.
        since: when it took the name, in epoch seconds by its clock.
    """

    code = "WORKER_NAME_TAKEN"
    retryable = True

    def __init__(
        self,
        message: str = "",
        *,
        name: str = "",
        host: str = "",
        pid: int = 0,
        since: float = 0.0,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message, task_id=task_id)
        self.name = name
        self.host: str = host
        self.pid: int = pid
        self.since: float = since


class Retry(Exception):
    """Raise it in a handler to be run again: after ``delay`` seconds, or as the retry policy says.

    It uses up one of the policy's attempts.
    """

    def __init__(self, delay: float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason or "retry requested")
        self.delay = delay
        self.reason = reason


class Reject(Exception):
    """Raise it in a handler to send the task to the dead letters at once, with ``reason``."""

    def __init__(self, reason: str = "rejected") -> None:
        super().__init__(reason)
        self.reason = reason
