"""One process for isolated tasks: started, given calls, heard, ended."""

from __future__ import annotations

import builtins
import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from tranship import codec, errors
from tranship._signals import signal_name
from tranship.errors import ProcessDied
from tranship.outcomes import Progress
from tranship.worker._isolated import Answer, Failure, Part, Ready, serve

__all__ = ["Ended", "IsolatedProcess"]

GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL: for the handler's own ``finally``."""
STARTING: Final = 60.0
"""Seconds that a process may take to import the tasks' modules."""
CLOSING: Final = 2.0
"""Seconds after which one that is killed is given up: it hangs in the system."""
_LINE: Final = 10_000
"""Characters of a printed line in the log."""
_PIECE: Final = 65_536
_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)


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


class IsolatedProcess:
    """One of a worker's; it is being started when this is made. One thread at a time, but for :meth:`wake`.

    Args:
        modules: what it imports before it is ready.
    """

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

    def wait_ready(self) -> None:
        """Return when it has imported the tasks' modules.

        Raises:
            ProcessDied: it has not.
        """
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
        self,
        request: bytes,
        until: float | None,
        ended: Callable[[], bool],
        told: Callable[[Progress | Part | str], None],
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
            if isinstance(said, Progress | Part):
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
            return Failure(pickle.dumps(TypeError(text)), [], text, b"[]", "")

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
        name = signal_name(-code)
        hint = " (by hand, or because memory was short)" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}{last}"


def _error_of(failure: Failure) -> BaseException:
    """Return what the handler raised, or something of the same name and bases."""
    if failure.error is not None:
        with contextlib.suppress(Exception):
            error: BaseException = pickle.loads(failure.error)  # noqa: S301 - it comes from our own child
            return error
    kind: Any = BaseException
    is_known = True
    for module, name in reversed(failure.names):
        known = getattr(builtins if module == "builtins" else errors, name, None)
        is_known = isinstance(known, type) and module in ("builtins", "tranship.errors")
        own = {"__module__": module, "__qualname__": name, "__str__": lambda _: failure.message}
        kind = known if is_known else type(name.rpartition(".")[2], (kind,), own)
    # Without its __init__, which takes who knows what.
    stand_in: BaseException = kind.__new__(kind)
    stand_in.args = (failure.message,) if is_known else tuple(codec.loads(failure.arguments, codec.JSON))
    return stand_in
