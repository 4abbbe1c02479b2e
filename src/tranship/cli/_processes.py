"""Several processes that run the same worker: started one after another, replaced when they end, ended together."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import typer

from tranship._signals import heard
from tranship.cli._children import PATIENCE, Begun, Child, Children, Ended, Listens, ending
from tranship.cli._errors import ExitCode
from tranship.cli._family_health import FamilyHealth
from tranship.cli._recycling import DISMISSED, RECYCLED
from tranship.errors import ConfigurationError, TranshipError

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation
    from tranship.cli._work import Parent, WorkerOptions

__all__ = ["work_in_processes"]

log = logging.getLogger("tranship.processes")

FIRST: Final = 10.0
"""Seconds for which the others wait for the first to consume: what is wrong with one is wrong with all, and importing
the application may take long."""
APART: Final = 0.1
"""Seconds between two starts."""
YOUNG: Final = 10.0
"""A process that ends sooner (seconds) has a reason to, and its successor is not started at once."""
PAUSE: Final = 0.5
"""Seconds before the successor of one that ended young; twice as many each time."""
LONGEST_PAUSE: Final = 30.0
STILLBORN: Final = 5
"""So many in a row that end before they consume: trying again does not help."""


def work_in_processes(call: Invocation, options: WorkerOptions, *, parent: Parent | None = None) -> None:
    """Keep ``options.processes`` processes at work until a signal, which all are told; a second one as well.

    Args:
        call: the global options.
        options: what each of them does; without a number of them there is one.
        parent: told, once the first consumes, how many seconds it takes to end all at most.

    Raises:
        ConfigurationError: the platform cannot do it, or health checks cannot be answered.
        TranshipError: they end again and again before they consume.
        Exit: one could not work for a reason that holds for all.
    """
    if os.name == "nt":
        raise ConfigurationError("--processes needs signals and process groups, which Windows does not have")
    settings = call.settings(**options.settings)
    call.log(logging.INFO, json_lines=options.log_format == "json")
    family = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    amount = options.processes or 1
    children = Children(call, patience=settings.shutdown_timeout)
    processes = Processes(children, replace(options, processes=amount, family=family), parent=parent)
    with contextlib.closing(processes.health) as health:
        if settings.health_port is not None:
            # From before anything is started; what only a worker's module says is known when it listens.
            health.open(settings.health_host, settings.health_port)
        processes.run()


@dataclass(eq=False)
class Place:
    """One of the processes, whoever fills it.

    Attributes:
        number: from 1.
        start_at: when the next is to be started, on the monotonic clock; None: one is there, or none is wanted.
        died_young: how many in a row.
    """

    number: int
    start_at: float | None = 0.0
    died_young: int = 0


class Processes:
    """What keeps them at work. One loop over what happens: children that begin and end, signals, and the clock.

    Attributes:
        health: answers for all of them.
    """

    def __init__(self, children: Children, options: WorkerOptions, *, parent: Parent | None) -> None:
        self._children = children
        self._options = options
        self._parent = parent
        assert options.processes is not None
        self.health = FamilyHealth(options.processes)
        self._places = [Place(number) for number in range(1, options.processes + 1)]
        self._not_before = 0.0
        """When the next may be started."""
        self._proven = False
        """Whether one of them has ever begun to consume."""
        self._stillborn = 0

    def run(self) -> None:
        """Run until a signal, or with ``--burst`` until all have ended; none is left."""
        log.info("process %d keeps %d at work", os.getpid(), len(self._places))
        with heard(self._children.heard):
            try:
                while len(self._children) or self._waiting():
                    self._start_next()
                    event = self._children.next(self._until_start())
                    if isinstance(event, signal.Signals):
                        log.info("stopping %d processes (%s)", len(self._children), event.name)
                        self._children.end(event)
                        return
                    if isinstance(event, Begun):
                        self._begun(event)
                    elif isinstance(event, Listens):
                        self.health.open(event.host, event.wanted)
                        self.health.listens(event.child.number or 1, event.port)
                    elif isinstance(event, Ended):
                        self._ended(self._places[(event.child.number or 1) - 1], event.child, event.code)
            finally:
                self._children.end()

    def _waiting(self) -> list[Place]:
        return [one for one in self._places if one.start_at is not None]

    def _until_start(self) -> float | None:
        due = min((one.start_at for one in self._places if one.start_at is not None), default=None)
        return None if due is None else max(due, self._not_before) - time.monotonic()

    def _start_next(self) -> None:
        now = time.monotonic()
        place = min(self._waiting(), key=lambda one: one.start_at or 0.0, default=None)
        if place is None or now < max(place.start_at or 0.0, self._not_before):
            return
        place.start_at = None
        self._not_before = now + (APART if self._proven else FIRST)
        try:
            self._children.start(replace(self._options, number=place.number))
        except OSError as error:
            self._later(place, f"process {place.number} could not be started: {error}", begun=False)

    def _begun(self, event: Begun) -> None:
        self._stillborn = 0
        if self._proven:
            return
        self._proven, self._not_before = True, 0.0
        if self._parent is not None:
            self._parent.begun(event.patience + PATIENCE)

    def _ended(self, place: Place, child: Child, code: int) -> None:
        self.health.ended(place.number)
        if not self._proven:
            # Nothing comes of waiting for this one.
            self._not_before = 0.0
        if code == RECYCLED:
            place.start_at, place.died_young = 0.0, 0
        elif code == DISMISSED:
            log.info("process %d was told by remote control to stop; nobody takes its place", place.number)
        elif code == ExitCode.OK and self._options.burst:
            log.info("process %d has nothing left to do", place.number)
        elif self._holds_for_all(code):
            # It has said why.
            raise typer.Exit(code)
        else:
            said = f"process {place.number} (pid {child.pid}) has ended: {ending(code)}"
            if time.monotonic() - child.started >= YOUNG:
                place.died_young = 0
                log.warning("%s; another takes its place", said)
                place.start_at = 0.0
            else:
                self._later(place, said, begun=child.begun)

    def _holds_for_all(self, code: int) -> bool:
        if code == ExitCode.FAILURE:
            return not self._proven
        return code in (ExitCode.USAGE, ExitCode.UNREACHABLE)

    def _later(self, place: Place, said: str, *, begun: bool) -> None:
        self._stillborn += not begun
        if self._stillborn >= STILLBORN:
            raise TranshipError(
                f"{said}. It is the {STILLBORN}th in a row that ended before it consumed anything; starting more of "
                "them does not help"
            )
        pause = min(PAUSE * 2**place.died_young, LONGEST_PAUSE)
        place.died_young += 1
        place.start_at = time.monotonic() + pause
        log.warning("%s; another takes its place in %g s", said, pause)
