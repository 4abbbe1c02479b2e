"""The other side of isolation: what runs in the process of an isolated task."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from tranship import codec
from tranship.errors import ConfigurationError, EncodeError, MessageTooLarge, TaskError, UnsupportedError
from tranship.outcomes import Progress
from tranship.task import Durable, HotCache, Task, TaskContext, activate, can_tell, task_of, telling_of
from tranship.worker._describe import arguments_of, cleaned, message_of
from tranship.worker._forked import Origin

__all__ = ["LARGEST", "Answer", "Call", "Failure", "Part", "Ready", "facts_of", "find", "serve", "too_large"]

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of arguments, or of a result, between the worker and such a process."""
_OURS: Final = ("tranship.worker.", "tranship.task.", "asyncio.")
"""Modules between us and the handler."""
_STOPPED: Final = 143
"""Exit code of what was ended by SIGTERM, as shells have it."""


@dataclass(frozen=True)
class Call:
    """One run of a handler; pickled."""

    module: str
    qualname: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    facts: dict[str, Any]
    """What a context is made of."""


@dataclass(frozen=True)
class Ready:
    """The process is there; ``problem`` says why it is of no use."""

    problem: str = ""


@dataclass(frozen=True)
class Part:
    """What the handler emits, encoded."""

    data: bytes


@dataclass(frozen=True)
class Answer:
    """What the handler returned."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """What the handler raised; what follows stands for an exception that cannot be pickled."""

    error: bytes | None
    names: Sequence[tuple[str, str]]
    message: str
    arguments: bytes
    """In JSON: what they are may be unknown in the other process."""
    trace: str


class _Parts:
    """Sends parts to the worker; see :class:`tranship.task.Telling`. A pipe that is full is waited for."""

    def __init__(self, say: Callable[[object], None], limit: int) -> None:
        self._say, self.limit = say, limit

    def progress(self, progress: Progress) -> None:
        """The context tells the worker itself."""

    def emit(self, part: bytes) -> None:
        """Send it."""
        self._say(Part(part))

    async def room(self) -> None:
        """There is."""

    def block(self, check: Callable[[], None]) -> None:
        """It has waited for the pipe."""


class IsolatedContext(TaskContext):
    """What a handler knows in a process of its own."""

    __slots__ = ("_say",)

    def __init__(
        self, *args: Any, say: Callable[[object], None], tells: bool, part_limit: int | None, **facts: Any
    ) -> None:
        telling = None if part_limit is None else _Parts(say, part_limit)
        super().__init__(*args, tell=(lambda _envelope: telling) if tells else None, **facts)
        self._say = say

    @property
    def hot_cache(self) -> HotCache:
        """Not to be had here."""
        raise ConfigurationError(
            "hot_cache is the worker process's own, and this task runs in a process of its own (isolation='process')"
        )

    def _make_durable(self) -> Durable:
        raise UnsupportedError(
            "the steps of a task are kept by the worker process, and this task runs in a process of its own "
            "(isolation='process'): leave isolation off, and have a step submit what needs a process as a task"
        )

    def progress(self, done: float, total: float | None = 1.0, message: str = "") -> None:
        """As everywhere; the worker is told."""
        super().progress(done, total, message)
        self._say(self.last_progress)


def find(module: str, qualname: str) -> Any:
    """Return the function that a task was made of.

    Raises:
        ImportError, AttributeError: it cannot be found under that name.
    """
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    found = task_of(found)
    return found.function if isinstance(found, Task) else found


def serve(calls: Connection, printed: Sequence[Connection], modules: Sequence[str], level: int) -> None:
    """Run the calls that come, one after the other, until nobody sends any more."""
    if hasattr(os, "setpgid"):
        # Ctrl-C in the worker's terminal is not for us, and what a handler starts ends with us.
        os.setpgid(0, 0)
    _print_to(printed)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="tranship-parent").start()
    one = _Server(calls, printed)
    signal.signal(signal.SIGTERM, one.end)
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 - a module of the user's may raise anything
        one.tell(Ready(f"importing {module!r} failed: {type(error).__name__}: {message_of(error)}"))
        return
    if not logging.getLogger().handlers:
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    one.tell(Ready())
    one.run()


def _print_to(printed: Sequence[Connection]) -> None:
    """Have what is written to stdout and stderr go to the worker."""
    for number, (name, stream) in enumerate(zip(("stdout", "stderr"), printed, strict=True), 1):
        os.dup2(stream.fileno(), number)
        own = getattr(sys, f"__{name}__")
        if own is None or own.closed:
            own = open(number, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for as long as we live
            setattr(sys, f"__{name}__", own)
        own.reconfigure(line_buffering=True)
        setattr(sys, name, own)


class _Server:
    def __init__(self, calls: Connection, printed: Sequence[Connection]) -> None:
        self._calls = calls
        self._printed = printed
        self._lock = threading.Lock()
        self._context: TaskContext | None = None
        self._ended = False
        self._origin = Origin()

    def end(self, _number: int, _frame: Any) -> None:
        """SIGTERM: what the handler has open is closed by its own ``finally``."""
        if self._ended:
            # It comes twice, to the group and to us, and is not to end that ``finally``.
            return
        self._ended = True
        if self._context is not None:
            self._context.cancel()
        raise SystemExit(_STOPPED)

    def tell(self, what: object) -> None:
        with self._lock:
            self._calls.send_bytes(pickle.dumps(what))

    def run(self) -> None:
        while not self._ended:
            try:
                request = self._calls.recv_bytes()
            except (EOFError, OSError):
                return
            answer = self._answer(request)
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            # A handler may have closed them, or sent them elsewhere; the next one's are its own.
            _print_to(self._printed)
            with self._lock:
                self._calls.send_bytes(answer)
        # Threads of the handler's own do not keep what is to end.
        os._exit(_STOPPED)

    def _answer(self, request: bytes) -> bytes:
        try:
            value = self._call(pickle.loads(request))  # noqa: S301 - it comes from our own parent
            self._origin.check()
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            self._origin.check(error)
            return pickle.dumps(_failure(error))
        finally:
            self._context = None
        try:
            answer = pickle.dumps(Answer(value))
        except Exception as error:  # noqa: BLE001 - the value's own code may raise anything
            what = f"a {type(value).__qualname__} that cannot leave its process: {message_of(error)}"
            return pickle.dumps(_failure(_not_sent(EncodeError, f"the task returned {what}")))
        if len(answer) > LARGEST:
            return pickle.dumps(_failure(_not_sent(MessageTooLarge, too_large("the result", len(answer)))))
        return answer

    def _call(self, call: Call) -> Any:
        self._context = context = IsolatedContext(say=self.tell, **call.facts)
        activate(context)
        value = find(call.module, call.qualname)(*call.args, **call.kwargs)
        return asyncio.run(_awaited(value)) if hasattr(value, "__await__") else value


async def _awaited(value: Any) -> Any:
    return await value


def _not_sent(kind: type[EncodeError | MessageTooLarge], message: str) -> TaskError:
    """A result that cannot be had: a failure that running again would only repeat, as where nothing is isolated."""
    return TaskError(message, kind.code, kind.__name__, retryable=False)


def too_large(what: str, size: int) -> str:
    """Say that something is too large to travel between the processes."""
    return (
        f"{what} is {size:,} bytes, and at most {LARGEST:,} go between a worker and the process of an isolated task; "
        "send a reference (a path, a URL) instead of the data"
    )


def _failure(error: BaseException) -> Failure:
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith(_OURS):
        trace = trace.tb_next
    try:
        text = cleaned("".join(traceback.format_exception(type(error), error, trace)))
    except BaseException:  # noqa: BLE001 - the standard library reads the exception's attributes
        text = ""
    names = [(kind.__module__, kind.__qualname__) for kind in type(error).__mro__ if kind is not object]
    return Failure(_pickled(error), names, message_of(error), codec.dumps(arguments_of(error)), text)


def _pickled(error: BaseException) -> bytes | None:
    """The exception, where it comes back as what it was."""
    try:
        data = pickle.dumps(error)
        # Many can be written and not be read: their __init__ takes other arguments.
        return data if type(pickle.loads(data)) is type(error) else None  # noqa: S301 - our own
    except BaseException:  # noqa: BLE001 - an exception's own code may raise anything
        return None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def facts_of(context: TaskContext, ahead: float) -> dict[str, Any]:
    """What a context can be made of again in another process."""
    envelope = context.envelope
    plain = replace(envelope, args=(), kwargs={}, headers=dict(envelope.headers))
    telling = telling_of(context)
    return {
        "envelope": plain,
        "delivery_count": context.delivery_count,
        "ahead": ahead,
        "tells": can_tell(context),
        "part_limit": None if telling is None else telling.limit,
    }
