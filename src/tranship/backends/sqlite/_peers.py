"""Who listens where: the table of peers, and waking them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tranship.backends.sqlite._claims import make_ready
from tranship.backends.sqlite._pipes import Heard, connect
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, Wakes, each

__all__ = ["ENROLL", "FORGET_DEAD", "LEAVE", "ROWS", "SIGNALS", "TASKS", "Enrolment", "Waker"]

MOST_PIPES: Final = 64
"""Pipes kept open by a waker."""
SILENCE: Final = 0.5
"""Seconds for which an address that did not answer is left alone; looks find what a wake-up would have told."""
DEAD: Final = b""
"""Said of a process that is dead: its pipe is removed."""


TASKS: Final = 1
"""Something may have become ready in its queues."""
ROWS: Final = 2
"""A row that is told of was created."""
SIGNALS: Final = 4
"""Something was published."""


class Enrolment(NamedTuple):
    """What one address wants from now on."""

    address: str
    wants: int
    """TASKS, ROWS and SIGNALS together, which are the bits of the byte that wakes it."""
    queues: frozenset[str] = frozenset()

    def is_covered_by(self, other: Enrolment | None) -> bool:
        """Whether ``other`` says everything that this one does."""
        return other is not None and self.wants & ~other.wants == 0 and self.queues <= other.queues


def _enroll(tx: Transaction, enrolment: Enrolment) -> None:
    queues = json.dumps(sorted(enrolment.queues))
    tx.run(
        "INSERT OR REPLACE INTO peer(address, ns, wants, queues, seen) VALUES(?,?,?,?,?)",
        *(enrolment.address, tx.ns, enrolment.wants, queues, tx.now),
    )


def _leave(tx: Transaction, address: str) -> None:
    # What is still leased was claimed for a take that never returned it: not counted.
    _forget(tx, address, uncount=1)


def _forget_dead(tx: Transaction, address: str) -> None:
    _forget(tx, address, uncount=0)
    tx.wakes.dead.add(address)


def _forget(tx: Transaction, address: str, *, uncount: int) -> None:
    tx.run("DELETE FROM peer WHERE address=?", address)
    rows = tx.rows("SELECT seq FROM task WHERE state=2 AND owner=?", address)
    make_ready(tx, [seq for (seq,) in rows], uncount=uncount)


ENROLL: Final = Kind("enroll", each(_enroll), Mode.SOFT)
LEAVE: Final = Kind("leave", each(_leave), Mode.SOFT)
FORGET_DEAD: Final = Kind("return the leases of a dead process", each(_forget_dead), Mode.SOFT)


class Waker:
    """Wakes other processes, and this one, from the writer's thread; keeps their pipes open.

    Args:
        places: where pipes may be.
        died: called with the address of a peer that is dead.
    """

    def __init__(self, places: list[Path], died: Callable[[str], None]) -> None:
        self._places = places
        self._died = died
        self._pipes: dict[str, int] = {}
        self._silent: dict[str, float] = {}
        """Addresses nobody answered at, and until when they are not tried again (monotonic seconds)."""

    def choose(self, tx: Transaction) -> list[tuple[str, bytes]]:
        """Say whom to wake for what once ``tx`` is committed."""
        wakes = tx.wakes
        chosen = []
        if wakes.queues or wakes.rows or wakes.signals:
            for address, wants, queues in tx.rows("SELECT address, wants, queues FROM peer WHERE ns=?", tx.ns):
                why = _reasons(wakes, wants, queues)
                if why:
                    chosen.append((address, bytes([why])))
        return [*chosen, *((address, DEAD) for address in wakes.dead)]

    def wake(self, wakes: list[tuple[str, bytes]]) -> None:
        """Write a byte into each pipe; a full one has a wake-up pending anyway."""
        for address, why in wakes:
            if why == DEAD:
                for place in self._places:
                    with contextlib.suppress(OSError):
                        (place / address).unlink()
            elif self._wake(address, why) is Heard.DEAD:
                self._died(address)

    def close(self) -> None:
        """Close all pipes."""
        while self._pipes:
            _, descriptor = self._pipes.popitem()
            os.close(descriptor)

    def _wake(self, address: str, why: bytes) -> Heard:
        descriptor = self._pipes.get(address)
        if descriptor is not None:
            if _write(descriptor, why):
                return Heard.ALIVE
            with contextlib.suppress(OSError):
                os.close(self._pipes.pop(address))
            # No death yet: a living process makes its pipe again after somebody swept it away.
        elif self._silent.get(address, 0.0) > time.monotonic():
            return Heard.ALIVE
        found = self._connect(address)
        if isinstance(found, Heard):
            return found
        _write(found, why)
        return Heard.ALIVE

    def _connect(self, address: str) -> int | Heard:
        found = connect(address, self._places)
        if isinstance(found, Heard):
            if len(self._silent) >= MOST_PIPES:
                self._silent.clear()
            self._silent[address] = time.monotonic() + SILENCE
        else:
            if len(self._pipes) >= MOST_PIPES:
                os.close(self._pipes.pop(next(iter(self._pipes))))
            self._pipes[address] = found
        return found


def _write(descriptor: int, why: bytes) -> bool:
    """Say whether the pipe has a reader; a full one has."""
    try:
        os.write(descriptor, why)
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _reasons(wakes: Wakes, wants: int, queues: str) -> int:
    found = (wants & ROWS if wakes.rows else 0) | (wants & SIGNALS if wakes.signals else 0)
    if wakes.queues and wants & TASKS and not wakes.queues.isdisjoint(_names(queues)):
        found |= TASKS
    return found


@functools.lru_cache(maxsize=256)
def _names(queues: str) -> frozenset[str]:
    return frozenset(json.loads(queues))
