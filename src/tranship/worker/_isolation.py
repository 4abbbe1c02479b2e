"""Processes for tasks with ``isolation="process"``: one task at a time in each, and they can be ended for certain."""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tranship.errors import ConfigurationError, InvalidArgumentsError, ProcessDied, TaskCancelled, TranshipError
from tranship.outcomes import Progress
from tranship.task import Task, TaskContext, Telling, telling_of
from tranship.worker._isolated import LARGEST, Call, Part, facts_of, find, too_large
from tranship.worker._isolated_process import CLOSING, Ended, IsolatedProcess

__all__ = ["IsolatedCall", "Isolation", "check_isolated"]

log = logging.getLogger("tranship.worker")


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
        self._idle: list[IsolatedProcess] = []
        self._all: set[IsolatedProcess] = set()
        self._old: set[IsolatedProcess] = set()
        """Those that run no other call."""
        self._lock = threading.Lock()
        self._beginnings = threading.Condition(self._lock)
        self._beginning = 0
        """How many are being started by other threads right now."""
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

    def take(self) -> IsolatedProcess:
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

    def give_back(self, one: IsolatedProcess, *, usable: bool) -> None:
        """It is free; ``usable``: for another call, too."""
        with self._lock:
            keep = usable and not self._closed and one not in self._old and len(self._idle) < self._spare
            if keep:
                self._idle.append(one)
        if not keep:
            self._dispose(one)
            if not usable and not self._closed:
                threading.Thread(target=self._warm_one, name="tranship-warm", daemon=True).start()

    def renew(self) -> None:
        """Have new processes run what comes from now on; those that are busy end with their call."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._old |= self._all.difference(idle)
        for one in idle:
            self._dispose(one)
        self.warm()

    def close(self) -> None:
        """End them all. Idempotent; blocks for a moment."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            # A process that is half started when this one ends would say so with a traceback.
            self._beginnings.wait_for(lambda: not self._beginning, CLOSING)
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

    def _start(self) -> IsolatedProcess:
        one = self._begin()
        try:
            one.wait_ready()
        except BaseException:
            self._dispose(one)
            raise
        return one

    def _begin(self) -> IsolatedProcess:
        """Return one that has been started and is not ready.

        Raises:
            ProcessDied: it could not be started, or the worker has stopped.
        """
        with self._lock:
            if self._closed:
                raise ProcessDied("the worker has stopped")
            self._beginning += 1
        one = None
        try:
            one = IsolatedProcess(self._modules)
        except OSError as error:
            raise ProcessDied(f"it could not be started: {error}") from error
        finally:
            with self._lock:
                self._beginning -= 1
                if one is not None:
                    self._all.add(one)
                self._beginnings.notify_all()
        return one

    def _dispose(self, one: IsolatedProcess) -> None:
        one.kill()
        one.close()
        with self._lock:
            self._all.discard(one)
            self._old.discard(one)


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
        self._process: IsolatedProcess | None = None
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

    def _told(self, what: Progress | Part | str) -> None:
        telling = telling_of(self._context)
        if isinstance(what, Progress):
            self._context.last_progress = what
            if telling is not None:
                telling.progress(what)
        elif isinstance(what, Part):
            if telling is not None:
                self._pass_on(what, telling)
        else:
            log.info("task %s printed: %s", self._context.id, what, extra=self._context.info)

    def _pass_on(self, part: Part, telling: Telling) -> None:
        """Not faster than it can be sent: the process waits for its pipe meanwhile."""
        try:
            telling.emit(part.data)
            telling.block(self._check)
        except TranshipError as error:
            log.warning("task %s: a part of it is lost: %s", self._context.id, error)

    def _check(self) -> None:
        if self._ended.is_set():
            raise TaskCancelled(f"task {self._context.id} has to stop", task_id=self._context.id)
