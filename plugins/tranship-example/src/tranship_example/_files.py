"""Files: names that every text fits into, and writes that others see as a whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

__all__ = ["file_name", "is_full", "names_in", "write"]

LONGEST = 200


def file_name(text: str) -> str:
    """Return a name for ``text``: readable, never hidden, never a path; a hash where it would be too long."""
    name = "=" + quote(text, safe="")
    return name if len(name) <= LONGEST else "#" + hashlib.sha256(text.encode()).hexdigest()


def names_in(directory: Path) -> list[str]:
    """Return the names of files that are whole, in order; none, where there is no such directory."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))  # noqa: PTH208 - names only
    except FileNotFoundError:
        return []


def write(path: Path, data: bytes) -> None:
    """Write a file that appears when it is complete."""
    part = path.with_name(f".{uuid4().hex}")
    try:
        part.write_bytes(data)
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_full(error: OSError) -> bool:
    """Whether there is no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
