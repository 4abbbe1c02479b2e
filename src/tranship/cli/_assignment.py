"""The other end of :mod:`tranship.cli._children`: what a child is told to do, and what it hears and says of that."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import sys
import threading
from dataclasses import dataclass
from typing import Any

import typer

from tranship.cli._children import AS_CHILD
from tranship.cli._invocation import Invocation
from tranship.cli._work import WorkerOptions

__all__ = ["Assignment", "receive"]

log = logging.getLogger("tranship.processes")


@dataclass(frozen=True)
class Assignment:
    """What this process is to do.

    Attributes:
        call: the global options.
        options: what its worker is like.
        report: a descriptor on which to say where it listens, and that it has begun.
    """

    call: Invocation
    options: WorkerOptions
    report: int

    def begun(self, patience: float) -> None:
        """Tell the parent that this process consumes, and gives its tasks ``patience`` seconds when it stops."""
        self._tell({"begun": patience})
        with contextlib.suppress(OSError):
            os.close(self.report)

    def listens(self, port: int, host: str, wanted: int) -> None:
        """Tell the parent where this process answers health checks, and where it was asked to."""
        self._tell({"listens": {"port": port, "host": host, "wanted": wanted}})

    def _tell(self, said: dict[str, Any]) -> None:
        # A parent that has ended is heard of otherwise.
        with contextlib.suppress(OSError):
            os.write(self.report, json.dumps(said).encode() + b"\n")


def receive() -> Assignment:
    """Read from stdin what to do, and stop in good order as soon as the parent has ended. Once in a process.

    Raises:
        BadParameter: nobody of ours has started this process.
    """
    orders = _orders()
    line = orders.readline()
    if not line.endswith(b"\n"):
        # The parent has ended before it could say anything.
        raise typer.Exit
    given: dict[str, Any] = json.loads(line)
    threading.Thread(target=_outlive, args=(orders,), name="tranship-parent", daemon=True).start()
    report = given["report"]
    if os.name != "nt":
        os.set_inheritable(report, False)
    return Assignment(Invocation(**given["call"]), WorkerOptions(**given["options"]), report)


def _orders() -> Any:
    try:
        descriptor = sys.stdin.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError, ValueError):
        is_pipe = False
    if not is_pipe:
        raise typer.BadParameter("is for processes that tranship itself starts; see --processes", param_hint=AS_CHILD)
    orders = open(os.dup(descriptor), "rb")  # noqa: SIM115, PTH123 - a descriptor, for as long as the process lives
    # Handlers, and what they start, find an empty stdin, and do not eat what is ours.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return orders


def _outlive(orders: Any) -> None:
    orders.read()
    log.warning("the process that has started this one has ended; stopping")
    # As whoever stops it by hand: it may be at work, or still importing the tasks' modules.
    os.kill(os.getpid(), signal.SIGTERM)
