"""Files of a task: those that its arguments name are fetched, those that its handler returns are kept."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path, PurePath
from typing import Any

from tranship_objectstore._cache import Cache
from tranship_objectstore._directories import TaskDirectory
from tranship_objectstore._errors import ObjectNotFound, ObjectRefused, PathOutsideDirectory
from tranship_objectstore._location import Location, location_of, uri_in
from tranship_objectstore._store import Found, ObjectStore, together
from tranship_objectstore._values import replaced

__all__ = ["Fetching", "Keeping"]

Fetch = Callable[[Found, Path], Any]
Turn = Callable[[], AbstractAsyncContextManager[Any]]


class Fetching:
    """Downloads what arguments name.

    Args:
        store: where it is.
        prefixes: what a URI begins with that is downloaded; any other text stays as it is.
        largest: bytes of one file, or of all files of a folder; None: no limit.
        turn: what a transfer waits for, so that only some go on at once.
        cache: of files that were downloaded before; None: there is none.
    """

    def __init__(
        self, store: ObjectStore, prefixes: Sequence[str], largest: int | None, turn: Turn, cache: Cache | None
    ) -> None:
        self._cache = cache
        self._store = store
        self._prefixes = tuple(prefixes)
        self._largest = largest
        self._turn = turn

    async def fetch(self, value: Any, directory: TaskDirectory) -> Any:
        """Return ``value`` with paths in place of the URIs in it.

        Raises:
            ObjectStoreError: one of them cannot be had.
        """
        wanted: dict[str, Path] = {}
        paths: set[str] = set()
        replaced(value, lambda leaf: self._note(leaf, wanted, paths))
        if not wanted:
            return value
        places = {uri: location_of(uri) for uri in wanted}
        for uri, location in places.items():
            wanted[uri] = await asyncio.to_thread(directory.place, location.name or "files")
            # Taken, so that another file of this name goes elsewhere.
            await asyncio.to_thread(wanted[uri].mkdir if location.is_folder else wanted[uri].touch)
        await together(
            (self._fetch_either if uri in paths else self._fetch)(location, wanted[uri])
            for uri, location in places.items()
        )
        return replaced(value, lambda leaf: _path_of(leaf, wanted))

    def _note(self, leaf: str | PurePath, wanted: dict[str, Path], paths: set[str]) -> Any:
        uri = uri_in(leaf)
        if uri.startswith(self._prefixes):
            wanted[uri] = Path()
            if isinstance(leaf, PurePath):
                paths.add(uri)
        return leaf

    async def _fetch_either(self, location: Location, path: Path) -> None:
        """Fetch the file, or else the folder: a path that was made of a URI has lost the slash at its end."""
        try:
            await self._fetch(location, path)
        except ObjectNotFound:
            await asyncio.to_thread(_make_folder, path)
            await self._fetch(location.as_folder(), path)
            if not await asyncio.to_thread(lambda: any(path.iterdir())):
                raise

    async def _fetch(self, location: Location, path: Path) -> None:
        if location.is_folder:
            await self._folder(location, path)
            return
        async with self._turn():
            found = await self._store.find(location)
            self._check(location, found.size)
            if self._cache is None:
                await self._store.download(found, path)
            else:
                await self._cache.fetch(found, path, self._store.download)

    async def _folder(self, folder: Location, path: Path) -> None:
        """One after the other: several folders and files are fetched at once as it is."""
        total = 0
        async with self._turn():
            async for found in self._store.below(folder):
                total += found.size
                self._check(folder, total)
                target = path.joinpath(*_parts(folder, found.location))
                await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
                await self._store.download(found, target)

    def _check(self, location: Location, size: int) -> None:
        if self._largest is not None and size > self._largest:
            raise ObjectRefused(f"{location.uri} has {size} bytes; expected at most {self._largest} (max_file_size)")


class Keeping:
    """Uploads what handlers return.

    Args:
        store: where to.
        others: directories besides the task's own of which files are taken.
        turn: as for :class:`Fetching`.
    """

    def __init__(self, store: ObjectStore, others: Iterable[str | os.PathLike[str]], turn: Turn) -> None:
        self._store = store
        self._others = [Path(one) for one in others]
        self._turn = turn

    async def keep(self, value: Any, directory: TaskDirectory, folder: Location) -> Any:
        """Return ``value`` with URIs below ``folder`` in place of the paths in it.

        Raises:
            PathOutsideDirectory: one of the paths leaves the directory.
            ObjectStoreError: a file cannot be kept.
        """
        roots = self._roots(directory)
        found: dict[str | PurePath, Path] = {}
        replaced(value, lambda leaf: _note_path(leaf, roots, found))
        if not found:
            return value
        folder = folder.under(secrets.token_hex(4))
        uris = {leaf: await self._kept(path, roots, folder) for leaf, path in found.items()}
        return replaced(value, lambda leaf: uris.get(leaf, leaf))

    def _roots(self, directory: TaskDirectory) -> Mapping[Path, Path]:
        """Directories that files are taken of, each with where it really is; the task's own comes first."""
        own = [] if directory.made is None else [directory.made]
        return {path.absolute(): path.resolve() for path in (*own, *self._others)}

    async def _kept(self, path: Path, roots: Mapping[Path, Path], folder: Location) -> str:
        """Return the URI under which the file, or the directory, is kept."""
        target = folder.under(*_relative(path, roots))
        if not await asyncio.to_thread(path.is_dir):
            async with self._turn():
                await self._store.upload(target, path)
            return target.uri
        files = await asyncio.to_thread(lambda: list(_files_below(path, roots)))
        await together(self._put(target.under(*file.relative_to(path).parts), file) for file in files)
        return f"{target.uri}/"

    async def _put(self, target: Location, file: Path) -> None:
        async with self._turn():
            await self._store.upload(target, file)


def _make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(exist_ok=True)


def _path_of(leaf: str | PurePath, fetched: Mapping[str, Path]) -> Any:
    path = fetched.get(uri_in(leaf))
    if path is None:
        return leaf
    return path if isinstance(leaf, PurePath) else str(path)


def _parts(folder: Location, file: Location) -> Sequence[str]:
    parts = file.key[len(folder.key) :].split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ObjectRefused(f"{file.uri} has an empty part, '.' or '..' in its key; it cannot become a file")
    return parts


def _note_path(leaf: str | PurePath, roots: Mapping[Path, Path], found: dict[str | PurePath, Path]) -> Any:
    path = _returned(leaf, roots)
    if path is not None:
        found[leaf] = path
    return leaf


def _returned(leaf: str | PurePath, roots: Mapping[Path, Path]) -> Path | None:
    """Return the file that a handler means; None: it means none.

    A path always means a file, a text only when it begins with one of the directories and the file is there.
    """
    if isinstance(leaf, str):
        if not leaf.startswith(os.sep) or not any(_is_text_below(leaf, one) for one in roots) or "\0" in leaf:
            return None
        path = Path(leaf)
    else:
        path = next(iter(roots), Path.cwd()) / leaf
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in roots.values()):
        raise PathOutsideDirectory(
            f"the handler returned {str(leaf)!r}, which leaves the task's directory; "
            "return files of task_directory() only"
        )
    if real.is_file() or real.is_dir():
        return real
    if isinstance(leaf, str):
        return None
    raise ObjectRefused(f"the handler returned {str(leaf)!r}, which is no file; write it before you return it")


def _is_text_below(text: str, directory: Path) -> bool:
    return text == str(directory) or text.startswith(f"{directory}{os.sep}")


def _relative(path: Path, roots: Mapping[Path, Path]) -> Sequence[str]:
    """The parts of the path in its directory; of another one than the first, with its number."""
    for number, root in enumerate(roots.values()):
        if path.is_relative_to(root):
            parts = path.relative_to(root).parts
            return [str(number), *parts] if number else (parts or ("files",))
    raise AssertionError(path)  # it was looked at before


def _files_below(directory: Path, roots: Mapping[Path, Path]) -> Iterator[Path]:
    for place, _, names in os.walk(directory):
        for name in names:
            real = (Path(place) / name).resolve()
            if not any(real.is_relative_to(root) for root in roots.values()):
                raise PathOutsideDirectory(
                    f"{place}/{name} leads out of the task's directory; return files of task_directory() only"
                )
            if real.is_file():
                yield Path(place) / name
