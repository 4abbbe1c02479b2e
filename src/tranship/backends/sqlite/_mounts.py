"""Which file system a path is on, read from the mount table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["NETWORK", "file_system", "mount_table"]

NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"smb", "smb2", "smb3", "smbfs"}
)
"""File systems whose locks and shared memory do not reach across their hosts."""


def mount_table() -> str:
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
