"""Processes for tasks with ``isolation="process"``: one task at a time in each, and they can be ended for certain."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from tranship import errors
from tranship.errors import ConfigurationError, InvalidArgumentsError, ProcessDied
from tranship.task import Task, TaskContext
from tranship.worker._isolated import LARGEST, Answer, Call, Failure, Progress, Ready, facts_of, find, serve, too_large

__all__ = ["Ended", "IsolatedCall", "Isolation", "check_isolated"]

log = logging.getLogger("tranship.worker")

GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL: for the handler's own ``finally``."""
STARTING: Final = 60.0
"""Seconds that a process may take to import the tasks' modules."""
CLOSING: Final = 2.0
_LINE: Final = 10_000
"""Characters of a printed line in the log."""
_PIECE: Final = 65_536


def check_isolated(tasks: Iterable[Task[..., Any]]) -> None:
    """Refuse isolated tasks whose function another process could not find.

    Raises:
        ConfigurationError.
    """
    for one in tasks:
        if one.isolation is None:
            continue
        function = one.function
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        try:
            found = find(str(module), name)
        except (ImportError, AttributeError):
            found = None
        if found is not function:
            raise ConfigurationError(
                f"task {one.name!r} has isolation='process', and another process would not find its function as "
                f"{module}.{name}: define it at the top level of a module that can be imported"
            )


@dataclass(frozen=True)
class Ended:
    """How a call ended in its process."""

    answer: Answer | Failure | None = None
    died: str = ""
    """How the process ended without an answer."""
    too_long: bool = False
    """Whether it was ended because its time was up."""

    @property
    def value(self) -> Any:
        """What the handler returned."""
        return self.answer.value if isinstance(self.answer, Answer) else None

    @property
    def trace(self) -> str | None:
        """The traceback of what it raised, as text."""
        return self.answer.trace or None if isinstance(self.answer, Failure) else None

    def error(self) -> BaseException | None:
        """What the handler raised, or something of the same name and bases."""
        return _error_of(self.answer) if isinstance(self.answer, Failure) else None


class Isolation:
    """The processes of one worker. Any thread.

    Args:
        tasks: the worker's, by name.
        most: how many of its tasks run at once.
    """

    def __init__(self, tasks: Mapping[str, Task[..., Any]], most: int) -> None:
        isolated = [one for one in tasks.values() if one.isolation is not None]
        self._modules = sorted({one.function.__module__ for one in isolated})
        self._spare = min(most, os.cpu_count() or 1)
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def warm(self) -> None:
        """Have a process ready for each CPU, soon."""
        for number in range(self._spare):
            threading.Thread(target=self._warm_one, name=f"tranship-warm-{number}", daemon=True).start()

    def call(self, context: TaskContext, task: Task[..., Any], args: Any, kwargs: Any, *, ahead: float) -> IsolatedCall:
        """Return the call of a handler, which is to be run in a thread.

        Raises:
            InvalidArgumentsError: the arguments cannot be sent to another process.
        """
        function = task.function
        call = Call(function.__module__, function.__qualname__, tuple(args), dict(kwargs), facts_of(context, ahead))
        try:
            request = pickle.dumps(call)
        except Exception as error:
            raise InvalidArgumentsError(
                f"the arguments of task {task.name!r} cannot be sent to its process (isolation='process'): {error}"
            ) from error
        if len(request) > LARGEST:
            raise InvalidArgumentsError(too_large(f"what task {task.name!r} is called with", len(request)))
        return IsolatedCall(self, context, request)

    def take(self) -> _Process:
        """Return a process that is ready.

        Raises:
            ProcessDied: it could not be started.
        """
        while True:
            with self._lock:
                one = self._idle.pop() if self._idle else None
            if one is None:
                return self._start()
            if one.alive:
                return one
            self._dispose(one)

    def give_back(self, one: _Process, *, usable: bool) -> None:
        """It is free; ``usable``: for another call, too."""
        with self._lock:
            keep = usable and not self._closed and len(self._idle) < self._spare
            if keep:
                self._idle.append(one)
        if not keep:
            self._dispose(one)
            if not usable and not self._closed:
                threading.Thread(target=self._warm_one, name="tranship-warm", daemon=True).start()

    def close(self) -> None:
        """End them all. Idempotent; blocks for a moment."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for one in idle:
            self._dispose(one)
        # Whoever waits for one of these disposes of it.
        for one in busy:
            one.kill()

    def _warm_one(self) -> None:
        try:
            one = self._start()
        except ProcessDied as error:
            if not self._closed:
                log.warning("a process for isolated tasks could not be started: %s", error)
            return
        with self._lock:
            keep = not self._closed and len(self._idle) < self._spare
            if keep:
                self._idle.append(one)
        if not keep:
            self._dispose(one)

    def _start(self) -> _Process:
        one = _Process(self._modules)
        with self._lock:
            closed = self._closed
            if not closed:
                self._all.add(one)
        try:
            one.wait_ready(closed=closed)
        except BaseException:
            self._dispose(one)
            raise
        return one

    def _dispose(self, one: _Process) -> None:
        one.kill()
        one.close()
        with self._lock:
            self._all.discard(one)


class IsolatedCall:
    """One run of a handler in a process of its own.

    Args:
        isolation: gives the process.
        context: the task's; progress is put down there.
        request: what is sent.
    """

    def __init__(self, isolation: Isolation, context: TaskContext, request: bytes) -> None:
        self._isolation = isolation
        self._context = context
        self._request = request
        self._ended = threading.Event()
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def end(self) -> None:
        """End it, if it runs; it does not begin any more. Any thread; does not wait."""
        with self._lock:
            self._ended.set()
            if self._process is not None:
                self._process.wake()

    def run(self, limit: float | None) -> Ended:
        """Run it, at most ``limit`` seconds; blocks until it has ended, one way or another.

        Raises:
            ProcessDied: no process could be started.
        """
        until = None if limit is None else time.monotonic() + limit
        process = self._isolation.take()
        usable = False
        try:
            with self._lock:
                self._process = process
            ended = process.call(self._request, until, self._ended.is_set, self._told)
            usable = ended.answer is not None and not self._ended.is_set() and process.alive
            return ended
        finally:
            with self._lock:
                self._process = None
            self._isolation.give_back(process, usable=usable)

    def _told(self, what: Progress | str) -> None:
        if isinstance(what, Progress):
            self._context.progress = what.done, what.note
        else:
            log.info("task %s printed: %s", self._context.id, what)


class _Process:
    """One of them."""

    def __init__(self, modules: Sequence[str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._calls, calls = spawn.Pipe()
        pipes = [spawn.Pipe(duplex=False) for _ in range(2)]
        self._printed = {reader.fileno(): (reader, bytearray()) for reader, _ in pipes}
        self._woken, self._waker = spawn.Pipe(duplex=False)
        level = logging.getLogger().getEffectiveLevel()
        writers = [writer for _, writer in pipes]
        self._process = spawn.Process(target=serve, args=(calls, writers, modules, level), name="tranship-isolated")
        self._process.start()
        for theirs in (calls, *writers):
            theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.is_alive()

    def wait_ready(self, *, closed: bool) -> None:
        """Return when it has imported the tasks' modules.

        Raises:
            ProcessDied: it has not, or the worker has been ``closed`` meanwhile.
        """
        if closed:
            raise ProcessDied("the worker has stopped")
        lines: list[str] = []
        until = time.monotonic() + STARTING
        while time.monotonic() < until:
            ready = self._wait([self._calls], until)
            self._read_printed(ready, lines.append)
            if self._calls in ready:
                said = self._receive()
                if isinstance(said, Ready) and not said.problem:
                    return
                raise ProcessDied(said.problem if isinstance(said, Ready) else self._how(lines))
            if self._process.sentinel in ready:
                raise ProcessDied(self._how(lines))
        raise ProcessDied(f"it was not ready within {STARTING:g} s")

    def call(
        self, request: bytes, until: float | None, ended: Callable[[], bool], told: Callable[[Progress | str], None]
    ) -> Ended:
        """Run ``request`` until it answers, ``until`` comes, or ``ended`` says so; ``told`` hears what it prints."""
        too_long, kill_at = False, None
        with contextlib.suppress(OSError):
            self._calls.send_bytes(request)
        while True:
            now = time.monotonic()
            if kill_at is None and (ended() or (until is not None and now >= until)):
                too_long = not ended()
                kill_at = now + GRACE
                self._signal(signal.SIGTERM)
            elif kill_at is not None and now >= kill_at:
                self.kill()
            ready = self._wait([self._calls, self._woken], until if kill_at is None else kill_at)
            self._read_printed(ready, told)
            if self._woken in ready:
                self._woken.recv_bytes()
            said = self._receive() if self._calls in ready else None
            if isinstance(said, Progress):
                told(said)
            elif said is not None:
                self._read_rest(told)
                return Ended(said if kill_at is None else None, too_long=too_long)
            elif self._process.sentinel in ready or self._calls in ready:
                self._read_rest(told)
                return Ended(died=self._how([]), too_long=too_long)

    def wake(self) -> None:
        """Have :meth:`call` look whether it is to end."""
        with contextlib.suppress(OSError):
            self._waker.send_bytes(b"!")

    def kill(self) -> None:
        """End it, with what it has started, and return when it is gone."""
        self._signal(_KILL)
        self._process.join(CLOSING)

    def close(self) -> None:
        """Close what connects us; nobody may be waiting for it."""
        for one in (self._calls, self._woken, self._waker, *(reader for reader, _ in self._printed.values())):
            one.close()

    def _signal(self, number: int) -> None:
        pid = self._process.pid
        if pid is None:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # Also when it is gone itself: what it has started is in its group.
                os.killpg(pid, number)
        if self._process.is_alive():
            self._process.kill() if number == _KILL else self._process.terminate()

    def _wait(self, wanted: list[Any], until: float | None) -> list[Any]:
        left = None if until is None else max(0.0, until - time.monotonic())
        streams = [reader for reader, _ in self._printed.values() if not reader.closed]
        open_ones = [one for one in (*wanted, *streams) if not one.closed]
        return wait([*open_ones, self._process.sentinel], left)

    def _receive(self) -> Any:
        try:
            return pickle.loads(self._calls.recv_bytes())  # noqa: S301 - it comes from our own child
        except (EOFError, OSError):
            return None
        except Exception as error:  # noqa: BLE001 - a value's own code may raise anything
            text = f"what the task returned cannot be read in the worker: {type(error).__name__}: {error}"
            return Failure(pickle.dumps(TypeError(text)), [], text, "")

    def _read_printed(self, ready: Sequence[Any], told: Callable[[str], None]) -> None:
        for reader, rest in self._printed.values():
            if reader in ready:
                self._read(reader, rest, told)

    def _read(self, reader: Connection, rest: bytearray, told: Callable[[str], None]) -> bool:
        data = os.read(reader.fileno(), _PIECE)
        if not data:
            reader.close()
            return False
        rest += data
        *lines, last = bytes(rest).split(b"\n")
        rest[:] = last
        if len(rest) > _PIECE:
            lines.append(bytes(rest))
            rest.clear()
        for line in lines:
            told(line.decode("utf-8", "replace")[:_LINE])
        return True

    def _read_rest(self, told: Callable[[str], None]) -> None:
        for reader, rest in self._printed.values():
            while not reader.closed and reader.poll(0) and self._read(reader, rest, told):
                pass
            if rest:
                told(bytes(rest).decode("utf-8", "replace")[:_LINE])
                rest.clear()

    def _how(self, lines: Sequence[str]) -> str:
        self._process.join(CLOSING)
        code = self._process.exitcode
        last = f"; it printed: {lines[-1]}" if lines else ""
        if code is None or code >= 0:
            return f"it exited with code {code}{last}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (by hand, or because memory was short)" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}{last}"


_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)


def _error_of(failure: Failure) -> BaseException:
    """Return what the handler raised, or something of the same name and bases."""
    if failure.error is not None:
        with contextlib.suppress(Exception):
            error: BaseException = pickle.loads(failure.error)  # noqa: S301 - it comes from our own child
            return error
    kind: Any = BaseException
    for module, name in reversed(failure.names):
        known = getattr(builtins if module == "builtins" else errors, name, None)
        is_known = isinstance(known, type) and module in ("builtins", "tranship.errors")
        kind = (
            known if is_known else type(name.rpartition(".")[2], (kind,), {"__module__": module, "__qualname__": name})
        )
    # Without its __init__, which takes who knows what.
    stand_in: BaseException = kind.__new__(kind)
    stand_in.args = (failure.message,)
    return stand_in
