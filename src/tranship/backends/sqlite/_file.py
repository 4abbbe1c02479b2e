"""The database file: where it is, whether it may be used there, whether it is still the one we opened; and two locks,
one between processes, a file beside it, and one that a fork of this process waits for.

The lock file serialises commits, checkpoints and closing. It replaces SQLite's busy handler, which sleeps up to 100 ms
while others take the lock again and again, and it keeps a checkpoint from running beside a commit that resets the log
(a bug of SQLite up to 3.51.2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from tranship.errors import BrokerGone, BrokerRefused, BrokerUnreachable, InvalidURLError
from tranship.settings import BrokerURL, state_file

if sys.platform != "win32":
    import fcntl

__all__ = ["ForkGate", "Gate", "Identity", "Location", "SideLock", "file_system", "locate", "refuse_network"]

NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"smb", "smb2", "smb3", "smbfs"}
)
"""File systems whose locks and shared memory do not reach across their hosts."""

PRIVATE: Final = 0o600

Identity = tuple[int, int]
"""Device and inode."""


class Location:
    """A database file by its absolute path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: Identity | None = None
        """What it was when it was opened."""

    @property
    def lock_path(self) -> Path:
        """The file whose lock serialises commits and checkpoints."""
        return self.path.with_name(self.path.name + ".lock")

    @property
    def wal_path(self) -> Path:
        """SQLite's write-ahead log."""
        return self.path.with_name(self.path.name + "-wal")

    def create(self) -> None:
        """Make the file, for its owner's eyes only, if it is not there: what tasks carry is nobody else's business.

        SQLite gives its log and its index the same rights. A file that is there keeps those it has.
        """
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), PRIVATE))

    def settle(self) -> Identity:
        """Remember what the file is now. ``stat`` is safe: opening and closing it would drop SQLite's locks."""
        self.identity = self._now()
        return self.identity

    def verify(self) -> None:
        """Raise when the path does not lead to the opened file any more: writes would go nowhere.

        Raises:
            BrokerGone: the file was deleted, moved or replaced.
        """
        if not self.is_same():
            raise BrokerGone(f"the database {self.path} was deleted, moved or replaced while it was open; open it anew")

    def is_same(self) -> bool:
        """Whether the path still leads to the opened file."""
        try:
            return self._now() == self.identity
        except OSError:
            return False

    def _now(self) -> Identity:
        status = os.stat(self.path)  # noqa: PTH116 - called before every transaction; Path.stat costs twice as much
        return status.st_dev, status.st_ino


def locate(url: BrokerURL, *, allow_network_fs: bool) -> Location:
    """Return the file ``url`` stands for; the default file's directory is created.

    ``sqlite:////abs/file``: absolute; ``sqlite:///file``: from the current directory; ``sqlite://``: the default.

    Raises:
        InvalidURLError: the URL names a host or no file.
        BrokerRefused: the directory is missing or on a network file system.
    """
    path = _path(url)
    if not path.parent.is_dir():
        raise BrokerRefused(f"the directory {path.parent} of the database {path} does not exist; create it")
    if not allow_network_fs:
        refuse_network(path, _mount_table())
    return Location(path)


def refuse_network(path: Path, table: str) -> None:
    """Refuse a file on a network file system, by the mount table's text.

    Raises:
        BrokerRefused: it is on one.
    """
    kind = file_system(path, table)
    if kind in NETWORK:
        raise BrokerRefused(
            f"the database {path} is on a network file system ({kind}), where SQLite may lose data; use a local "
            "disk or a network broker, or add allow_network_fs=true if only one host ever uses it"
        )


def _path(url: BrokerURL) -> Path:
    if url.host:
        raise InvalidURLError(f"{url} names a host; a file is sqlite:///relative or sqlite:////absolute (slashes!)")
    default = state_file(os.environ)
    # Settings spell the default out, so that it can be shown.
    if url.path in ("", "/") or url.path[1:] == default.as_posix():
        default.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return default.resolve()
    name = url.path[1:]
    if name == ":memory:" or name.endswith("/"):
        raise InvalidURLError(f"{url} names no file; use memory:// for tasks in memory")
    return Path(name).expanduser().resolve()


def _mount_table() -> str:
    """The kernel's list of mounts; empty where there is none."""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def file_system(path: Path, table: str) -> str:
    """Return the type of the file system that holds ``path`` (absolute, without links); empty: unknown."""
    best, kind = "", ""
    for point, found in _mounts(table):
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        # A later mount on the same point hides the earlier one.
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _mounts(table: str) -> Iterator[tuple[str, str]]:
    for line in table.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if dash and len(fields) > 4 and after:
            yield _unescaped(fields[4]), after.split()[0]


def _unescaped(text: str) -> str:
    for octal, plain in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, plain)
    return text


_NO_FILE: Final = {
    errno.ELOOP: "is a symbolic link",
    errno.EMLINK: "is a symbolic link",
    errno.EISDIR: "is a directory",
    errno.ENXIO: "is no plain file",
}
"""What opening something else than a file says."""

_FIRST_PAUSE: Final = 0.00005
_LONGEST_PAUSE: Final = 0.001


class SideLock:
    """An ``flock`` on its own file; not reentrant. Where there is no ``flock`` it does nothing.

    It is polled and not waited for, so that a process which was stopped while holding it (SIGSTOP) cannot
    hang the others beyond ``patience`` seconds.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._descriptor: int | None = None
        # Not the module's own state, which is the application's to seed.
        self._random = random.Random()

    def open(self, beside: Path | None = None) -> None:
        """Open the lock file, creating it if need be; it is never deleted.

        Args:
            beside: the file it stands beside, whose rights a new one gets; None: for its owner only.

        Raises:
            BrokerRefused: what is there is a link, no file, or somebody else's.
        """
        if sys.platform == "win32":
            return
        try:
            self._descriptor = _open(self._path, beside)
            _check(self._path, self._descriptor, beside)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise _refused(self._path, _NO_FILE[error.errno]) from error
        except BrokerRefused:
            self.close()
            raise

    def try_acquire(self) -> bool:
        """Take the lock if it is free."""
        return self._try()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BrokerUnreachable: another process has kept it for longer than ``patience``.
        """
        if self._try():
            return
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while not self._try():
            if time.monotonic() > until:
                raise BrokerUnreachable(
                    f"another process has held {self._path} for {self._patience:g} s; is it stopped or hung?"
                )
            time.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def release(self) -> None:
        """Let go."""
        if sys.platform != "win32" and self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock file. In a forked child this leaves the parent's lock alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _try(self) -> bool:
        if sys.platform == "win32" or self._descriptor is None:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


if sys.platform != "win32":

    def _open(path: Path, beside: Path | None) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            # Not O_CREAT on what may be there: the kernel refuses that for another user's file in a shared directory.
            return os.open(path, flags)
        except FileNotFoundError:
            pass
        try:
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(path, flags)
        if beside is not None:
            os.fchmod(made, stat.S_IMODE(beside.stat().st_mode) & 0o666)
        return made

    def _check(path: Path, descriptor: int, beside: Path | None) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise _refused(path, "is no plain file of its own")
        ours = {0, os.geteuid()} | ({beside.stat().st_uid} if beside is not None else set())
        if status.st_uid not in ours:
            raise _refused(path, f"belongs to another user ({status.st_uid})")


def _refused(path: Path, what: str) -> BrokerRefused:
    return BrokerRefused(f"the lock file {path} {what}; expected a file of the database's owner: look at it, remove it")


class Gate:
    """Held around calls into SQLite by one user of it; a fork waits for all gates.

    Args:
        orphan: called in a forked child; closes inherited descriptors and returns what must never be
            touched again (closing an inherited connection could merge and delete the log of the parent).
    """

    def __init__(self, orphan: Callable[[], Any]) -> None:
        self.lock = threading.Lock()
        self.orphan = orphan


class ForkGate:
    """All gates of the process, registered with the interpreter once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held during a fork: of two threads that fork at once one waits, or neither would open the gates again."""
        self._gates: weakref.WeakSet[Gate] = weakref.WeakSet()
        self._closed: list[Gate] = []
        self._kept: list[Any] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._parent, after_in_child=self._child)

    def add(self, gate: Gate) -> None:
        """Watch over ``gate`` until it is removed or forgotten."""
        with self._lock:
            self._gates.add(gate)

    def remove(self, gate: Gate) -> None:
        """``gate`` is not used any more."""
        with self._lock:
            self._gates.discard(gate)

    def _before(self) -> None:
        self._lock.acquire()
        self._closed = list(self._gates)
        for gate in self._closed:
            gate.lock.acquire()

    def _parent(self) -> None:
        closed, self._closed = self._closed, []
        for gate in closed:
            gate.lock.release()
        self._lock.release()

    def _child(self) -> None:
        for gate in self._closed:
            self._kept.append(gate.orphan())
        self._parent()
