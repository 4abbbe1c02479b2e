"""kombu's transport of files, on the same files, without what it loses.

kombu writes a message under its final name, so that a reader may find half of it; and it deletes what it takes, so
that it is lost with a worker that is killed. Here a message appears when it is whole, and what is taken is moved into
``held``, where its worker has a lock on it: the lock goes with the worker, and the next one that looks puts the file
back. Celery's processes on the same directory neither notice nor mind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any, Final

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

from tranship_kombu._held import Gone

__all__ = ["Transport"]

log = logging.getLogger("tranship.kombu")

_HELD: Final = "held"
_UNREADABLE: Final = ".unreadable"
_LOOK: Final = 1.0
"""Seconds between two looks for what was held by who is dead."""


class _File:
    """A message's file that we have, with the lock on it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self._descriptor = path, descriptor

    @classmethod
    def locked(cls, path: Path) -> _File | None:
        """Open a file and lock it; None: somebody else has it, it is gone, or is being written."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        file = cls(path, descriptor)
        if file._lock():
            return file
        file.close()
        return None

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been moved before it was locked; and who writes it may not have locked it yet.
            here, there = os.fstat(self._descriptor), self.path.stat()
        except OSError:
            return False
        return here.st_ino == there.st_ino and here.st_size > 0

    def read(self) -> bytes:
        """Return what is in it."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            return file.read()

    def move(self, path: Path) -> bool:
        """Give it another name; False: it is gone."""
        try:
            self.path.rename(path)
        except FileNotFoundError:
            return False
        self.path = path
        return True

    def remove(self) -> bool:
        """Delete it; False: it is gone."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """Leave it to others."""
        os.close(self._descriptor)


class Channel(filesystem.Channel):  # type: ignore[misc]  # kombu has no types
    """Messages are files; see :class:`kombu.transport.filesystem.Channel`."""

    def __init__(self, connection: Any, **arguments: Any) -> None:
        super().__init__(connection, **arguments)
        self._files: dict[str, _File] = {}
        self._looked = 0.0

    def open_folders(self) -> None:
        """Make the directories that are missing."""
        for folder in {Path(self.data_folder_in), Path(self.data_folder_out), self._held}:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def _held(self) -> Path:
        return Path(self.data_folder_in) / _HELD

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        part = folder / f".{uuid.uuid4().hex}"
        try:
            part.write_bytes(dumps(payload).encode())
            part.rename(folder / f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg")
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def _get(self, queue: str, **_: Any) -> Any:
        for file in self._free(queue):
            if not file.move(self._held / file.path.name):
                file.close()
                continue
            with self._closing_on_error(file):
                payload = self._payload(file)
            if payload is not None:
                self._files[payload["properties"]["delivery_tag"]] = file
                return payload
        self._put_back_what_is_nobodys()
        raise Empty

    def _free(self, queue: str) -> Iterator[_File]:
        folder, ending = Path(self.data_folder_in), f"{queue}.msg"
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names only
            if name.partition(".")[2] == ending and (file := _File.locked(folder / name)) is not None:
                yield file

    def _payload(self, file: _File) -> Any:
        """Return the message in a file; None: there is none, and the file is put aside."""
        try:
            payload = loads(file.read().decode())
            str(payload["properties"]["delivery_tag"]), payload["properties"]["delivery_info"]["routing_key"]
        except (ValueError, LookupError, TypeError) as error:
            aside = file.path.with_name(file.path.name + _UNREADABLE)
            file.move(aside)
            file.close()
            log.warning("a file holds no message (%r) and was put aside: %s", error, aside)
            return None
        return payload

    @contextlib.contextmanager
    def _closing_on_error(self, file: _File) -> Iterator[None]:
        try:
            yield
        except BaseException:
            file.close()
            raise

    def _put_back_what_is_nobodys(self) -> None:
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        for name in os.listdir(self._held):  # noqa: PTH208 - names only
            if not name.endswith(_UNREADABLE) and (file := _File.locked(self._held / name)) is not None:
                file.move(Path(self.data_folder_in) / name)
                file.close()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Delete a message's file.

        Raises:
            Gone: it is not ours any more.
        """
        self._end(delivery_tag, _File.remove)
        super().basic_ack(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Delete it, or move it back.

        Raises:
            Gone: it is not ours any more.
        """
        folder = Path(self.data_folder_in)
        self._end(delivery_tag, (lambda file: file.move(folder / file.path.name)) if requeue else _File.remove)
        super().basic_ack(delivery_tag)

    def _end(self, delivery_tag: str, end: Any) -> None:
        file = self._files.get(delivery_tag)
        if file is None or not end(file):
            raise Gone(delivery_tag)
        del self._files[delivery_tag]
        file.close()

    def close(self) -> None:
        """Put back what is held, and close."""
        self.do_restore = False
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.move(Path(self.data_folder_in) / file.path.name)
            file.close()
        self._files.clear()
        super().close()


class Transport(filesystem.Transport):  # type: ignore[misc]  # kombu has no types
    """kombu's, with our channel."""

    Channel = Channel
