"""Running a command anew whenever a file changes: the command is a child process, ended as gently as by a signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from tranship._signals import heard
from tranship.cli._children import Children, Ended, ending

if TYPE_CHECKING:
    from tranship.cli._invocation import Invocation
    from tranship.cli._work import WorkerOptions

__all__ = ["changed", "keep_current", "snapshot"]

EVERY: Final = 0.5
"""Seconds between two looks at the files."""
MOST: Final = 20_000
"""Files that are looked at."""

Snapshot = Mapping[Path, tuple[int, int]]


def keep_current(call: Invocation, options: WorkerOptions, directories: Sequence[Path]) -> None:
    """Run ``tranship worker`` with ``options``, and anew when a Python file changes.

    Returns when a signal has ended it. A worker that ends by itself, as one with a mistake in its modules, is run
    again after the next change.

    Args:
        call: this run.
        options: what is run.
        directories: where files are looked for, with all below them.

    Raises:
        BadParameter: one of them is not there.
    """
    for one in directories:
        if not one.is_dir():
            raise typer.BadParameter(f"{str(one)!r} is no directory", param_hint="--reload-dir")
    children = Children(call, patience=call.settings(**options.settings).shutdown_timeout)
    Reloader(children, options, directories, call.output.note).run()


class Reloader:
    """One child at a time, and anew."""

    def __init__(
        self, children: Children, options: WorkerOptions, directories: Sequence[Path], note: Callable[..., None]
    ) -> None:
        self._children = children
        self._options = options
        self._directories = directories
        self._note = note

    def run(self) -> None:
        """Run until a signal, which the child is told, too; a second one as well."""
        with heard(self._children.heard):
            seen: Snapshot | None = snapshot(self._directories)
            where = ", ".join(map(str, self._directories))
            self._note(f"reloading when one of {len(seen or ())} Python files below {where} changes")
            while seen is not None:
                self._children.start(self._options)
                seen = self._until_changed(seen)

    def _until_changed(self, before: Snapshot) -> Snapshot | None:
        """End the child when a file has changed, and return what there is now; None: a signal ended it."""
        look_at = time.monotonic() + EVERY
        while True:
            event = self._children.next(look_at - time.monotonic())
            if isinstance(event, signal.Signals):
                self._children.end(event)
                return None
            if isinstance(event, Ended):
                said = f"the worker has ended ({ending(event.code)}); waiting for a change"
                self._note(said, style="yellow")
            if event is not None:
                continue
            now, look_at = snapshot(self._directories), time.monotonic() + EVERY
            if files := changed(before, now):
                self._note(f"{_some(files)} changed; the worker begins anew", style="yellow")
                return None if self._children.end() else now


def snapshot(directories: Sequence[Path]) -> Snapshot:
    """Return the Python files below ``directories``, with what changes when they do."""
    found: dict[Path, tuple[int, int]] = {}
    for path in (path for directory in directories for path in _files(directory)):
        try:
            status = path.stat()
        except OSError:
            continue
        found[path] = status.st_mtime_ns, status.st_size
        if len(found) >= MOST:
            break
    return found


def changed(before: Snapshot, now: Snapshot) -> list[Path]:
    """Return the files that are new, gone or not what they were."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def _files(directory: Path) -> Iterator[Path]:
    for where, below, names in os.walk(directory):
        # Neither what is hidden nor what is installed: nobody works there.
        below[:] = sorted(one for one in below if one[0] != "." and one not in ("__pycache__", "node_modules"))
        if "pyvenv.cfg" in names:
            below.clear()
            continue
        yield from (Path(where, name) for name in names if name.endswith(".py"))


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(os.path.relpath(path) for path in files[:3])
    return names if len(files) <= 3 else f"{names} and {len(files) - 3} more files"
