"""Who else uses the file, and wake-ups across processes: every backend listens at a named pipe, and wakes others by
writing a byte into theirs.

The pipe also tells whether its process lives: opening the pipe of a dead one finds no reader, however the process
died. A wake-up is only a hint after a commit; who misses it looks again soon all the same (``_connection``).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import functools
import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NamedTuple

from tranship.backends.sqlite._file import Identity
from tranship.backends.sqlite._tasks import make_ready
from tranship.backends.sqlite._transaction import Kind, Mode, Transaction, Wakes, each

__all__ = [
    "ENROLL",
    "FORGET_DEAD",
    "LEAVE",
    "ROWS",
    "SIGNALS",
    "TASKS",
    "Enrolment",
    "Heard",
    "WakePipe",
    "Waker",
    "connect",
    "dead_pipes",
    "directories",
    "probe",
    "sweep",
]

OLD: Final = 86400.0
"""Seconds after which a dead pipe of another database is no evidence any more: its leases are long over."""

_NOBODY: Final = errno.ENXIO


class Heard(enum.Enum):
    """What became of a wake-up, or of a probe."""

    ALIVE = "alive"
    DEAD = "dead"
    """The pipe has no reader."""
    UNKNOWN = "unknown"
    """There is no such pipe here: swept away, or in another container."""


def directories(identity: Identity) -> list[Path]:
    """Where pipes for the file of this ``identity`` may be, in order of preference.

    Short names, keyed by device and inode, and not beside the database: its directory may be on anything.
    """
    uid = os.getuid() if hasattr(os, "getuid") else 0
    key = f"{identity[0]:x}-{identity[1]:x}"
    runtime = [Path(found, "tranship") for found in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{uid}") if found]
    shared = [Path(parent, f"tranship-{uid}") for parent in (tempfile.gettempdir(), "/tmp")]  # noqa: S108 - made private
    return [directory / key for directory in dict.fromkeys(runtime + shared)]


def probe(address: str, places: list[Path]) -> Heard:
    """Say whether the process with this address lives."""
    descriptor = connect(address, places)
    if isinstance(descriptor, Heard):
        return descriptor
    os.close(descriptor)
    return Heard.ALIVE


def connect(address: str, places: list[Path]) -> int | Heard:
    """Open the pipe of ``address`` for waking its process."""
    if "/" in address or "\0" in address or address.startswith("."):
        # It came from another process, and is only a name.
        return Heard.UNKNOWN
    for place in places:
        try:
            return os.open(place / address, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == _NOBODY:
                return Heard.DEAD
    return Heard.UNKNOWN


def dead_pipes(places: list[Path], *, known: Collection[str] = (), age: float = 0.0) -> list[str]:
    """Addresses of processes that died without taking their pipe away.

    A pipe is the evidence of a death: it goes only after what the process held has been returned.

    Args:
        places: where pipes may be.
        known: those that need no look.
        age: seconds that a pipe must have been there; whoever makes one listens to it a moment later.
    """
    found = (pipe for place in places for pipe in _inside(place) if pipe.name not in known)
    return [pipe.name for pipe in found if _is_old(pipe, age) and probe(pipe.name, [pipe.parent]) is Heard.DEAD]


def _is_old(pipe: Path, age: float) -> bool:
    try:
        return not age or time.time() - pipe.lstat().st_mtime >= age
    except OSError:
        return False  # gone, with its process


def sweep(places: list[Path]) -> None:
    """Delete what was left behind in other directories, by processes of databases that nobody opens any more."""
    for place in places:
        for directory in _inside(place.parent):
            if directory not in places:
                with contextlib.suppress(OSError):
                    _sweep(directory)


def _sweep(directory: Path) -> None:
    for pipe in _inside(directory):
        if time.time() - pipe.lstat().st_mtime > OLD and probe(pipe.name, [directory]) is Heard.DEAD:
            pipe.unlink(missing_ok=True)
    directory.rmdir()


def _inside(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir()) if directory.lstat().st_uid == os.getuid() else []
    except OSError:
        return []


class WakePipe:
    """The pipe of one backend. :attr:`address` is its name, also where there can be no pipe (Windows)."""

    def __init__(self, identity: Identity) -> None:
        self.places = directories(identity)
        self.address = f"{os.getpid():x}-{secrets.token_hex(6)}"
        self._path: Path | None = None
        self._reader = -1
        self._writer = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Make the pipe; without one everybody relies on looking at intervals."""
        if not hasattr(os, "mkfifo"):
            return
        sweep(self.places)
        # Twice: somebody who sweeps may remove a directory that is still empty.
        for place in self.places * 2:
            with contextlib.suppress(OSError):
                self._make(place)
                return

    def listen(self, loop: asyncio.AbstractEventLoop, woken: Callable[[], None]) -> None:
        """Have ``loop`` call ``woken`` when somebody writes into the pipe."""
        if self._reader >= 0:
            self._loop = loop
            loop.add_reader(self._reader, woken)

    def drain(self) -> bytes:
        """What has been written into it since the last time."""
        try:
            return os.read(self._reader, 65536)
        except (BlockingIOError, OSError):
            return b""

    @property
    def missing(self) -> bool:
        """Whether somebody swept the pipe away (a cleaner of temporary files)."""
        return self._path is not None and not self._path.exists()

    def close(self) -> None:
        """Stop listening and remove the pipe, and its directory when it was the last."""
        if self._path is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._reader)
        self._drop()
        with contextlib.suppress(OSError):
            self._path.unlink()
            self._path.parent.rmdir()
        self._path = None

    def abandon(self) -> None:
        """Close the descriptors only: what a forked child does, lest it keep a dead parent's pipe alive.

        The loop's selector is shared with the parent and must not hear of it.
        """
        self._path = None
        self._drop()

    def _drop(self) -> None:
        for descriptor in (self._reader, self._writer):
            if descriptor >= 0:
                os.close(descriptor)
        self._reader = self._writer = -1

    def _make(self, place: Path) -> None:
        _private(place)
        # Renamed only when there is a reader, or a probe in between would take us for dead.
        unborn = place / f".{self.address}"
        os.mkfifo(unborn, 0o600)
        self._reader = os.open(unborn, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Our own write end keeps the loop from seeing the end of the stream whenever somebody closes his.
        self._writer = os.open(unborn, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._path = unborn.rename(place / self.address)


def _private(place: Path) -> None:
    for directory in (place.parent, place):
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "somebody else could write here", str(directory))


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
