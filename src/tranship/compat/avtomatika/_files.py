"""A directory for the files of one task."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from tranship.compat.avtomatika._identifiers import is_valid_identifier
from tranship.errors import UnsupportedError

__all__ = ["TaskFiles", "folder_of"]


def folder_of(base: str, task_id: str) -> str:
    """Return where the files of a task belong: below ``base``, whatever its id looks like, which clients may choose."""
    name = task_id if is_valid_identifier(task_id) else hashlib.sha256(task_id.encode()).hexdigest()
    return str(Path(base) / name)


class AsyncFile:
    """An open file whose methods are awaited; each runs in a thread.

    Args:
        file: open.
    """

    def __init__(self, file: IO[Any]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(asyncio.to_thread, getattr(self._file, name))

    def __aiter__(self) -> AsyncFile:
        return self

    async def __anext__(self) -> Any:
        line = await asyncio.to_thread(self._file.readline)
        if not line:
            raise StopAsyncIteration
        return line


class TaskFiles:
    """The files of one task, in a directory that is made when it is first needed and removed after the task.

    A handler gets it by annotating a parameter: ``async def handler(params: dict, files: TaskFiles)``.

    Args:
        task_dir: the directory.
        job_id, task_id: whose files they are.
        s3_manager, observability: not supported; None.

    Raises:
        UnsupportedError: one of these was given.
    """

    def __init__(
        self,
        task_dir: str,
        job_id: str = "",
        task_id: str = "",
        s3_manager: None = None,
        observability: None = None,
    ) -> None:
        if s3_manager is not None or observability is not None:
            raise UnsupportedError("TaskFiles takes no s3_manager and no observability here; leave them out")
        self._task_dir = Path(task_dir)
        self._job_id = job_id
        self._task_id = task_id

    def get_root_sync(self) -> str:
        """Return the directory, which exists then."""
        self._task_dir.mkdir(parents=True, exist_ok=True)
        return str(self._task_dir)

    def path_to_sync(self, filename: str) -> str:
        """Return the absolute path of a file in the directory, which exists then.

        Raises:
            PermissionError: it would be outside.
        """
        root = Path(self.get_root_sync()).resolve()
        path = (root / filename).resolve()
        if not path.is_relative_to(root):
            raise PermissionError(f"{filename!r} is outside of the directory of task {self._task_id!r}")
        return str(path)

    async def get_root(self) -> str:
        """As :meth:`get_root_sync`, awaited."""
        return await asyncio.to_thread(self.get_root_sync)

    async def path_to(self, filename: str) -> str:
        """As :meth:`path_to_sync`, awaited."""
        return await asyncio.to_thread(self.path_to_sync, filename)

    @asynccontextmanager
    async def open(self, filename: str, mode: str = "r") -> AsyncIterator[AsyncFile]:
        """Open a file as the built-in ``open`` does; its methods are awaited. Directories on the way are made."""
        file = await asyncio.to_thread(self._open, filename, mode)
        try:
            yield AsyncFile(file)
        finally:
            await asyncio.to_thread(file.close)

    def _open(self, filename: str, mode: str) -> IO[Any]:
        path = Path(self.path_to_sync(filename))
        path.parent.mkdir(parents=True, exist_ok=True)
        opened: IO[Any] = path.open(mode)
        return opened

    async def read(self, filename: str, mode: str = "r") -> Any:
        """Return all of a file: text, or bytes with mode ``"rb"``."""
        async with self.open(filename, mode) as file:
            return await file.read()

    async def write(self, filename: str, data: str | bytes, mode: str = "w") -> None:
        """Write a file; bytes with mode ``"w"`` are written as they are."""
        async with self.open(filename, f"{mode}b" if isinstance(data, bytes) and "b" not in mode else mode) as file:
            await file.write(data)

    async def write_json(self, filename: str, data: Any) -> None:
        """Write data as JSON."""
        await self.write(filename, json.dumps(data, indent=2))

    async def read_json(self, filename: str) -> Any:
        """Return what a file with JSON says."""
        return json.loads(await self.read(filename))

    async def list(self) -> list[str]:
        """Return the names in the directory."""
        root = Path(await self.get_root())
        return await asyncio.to_thread(lambda: sorted(one.name for one in root.iterdir()))

    async def exists(self, filename: str) -> bool:
        """Whether there is such a file or directory."""
        path = await self.path_to(filename)
        return await asyncio.to_thread(Path(path).exists)

    async def upload_file(self, filename: str) -> str:
        """Not supported yet.

        Raises:
            UnsupportedError: always.
        """
        raise _no_store(f"upload {filename!r}")

    async def upload_dir(self, dirname: str = "") -> str:
        """Not supported yet.

        Raises:
            UnsupportedError: always.
        """
        raise _no_store(f"upload {dirname!r}")

    async def download_file(self, uri: str, filename: str, verify_meta: Any = None) -> str:  # noqa: ARG002
        """Not supported yet.

        Raises:
            UnsupportedError: always.
        """
        raise _no_store(f"download {uri!r}")

    def remove(self) -> None:
        """Remove the directory and what is in it; called when the task has ended."""
        shutil.rmtree(self._task_dir, ignore_errors=True)

    def __repr__(self) -> str:
        return f"<TaskFiles {self._task_dir}>"


def _no_store(what: str) -> UnsupportedError:
    return UnsupportedError(f"cannot {what}: object stores (S3) are not supported yet; use a client of the store's own")
