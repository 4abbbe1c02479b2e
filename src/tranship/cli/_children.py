"""Processes that run ``tranship worker`` for one that watches over them: started, told of signals, ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from typing import IO, TYPE_CHECKING, Any, Final

from tranship._signals import signal_name

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation
    from tranship.cli._work import WorkerOptions

__all__ = ["AS_CHILD", "PATIENCE", "Begun", "Child", "Children", "Ended", "Event", "Listens", "ending"]

log = logging.getLogger("tranship.processes")

AS_CHILD: Final = "--as-child"
"""The option of a child: what it is to do comes on its stdin, so that no password is in a list of processes."""
PATIENCE: Final = 40.0
"""Seconds that a child gets to end, beyond what its tasks get."""
KILLING: Final = 10.0
"""Seconds after which one that is killed is given up: it hangs in the system."""


class Child:
    """A process that runs ``tranship worker``. It stops in good order when this process ends, however that ends.

    Args:
        call: the global options of this run.
        options: what it is to do.
        events: told when it has begun to consume, and when it has ended.
        patience: seconds that its tasks get when it stops, as far as is known before it has begun.

    Raises:
        OSError: it cannot be started.

    Attributes:
        number: which of its siblings it is; None: it has none.
        begun: whether it has begun to consume.
        patience: seconds that its tasks get when it stops.
        started: when, on the monotonic clock.
    """

    def __init__(
        self, call: Invocation, options: WorkerOptions, events: SimpleQueue[Event], *, patience: float
    ) -> None:
        self.number = options.number
        self.begun = False
        self.patience = patience
        self.started = time.monotonic()
        command = [sys.executable, "-m", "tranship", "worker", *options.targets, AS_CHILD]
        reading, writing = os.pipe()
        try:
            # In a group of its own: a Ctrl-C of the terminal comes to us alone, and once to the child.
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.PIPE, process_group=0, **_passing(writing)
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._order({"call": asdict(call), "options": asdict(options), "report": writing})
        for what in (self._hear, self._wait):
            threading.Thread(target=what, args=(events, reading), name=f"tranship-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Close what connects us, after it has ended."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _order(self, order: dict[str, Any]) -> None:
        # One that is dead already says so by ending. The pipe stays open: its end is ours.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(json.dumps(order).encode() + b"\n")
            self._stdin.flush()

    def _hear(self, events: SimpleQueue[Event], report: int) -> None:
        with open(report, "rb") as reports:
            for line in reports:
                if line.endswith(b"\n"):
                    events.put(_told(self, json.loads(line)))

    def _wait(self, events: SimpleQueue[Event], _report: int) -> None:
        events.put(Ended(self, self._process.wait()))


@dataclass(frozen=True)
class Begun:
    """A child consumes now; its tasks get ``patience`` seconds when it stops."""

    child: Child
    patience: float


@dataclass(frozen=True)
class Listens:
    """A child answers health checks on a port of its own; it was asked to at ``host`` and ``wanted``."""

    child: Child
    port: int
    host: str
    wanted: int


@dataclass(frozen=True)
class Ended:
    """A child has ended; ``code`` is negative where a signal has done it."""

    child: Child
    code: int


Event = Begun | Listens | Ended | signal.Signals


class Children:
    """The children of this process. Main thread.

    Args:
        call: the global options of this run.
        patience: seconds that tasks get when a child stops that has not yet said how many.

    Attributes:
        heard: to be called with each signal that comes; it takes no lock.
    """

    def __init__(self, call: Invocation, *, patience: float) -> None:
        self._call = call
        self._patience = patience
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._alive: set[Child] = set()
        self.heard = self._events.put

    def __len__(self) -> int:
        """How many there are."""
        return len(self._alive)

    @property
    def patience(self) -> float:
        """Seconds that the most patient of them gives its tasks."""
        return max((one.patience for one in self._alive), default=self._patience)

    def start(self, options: WorkerOptions) -> Child:
        """Start one.

        Raises:
            OSError: it cannot be started.
        """
        child = Child(self._call, options, self._events, patience=self._patience)
        self._alive.add(child)
        return child

    def next(self, timeout: float | None) -> Event | None:
        """Return what happens next; None: nothing does within ``timeout`` seconds."""
        try:
            event = self._events.get(timeout=None if timeout is None else max(0.0, timeout))
        except Empty:
            return None
        if isinstance(event, Begun):
            event.child.begun, event.child.patience = True, event.patience
        elif isinstance(event, Ended):
            self._alive.discard(event.child)
            event.child.close()
        return event

    def end(self, number: signal.Signals = signal.SIGTERM) -> bool:
        """Tell all of them, and return when they have ended whether a signal has come meanwhile, which is passed on.

        Those that do not end in time are killed.
        """
        self._tell(number)
        signalled = False
        until = time.monotonic() + self.patience + PATIENCE
        killed = False
        while self._alive:
            event = self.next(until - time.monotonic())
            if isinstance(event, signal.Signals):
                signalled = True
                self._tell(event)
            elif event is None and killed:
                break
            elif event is None:
                killed, until = True, time.monotonic() + KILLING
                for child in self._alive:
                    log.error("process %d does not end and is killed", child.pid)
                    child.kill()
        return signalled

    def _tell(self, number: signal.Signals) -> None:
        for child in self._alive:
            child.tell(number)


def ending(code: int) -> str:
    """Return in words how a process ended."""
    return f"exit code {code}" if code >= 0 else signal_name(-code)


def _told(child: Child, said: dict[str, Any]) -> Begun | Listens:
    """Return what a child has reported, see :class:`tranship.cli._assignment.Assignment`."""
    return Begun(child, said["begun"]) if "begun" in said else Listens(child, **said["listens"])


def _passing(descriptor: int) -> dict[str, Any]:
    return {} if os.name == "nt" else {"pass_fds": [descriptor]}
