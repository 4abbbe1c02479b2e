"""Who listens where: the table of peers, and ringing them."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tranship.backends.sqlite._bell import Heard, connect
from tranship.backends.sqlite._claims import make_ready
from tranship.backends.sqlite._transaction import Kind, Mode, Rings, Transaction, each

__all__ = ["BURY", "ENROLL", "LEAVE", "RESULTS", "SIGNALS", "TASKS", "Enrolment", "Ringer", "Wants"]

TASKS: Final = b"t"
RESULTS: Final = b"r"
SIGNALS: Final = b"s"
NOTHING: Final = b""
"""Said of a process that is dead: its pipe is removed."""

MOST_PIPES: Final = 64
"""Pipes kept open by a ringer."""
SILENCE: Final = 0.5
"""Seconds for which an address that did not answer is left alone; looks find what a ring would have told."""


class Wants(enum.IntFlag):
    """What a peer is rung for, beside the results that are addressed to it."""

    NOTHING = 0
    TASKS = 1
    FOREIGN_RESULTS = 2
    SIGNALS = 4


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What one address wants from now on."""

    address: str
    wants: Wants
    queues: Collection[str] = ()


def _enroll(tx: Transaction, enrolment: Enrolment) -> None:
    queues = json.dumps(sorted(enrolment.queues))
    tx.run(
        "INSERT OR REPLACE INTO peer(address, ns, wants, queues, seen) VALUES(?,?,?,?,?)",
        *(enrolment.address, tx.ns, int(enrolment.wants), queues, tx.now),
    )


def _leave(tx: Transaction, address: str) -> None:
    # What is still leased was claimed for a call that never returned it: not counted.
    _forget(tx, address, uncount=1)


def _bury(tx: Transaction, address: str) -> None:
    _forget(tx, address, uncount=0)
    tx.rings.dead.add(address)


def _forget(tx: Transaction, address: str, *, uncount: int) -> None:
    tx.run("DELETE FROM peer WHERE address=?", address)
    rows = tx.rows("SELECT seq FROM task WHERE state=2 AND owner=?", address)
    make_ready(tx, [seq for (seq,) in rows], uncount=uncount)


ENROLL: Final = Kind("enroll", each(_enroll), Mode.SOFT)
LEAVE: Final = Kind("leave", each(_leave), Mode.SOFT)
BURY: Final = Kind("return the leases of a dead process", each(_bury), Mode.SOFT)


class Ringer:
    """Rings other processes, and this one, from the writer's thread; keeps their pipes open.

    Args:
        places: where pipes may be.
        lost: called with the address of a peer that is dead, or whose pipe is not there.
    """

    def __init__(self, places: list[Path], lost: Callable[[str, Heard], None]) -> None:
        self._places = places
        self._lost = lost
        self._pipes: dict[str, int] = {}
        self._silent: dict[str, float] = {}
        """Addresses nobody answered at, and until when they are not tried again (monotonic seconds)."""

    def choose(self, tx: Transaction) -> list[tuple[str, bytes]]:
        """Say whom to ring with what once ``tx`` is committed."""
        rings: Rings = tx.rings
        chosen = dict.fromkeys(rings.replies, RESULTS)
        if rings.queues or rings.results or rings.signals:
            for address, wants, queues in tx.rows("SELECT address, wants, queues FROM peer WHERE ns=?", tx.ns):
                why = _reasons(rings, Wants(wants), queues)
                if why:
                    chosen[address] = chosen.get(address, b"") + why
        return [*chosen.items(), *((address, NOTHING) for address in rings.dead)]

    def ring(self, rings: list[tuple[str, bytes]]) -> None:
        """Write a few bytes into each pipe; a full one has a wake-up pending anyway."""
        for address, why in rings:
            if why == NOTHING:
                self._remove(address)
                continue
            heard = self._ring(address, why)
            if heard is not Heard.ALIVE:
                self._lost(address, heard)

    def close(self) -> None:
        """Close all pipes."""
        while self._pipes:
            _, descriptor = self._pipes.popitem()
            os.close(descriptor)

    def _ring(self, address: str, why: bytes) -> Heard:
        descriptor = self._pipes.get(address)
        if descriptor is None:
            if self._silent.get(address, 0.0) > time.monotonic():
                return Heard.ALIVE
            found = self._connect(address)
            if isinstance(found, Heard):
                self._note_silence(address)
                return found
            descriptor = found
        if _write(descriptor, why):
            return Heard.ALIVE
        with contextlib.suppress(OSError):
            os.close(self._pipes.pop(address))
        # No death yet: a living process makes its pipe again after somebody swept it away.
        found = self._connect(address)
        if isinstance(found, Heard):
            return found
        _write(found, why)
        return Heard.ALIVE

    def _note_silence(self, address: str) -> None:
        """Results of a client that has gone come by the thousand: do not look for its pipe for each of them."""
        if len(self._silent) >= MOST_PIPES:
            self._silent.clear()
        self._silent[address] = time.monotonic() + SILENCE

    def _remove(self, address: str) -> None:
        for place in self._places:
            with contextlib.suppress(OSError):
                (place / address).unlink()

    def _connect(self, address: str) -> int | Heard:
        found = connect(address, self._places)
        if isinstance(found, Heard):
            return found
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


def _reasons(rings: Rings, wants: Wants, queues: str) -> bytes:
    why = b""
    if rings.queues and wants & Wants.TASKS and not rings.queues.isdisjoint(json.loads(queues)):
        why += TASKS
    if rings.results and wants & Wants.FOREIGN_RESULTS:
        why += RESULTS
    if rings.signals and wants & Wants.SIGNALS:
        why += SIGNALS
    return why
