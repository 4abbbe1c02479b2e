"""The database file: where it is, whether it may be used there, and whether it is still the one we opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tranship.errors import BrokerGone, BrokerRefused, InvalidURLError
from tranship.settings import BrokerURL, state_file

__all__ = ["Identity", "Location", "file_system", "locate", "refuse_network"]

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
