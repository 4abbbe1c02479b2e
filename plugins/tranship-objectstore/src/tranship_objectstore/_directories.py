"""A directory for each task, gone when the task has ended, and at the next start where its worker was killed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import threading
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from tranship.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

__all__ = ["Directories", "TaskDirectory", "entered", "task_directory"]

log = logging.getLogger("tranship.objectstore")

_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9_.-]")
_NAME: Final = 60
"""Characters of a task's id in names of files."""


class TaskDirectory:
    """The directory of one attempt of one task; made when somebody asks for its path.

    Args:
        directories: where it is made.
        task_id: whose it is.
    """

    def __init__(self, directories: Directories, task_id: str) -> None:
        self._directories = directories
        self._task_id = task_id
        self._path: Path | None = None
        self._lock = threading.Lock()

    @property
    def made(self) -> Path | None:
        """Its path; None: nobody has asked for it."""
        return self._path

    def path(self) -> Path:
        """Return its path, with all links resolved. Any thread."""
        with self._lock:
            if self._path is None:
                self._path = self._directories.make(plain_name(self._task_id))
            return self._path

    def place(self, name: str) -> Path:
        """Return a path in it for a file called ``name``, in a directory of its own where there is one of that name."""
        path = self.path() / _short_name(name)
        number = 1
        while path.exists():
            number += 1
            path = self.path() / str(number) / path.name
        path.parent.mkdir(exist_ok=True)
        return path

    def remove(self) -> None:
        """Remove it with everything in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)


class Directories:
    """Where the directories of one process's tasks are.

    ``<root>/run-<process>-<random>/`` belongs to a process as long as that holds a lock on the file beside it, with
    ``.lock`` at its end. The system gives the lock back however the process ends, and the next process that starts here
    removes what is left behind. Without such locks (Windows) nothing is removed.

    Args:
        root: None: a directory of this user's in the system's directory for temporary files.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self._root = None if root is None else Path(root)
        self._mine: tuple[int, Path] | None = None
        self._made = 0
        self._lock = threading.Lock()

    def make(self, name: str) -> Path:
        """Return a new directory whose name holds ``name``. The first one removes what killed processes have left.

        Raises:
            ConfigurationError: the root is somebody else's.
            OSError: no directory can be made there.
        """
        with self._lock:
            # A process that was forked off has no lock of its own.
            if self._mine is None or self._mine[0] != os.getpid():
                self._mine = os.getpid(), self._begin()
            self._made += 1
            path = self._mine[1] / f"{self._made}-{name}"
            path.mkdir(mode=0o700, parents=True)
            return path

    def shared(self, name: str) -> Path:
        """Return the directory ``name`` that all processes here share."""
        path = self._where() / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _where(self) -> Path:
        root = self._own_root() if self._root is None else self._root
        root.mkdir(parents=True, exist_ok=True)
        return root.resolve()

    def _begin(self) -> Path:
        root = self._where()
        clean(root)
        mine = root / f"run-{os.getpid()}-{secrets.token_hex(4)}"
        lock = _locked(mine)
        mine.mkdir(mode=0o700)
        weakref.finalize(self, _end, os.getpid(), mine, lock)
        return mine

    def _own_root(self) -> Path:
        uid = os.getuid() if hasattr(os, "getuid") else 0
        root = Path(tempfile.gettempdir()) / f"tranship-payloads-{uid}"
        root.mkdir(mode=0o700, exist_ok=True)
        # Anybody may make files there.
        if root.is_symlink() or (hasattr(os, "getuid") and root.stat().st_uid != uid):
            raise ConfigurationError(f"{root} belongs to somebody else; give directory=... a place of your own")
        return root


def clean(root: Path) -> None:
    """Remove what processes that have ended left behind in ``root``."""
    for path in root.glob("run-*.lock"):
        with contextlib.suppress(OSError), path.open("r+b") as lock:
            if _try_lock(lock.fileno()):
                left = path.with_suffix("")
                if left.exists():
                    log.info("removing %s, which a process that has ended left behind", left)
                shutil.rmtree(left, ignore_errors=True)
                path.unlink(missing_ok=True)


_CURRENT: ContextVar[TaskDirectory | None] = ContextVar("tranship_objectstore_directory", default=None)


@contextlib.contextmanager
def entered(directory: TaskDirectory) -> Any:
    """Make ``directory`` the current one."""
    token = _CURRENT.set(directory)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def task_directory() -> Path:
    """Return the directory of the task that is running here; it is made at the first call, and removed with everything
    in it when the attempt has ended.

    Raises:
        ConfigurationError: no task is running here, its worker has no :class:`LargePayloads`, or it runs in a
            process of its own.
    """
    directory = _CURRENT.get()
    if directory is None:
        raise ConfigurationError(
            "there is no task's directory here; call task_directory() inside a task of a worker with "
            "middleware=[LargePayloads(...)]; a task with isolation='process' uses the directory of a file it was given"
        )
    return directory.path()


def plain_name(name: str) -> str:
    """Return ``name`` as every file system and every store takes it."""
    return _UNUSUAL.sub("_", name)[:_NAME].lstrip(".") or "_"


def _short_name(name: str) -> str:
    """Return ``name`` with at most 200 bytes; its suffix stays."""
    encoded = name.encode()
    if len(encoded) <= 200:
        return name
    suffix = Path(name).suffix[-20:]
    return encoded[: 200 - len(suffix.encode())].decode(errors="ignore") + suffix


def _locked(directory: Path) -> int | None:
    if sys.platform == "win32":
        return None
    # Under its own name it is never without its lock.
    new = directory.with_name(f"{directory.name}.lock.new")
    lock = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(directory.with_name(f"{directory.name}.lock"))
    return lock


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _end(process: int, directory: Path, lock: int | None) -> None:
    if process != os.getpid():
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.with_name(f"{directory.name}.lock").unlink(missing_ok=True)
    if lock is not None:
        os.close(lock)
